"""Ours beside adv-lib, foolbox, torchattacks and ART: same network, images, steps and restarts, in one run.

    pip install --no-deps adv-lib torchattacks adversarial-robustness-toolbox   # and scikit-learn, tqdm, six, requests
    python benchmarks/attacks.py [RUN [IMAGES [STEPS [RESTARTS]]]] [--device cuda]

RUN is a folder that `bpfc train fashion-mnist-bpfc` left (the one in results/ unless given); 24 images, 1,000 steps
and 5 restarts unless given. A library that is not installed is said to be so. Seconds of one core's work (of the CPU,
which neighbours do not change; on a GPU of the clock), forwards and backwards (images through the network), robust
accuracy judged alike for all; for DeepFool and Carlini-Wagner (50 steps, 9 searches where the library searches) the
median distance, a failure counting as infinitely far.

Of peak: the arithmetic of these passes, in convolutions and linear layers, over what a 3000 × 3000 product in float32
does in the same seconds, measured at the start. Ours runs in bfloat16 too where `--precision
auto` would choose it.

Aims, on 128 images: no higher robust accuracy than the fastest of the others, and at least 5 times its speed at
PGD-1000 × 5; at PGD-100 × 5 1.5 times in float32 and 3 times in bfloat16 where that is fast; 2 times adv-lib's APGD.
Which of them are met, and on how many images, stands in docs/evaluate.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import tyro
from common import adv_lib, clock, counted, operations, peak_operations, print_machine, standing, warm_up
from torch import Tensor, nn

from bpfc.attacks import CarliniWagner, DeepFool, ImageRng
from bpfc.attacks.base import check_count
from bpfc.data import load, to_float
from bpfc.errors import UserError
from bpfc.evaluation import Block, Context, ThreatModel, parse, run_block
from bpfc.machine import pick_device, resolve
from bpfc.options import Arithmetic, Device
from bpfc.training.run import Run

APGD_STEPS, TARGETS = 100, 9
CW_STEPS, SEARCHES = 50, 9

Attack = Callable[[Tensor, Tensor], Tensor]
"""From images and labels to what was found; NaN where nothing was."""
Variants = dict[str, Callable[[], Attack]]
"""By the name that is shown, what makes the attack; it raises ImportError where its library is not installed."""


@dataclass(frozen=True)
class Options:
    """What to measure; see above."""

    run: tyro.conf.Positional[Path] = Path(__file__).parent.parent / "results" / "fashion-mnist-bpfc"
    images: tyro.conf.Positional[int] = 24
    steps: tyro.conf.Positional[int] = 1000
    restarts: tyro.conf.Positional[int] = 5
    device: Device = "cpu"


@dataclass
class Bench:
    """A network, images, and how much arithmetic goes into a pass and fits into a second."""

    model: nn.Module
    images: Tensor
    labels: Tensor
    eps: float
    step_size: float

    def __post_init__(self) -> None:
        self.forwards, self.backwards = operations(self.model, self.images[:1])
        self.peak = peak_operations(self.images.device)
        warm_up(self.model, self.images)

    def measured(self, attack: Attack, images: Tensor, labels: Tensor) -> tuple[Tensor, str]:
        """What the attack finds, and what it took."""
        with counted(self.model) as passes:
            started = clock(images.device)
            found = attack(images, labels).detach()
            seconds = clock(images.device) - started
        work = passes.forwards * self.forwards + passes.backwards * self.backwards
        told = f"{seconds:7.1f} s, {passes.forwards:8,} forwards, {passes.backwards:8,} backwards"
        return found, f"{told}, {work / seconds / self.peak:4.0%} of peak"

    def within(self, variants: Variants) -> None:
        """Runs each within ε, and says what stands."""

        def verdict(images: Tensor, labels: Tensor, found: Tensor) -> str:
            return f"robust {standing(self.model, images, labels, found, self.eps).float().mean():.1%}"

        self.run(variants, self.images, self.labels, verdict)

    def run(
        self, variants: Variants, images: Tensor, labels: Tensor, verdict: Callable[[Tensor, Tensor, Tensor], str]
    ) -> None:
        for name, make in variants.items():
            try:
                attack = make()
            except ImportError as error:
                print(f"  {name:14} not installed ({error})", flush=True)
                continue
            found, told = self.measured(attack, images, labels)
            print(f"  {name:14} {told}, {verdict(images, labels, found)}", flush=True)

    def ours(self, names: str) -> Variants:
        """Our attacks, each on what those before it left, in float32 and, where that is faster here, in bfloat16."""

        def make(precision: Arithmetic) -> Attack:
            context = Context(ThreatModel("linf", self.eps), self.images.shape[1], step_size=self.step_size)
            plan = parse(names, context, cascade=True, precision=precision)

            def attack(images: Tensor, labels: Tensor) -> Tensor:
                found = torch.full_like(images, torch.nan)

                def keep(place: int, adversary: Tensor) -> None:
                    found[place] = adversary

                run_block(self.model, Block(list(range(len(images))), images, labels), plan, adversary=keep)
                return found

            return attack

        variants: Variants = {"ours": lambda: make("fp32")}
        if resolve("auto", self.images.device) == "bf16":
            variants["ours, bfloat16"] = lambda: make("bf16")
        return variants

    def boxed(self) -> Any:
        import foolbox

        return foolbox.PyTorchModel(self.model, bounds=(0, 1), device=self.images.device)


def main(options: Options) -> None:
    torch.set_num_threads(1)
    print_machine(options.device)
    device, run = pick_device(options.device), Run(options.run)
    count, steps, restarts = options.images, options.steps, options.restarts
    check_count(images=count, steps=steps, restarts=restarts)
    recipe, data = run.recipe(), load("fashion-mnist")
    images = to_float(data.test.pixels[:count]).contiguous(memory_format=torch.channels_last).to(device)
    labels = data.test.labels[:count].to(device)
    bench = Bench(run.model(data).to(device), images, labels, recipe.eps, recipe.step_size)
    print(f"peak: {bench.peak / 1e9:.0f} · 10⁹ operations a second on one {'core' if device.type == 'cpu' else 'GPU'}")
    print(f"PGD-{steps}, {restarts} restarts, {count} images, ε {recipe.eps}")
    bench.within(pgd(bench, steps, restarts))
    print(f"APGD on cross-entropy, then towards {TARGETS} classes, {APGD_STEPS} steps, {count} images, ε {recipe.eps}")
    bench.within(apgd(bench))
    with torch.no_grad():
        right = bench.model(images).argmax(1) == labels
    for name, variants in (("DeepFool ℓ2", deepfool(bench)), ("Carlini-Wagner", carlini_wagner(bench))):
        print(f"{name}, {int(right.sum())} images")
        bench.run(variants, images[right], labels[right], lambda *given: distance(bench.model, *given))


def pgd(bench: Bench, steps: int, restarts: int) -> Variants:
    model, eps, step_size = bench.model, bench.eps, bench.step_size

    def by_adv_lib() -> Attack:
        library = imported_adv_lib()
        settings = {"steps": steps, "restarts": restarts, "absolute_step_size": step_size}
        return lambda x, y: library.pgd_linf(model, x, y, eps, **settings)

    def by_foolbox() -> Attack:
        import foolbox

        attack = foolbox.attacks.LinfPGD(abs_stepsize=step_size, steps=steps, random_start=True).repeat(restarts)
        return lambda x, y: attack(bench.boxed(), x, y, epsilons=eps)[1]

    def by_torchattacks() -> Attack:
        import torchattacks

        runs = [torchattacks.PGD(model, eps=eps, alpha=step_size, steps=steps) for _ in range(restarts)]
        return torchattacks.MultiAttack(runs) if restarts > 1 else runs[0]

    def by_art() -> Attack:
        from art.attacks.evasion import ProjectedGradientDescentPyTorch
        from art.estimators.classification import PyTorchClassifier

        shape = tuple(bench.images.shape[1:])
        device = bench.images.device
        estimator = PyTorchClassifier(
            Whole(model),
            loss=nn.CrossEntropyLoss(),
            input_shape=shape,
            nb_classes=10,
            clip_values=(0, 1),
            device_type="cpu" if device.type == "cpu" else "gpu",
        )
        attack = ProjectedGradientDescentPyTorch(
            estimator,
            eps=eps,
            eps_step=step_size,
            max_iter=steps,
            num_random_init=restarts,
            batch_size=256,
            verbose=False,
        )
        return lambda x, y: torch.from_numpy(attack.generate(x.cpu().numpy(), y.cpu().numpy())).to(device)

    return {
        **bench.ours(f"pgd-{steps}x{restarts}"),
        "adv-lib": by_adv_lib,
        "foolbox": by_foolbox,
        "torchattacks": by_torchattacks,
        "ART": by_art,
    }


class Whole(nn.Module):
    """A model that ART calls as one: of a Sequential it calls the layers, past the hook that counts."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Any:
        return self.model(images)


def imported_adv_lib() -> ModuleType:
    library = adv_lib()
    if library is None:
        raise ImportError("No module named 'adv_lib'")
    return library


def apgd(bench: Bench) -> Variants:
    """Foolbox has none, and ART's aims at no class in turn."""
    model, eps = bench.model, bench.eps

    def by_adv_lib() -> Attack:
        library = imported_adv_lib()

        def attack(images: Tensor, labels: Tensor) -> Tensor:
            found = library.apgd(model, images, labels, eps, float("inf"), loss_function="ce", n_iter=APGD_STEPS)
            with torch.no_grad():
                left = torch.nonzero(model(found).argmax(dim=1) == labels)[:, 0]
            if len(left):
                found[left] = library.apgd_targeted(
                    model, images[left], labels[left], eps, float("inf"), n_iter=APGD_STEPS, num_targets=TARGETS
                )
            return found

        return attack

    def by_torchattacks() -> Attack:
        import torchattacks

        parts = [
            torchattacks.APGD(model, eps=eps, steps=APGD_STEPS, loss="ce"),
            torchattacks.APGDT(model, eps=eps, steps=APGD_STEPS, n_classes=TARGETS + 1),
        ]
        return torchattacks.MultiAttack(parts)

    return {
        **bench.ours(f"apgd-{APGD_STEPS},apgd-t-{APGD_STEPS}"),
        "adv-lib": by_adv_lib,
        "torchattacks": by_torchattacks,
    }


def deepfool(bench: Bench) -> Variants:
    def by_foolbox() -> Attack:
        import foolbox

        return lambda x, y: foolbox.attacks.L2DeepFoolAttack()(bench.boxed(), x, y, epsilons=None)[1]

    def by_torchattacks() -> Attack:
        import torchattacks

        return torchattacks.DeepFool(bench.model)

    def ours() -> Attack:
        return lambda x, y: DeepFool("l2")(bench.model, x, y, ImageRng(0, range(len(x))))

    return {
        "ours": ours,
        "foolbox": by_foolbox,
        "torchattacks": by_torchattacks,
    }


def carlini_wagner(bench: Bench) -> Variants:
    def by_foolbox() -> Attack:
        import foolbox

        attack = foolbox.attacks.L2CarliniWagnerAttack(SEARCHES, CW_STEPS)
        return lambda x, y: attack(bench.boxed(), x, y, epsilons=None)[1]

    def by_torchattacks() -> Attack:
        import torchattacks

        return torchattacks.CW(bench.model, steps=CW_STEPS * SEARCHES)

    def ours() -> Attack:
        return lambda x, y: CarliniWagner(CW_STEPS, SEARCHES)(bench.model, x, y, ImageRng(0, range(len(x))))

    return {
        "ours": ours,
        "foolbox": by_foolbox,
        "torchattacks": by_torchattacks,
    }


def distance(model: nn.Module, images: Tensor, labels: Tensor, found: Tensor) -> str:
    """The median, a failure infinitely far, and the share of failures."""
    with torch.no_grad():
        failed = found.flatten(1).isnan().any(1) | (model(found.nan_to_num()).argmax(1) == labels)
    distances = (found - images).flatten(1).norm(dim=1)
    median = distances.masked_fill(failed, torch.inf).quantile(0.5, interpolation="nearest").item()
    return f"median ℓ2 {median:.4f}, failed {failed.float().mean():.1%}"


if __name__ == "__main__":
    try:
        main(tyro.cli(Options, description=__doc__))
    except (UserError, OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error

"""Ours beside foolbox, torchattacks and ART: same network, images, steps and restarts, in one run.

    pip install --no-deps torchattacks adversarial-robustness-toolbox   # and scikit-learn, tqdm, six, requests
    python benchmarks/attacks.py [RUN [IMAGES [STEPS [RESTARTS]]]]

RUN is a folder that `bpfc train fashion-mnist-bpfc` left (the one in results/ unless given); 24 images, 1,000 steps
and 5 restarts unless given. Seconds, forwards and backwards (images through the network), robust accuracy judged
alike for all; for DeepFool and Carlini-Wagner (50 steps, 9 searches where the library searches) the median distance,
a failure counting as infinitely far. Target: PGD at least 5 times as fast as the fastest of the others, robust
accuracy no higher.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import foolbox
import torch
import torchattacks
from art.attacks.evasion import ProjectedGradientDescentPyTorch
from art.estimators.classification import PyTorchClassifier
from common import Counted, print_machine
from torch import Tensor, nn

import bpfc
from bpfc.attacks import CarliniWagner, DeepFool, ImageRng
from bpfc.data import load, to_float
from bpfc.training.run import Run

CW_STEPS = 50
SEARCHES = 9


def main() -> None:
    print_machine()
    arguments = sys.argv[1:]
    run = Path(arguments[0] if arguments else Path(__file__).parent.parent / "results" / "fashion-mnist-bpfc")
    count, steps, restarts = _numbers()
    recipe, data = Run(run).recipe(), load("fashion-mnist")
    images, labels = to_float(data.test.pixels[:count]), data.test.labels[:count]
    eps, step = recipe.eps, recipe.step_size
    model = Counted(Run(run).model(data)).eval()
    boxed = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")

    def ours() -> Tensor:
        found = images.clone()
        rows = bpfc.evaluate(model, images, labels, attacks=f"pgd-{steps}x{restarts}", eps=eps, step_size=step).rows
        broken = torch.tensor([row["broken_by"] is not None for row in rows])
        found[broken] = torch.nan  # judged already
        return found

    def by_foolbox() -> Tensor:
        attack = foolbox.attacks.LinfPGD(abs_stepsize=step, steps=steps, random_start=True).repeat(restarts)
        return attack(boxed, images, labels, epsilons=eps)[1]

    def by_torchattacks() -> Tensor:
        runs = [torchattacks.PGD(model, eps=eps, alpha=step, steps=steps) for _ in range(restarts)]
        return torchattacks.MultiAttack(runs)(images, labels)

    def by_art() -> Tensor:
        shape = tuple(images.shape[1:])
        loss = nn.CrossEntropyLoss()
        estimator = PyTorchClassifier(model, loss=loss, input_shape=shape, nb_classes=10, clip_values=(0, 1))
        attack = ProjectedGradientDescentPyTorch(
            estimator, eps=eps, eps_step=step, max_iter=steps, num_random_init=restarts, batch_size=256, verbose=False
        )
        return torch.from_numpy(attack.generate(images.numpy(), labels.numpy()))

    print(f"PGD-{steps}, {restarts} restarts, {count} images, ε {eps}")
    variants: dict[str, Callable[[], Tensor]] = {
        "ours": ours,
        "foolbox": by_foolbox,
        "torchattacks": by_torchattacks,
        "ART": by_art,
    }
    for name, attack in variants.items():
        found, told = measured(model, attack)
        stand = ~found.flatten(1).isnan().any(1) & (model.network(found.nan_to_num()).argmax(1) == labels)
        print(f"  {name:13} {told}, robust {stand.float().mean():.1%}", flush=True)

    right = model.network(images).argmax(1) == labels
    images, labels = images[right], labels[right]
    rng = ImageRng(0, range(len(images)))
    nearest: dict[str, dict[str, Callable[[], Tensor]]] = {
        "DeepFool ℓ2": {
            "ours": lambda: DeepFool("l2")(model, images, labels, rng),
            "foolbox": lambda: foolbox.attacks.L2DeepFoolAttack()(boxed, images, labels, epsilons=None)[1],
            "torchattacks": lambda: torchattacks.DeepFool(model)(images, labels),
        },
        "Carlini-Wagner": {
            "ours": lambda: CarliniWagner(CW_STEPS, SEARCHES)(model, images, labels, rng),
            "foolbox": lambda: foolbox.attacks.L2CarliniWagnerAttack(SEARCHES, CW_STEPS)(
                boxed, images, labels, epsilons=None
            )[1],
            "torchattacks": lambda: torchattacks.CW(model, steps=CW_STEPS * SEARCHES)(images, labels),
        },
    }
    for attack_name, each in nearest.items():
        print(f"{attack_name}, {len(images)} images")
        for name, attack in each.items():
            found, told = measured(model, attack)
            distances = (found - images).flatten(1).norm(dim=1)
            failed = found.flatten(1).isnan().any(1) | (model.network(found.nan_to_num()).argmax(1) == labels)
            median = distances.masked_fill(failed, torch.inf).quantile(0.5, interpolation="nearest").item()
            print(f"  {name:13} {told}, median ℓ2 {median:.4f}, failed {failed.float().mean():.1%}", flush=True)


def _numbers() -> list[int]:
    """IMAGES, STEPS, RESTARTS of the command line, or what stands for them."""
    given = [int(argument) for argument in sys.argv[2:]]
    return given + [24, 1000, 5][len(given) :]


def measured(model: Counted, attack: Callable[[], Tensor]) -> tuple[Tensor, str]:
    """What the attack gives, and what it took."""
    model.forwards = model.backwards = 0
    started = time.perf_counter()
    found = attack().detach()
    seconds = time.perf_counter() - started
    return found, f"{seconds:7.1f} s, {model.forwards:8,} forwards, {model.backwards:8,} backwards"


if __name__ == "__main__":
    main()

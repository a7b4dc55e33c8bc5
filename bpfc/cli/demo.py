"""Verb `demo`: train, attack and show, on real digits, in minutes on a CPU."""

import shlex
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bpfc.options import Device, read_words

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor

    from bpfc.training.recipe import Recipe

ATTACKS = ("fgsm", "pgd-100")


@dataclass(frozen=True)
class Demo:
    """Train a normal and a BPFC network on 4,000 digits, attack both on 500 others."""

    out: Path = Path("demo")
    """Folder for both runs, summary.json and demo.png."""
    device: Device = "auto"
    epochs: int | None = None
    """Epochs of each training, in place of the demo's own."""
    limit: int | None = None
    """Train on and attack the first N digits only: a quick look, whose figures mean little."""
    seed: int = 0
    """Of everything random."""


def parse(arguments: list[str]) -> Demo:
    return read_words(Demo, "bpfc demo", arguments)


def main(options: Demo) -> None:
    """The verb."""
    from rich.console import Console

    from bpfc.files import SUMMARY, write_json
    from bpfc.training.demo_recipes import DEMO_RECIPES

    try:
        from bpfc.cli.demo_figure import draw_demo
    except ModuleNotFoundError as error:
        raise OSError(f"the demo's figure needs {error.name}: pip install 'bpfc[demo]'") from error
    console = Console()
    fresh = not options.out.exists()
    started = time.perf_counter()
    summaries = {name: _train_and_attack(name, recipe, options) for name, recipe in DEMO_RECIPES.items()}
    seconds = round(time.perf_counter() - started, 1)
    accuracy = {"clean": {name: item["clean"]["accuracy"] for name, item in summaries.items()}}
    for attack in ATTACKS:
        accuracy[attack] = {name: item["attacks"][attack]["accuracy"] for name, item in summaries.items()}
    content = {
        "accuracy": accuracy,
        "images": summaries["bpfc"]["images"],
        "eps": summaries["bpfc"]["eps"],
        "seed": options.seed,
        "seconds": seconds if fresh else None,  # of a demo that went on where another stopped, they mean nothing
        "provenance": summaries["bpfc"]["provenance"],
    }
    write_json(options.out / SUMMARY, content)
    draw_demo(options.out / "demo.png", _exhibits(options), accuracy)
    _print(accuracy, console)
    print(f"{seconds:.0f} s. Figure: {options.out / 'demo.png'}; figures: {options.out / SUMMARY}")
    audit = f"bpfc audit {shlex.quote(str(options.out / 'bpfc'))} --quick"
    print(f"PGD-100 is one attack among many. What others leave: {audit}")


def _train_and_attack(name: str, recipe: "Recipe", options: Demo) -> dict[str, Any]:
    """One network, resumed or taken as it is where an earlier demo left it in the folder."""
    from bpfc.cli.evaluate import Evaluate, run
    from bpfc.training.health import TrainingError
    from bpfc.training.start import train

    epochs = recipe.epochs if options.epochs is None else options.epochs
    recipe = replace(recipe, seed=options.seed, limit=options.limit, epochs=epochs)
    folder = options.out / name
    print(f"Training: {name} ({recipe.epochs} epochs)", flush=True)
    try:
        train(recipe, folder, device=options.device, resume=True)
    except TrainingError as failure:
        given = [f"--{name}" for name in ("epochs", "limit") if getattr(options, name) is not None]
        if given:
            advice = f"leave out {' and '.join(given)}, and choose another --out"
        else:
            advice = (
                "the demo is meant to train on every machine: please report this, with the lines above; "
                f"--seed {options.seed + 1} --out {shlex.quote(f'{options.out}-2')} may do better"
            )
        raise TrainingError(f"{failure}; {advice}") from failure
    print(f"Attacking: {name}", flush=True)
    return run(
        Evaluate(folder, attacks=",".join(ATTACKS), device=options.device, limit=options.limit, seed=options.seed)
    )


@dataclass(frozen=True)
class Exhibit:
    """What the figure shows of one digit; images are (28, 28), in [0, 1]."""

    label: int
    image: "Tensor"
    planes: "Tensor"
    quantised: "Tensor"
    adversarial: "dict[str, tuple[Tensor, int]]"
    """By network: the image after PGD-100, and what that network takes it for."""


def _exhibits(options: Demo, count: int = 4) -> list[Exhibit]:
    """The first test digits of different classes, those that both networks read rightly before the others."""
    import torch

    from bpfc.attacks import PGD, ImageRng
    from bpfc.bitplanes import bit_planes, quantize
    from bpfc.data import load, to_float
    from bpfc.methods import BPFC
    from bpfc.training.demo_recipes import DEMO_RECIPES
    from bpfc.training.run import Run

    runs = {name: Run(options.out / name) for name in DEMO_RECIPES}
    recipe = runs["bpfc"].recipe()
    data = load(recipe.data)
    models = {name: run.model(data) for name, run in runs.items()}
    images, labels = to_float(data.test.pixels[:100]), data.test.labels[:100]
    with torch.no_grad():
        right = torch.stack([model(images).argmax(dim=1) == labels for model in models.values()]).all(dim=0)
    chosen: dict[int, int] = {}
    for index in (~right).sort(stable=True).indices.tolist():
        chosen.setdefault(int(labels[index]), index)
    indices = list(chosen.values())[:count]
    images, labels = images[indices], labels[indices]
    assert isinstance(recipe.method, BPFC)
    quantised = quantize(images, recipe.method.k, generator=torch.Generator().manual_seed(options.seed))
    planes = bit_planes(images)
    attack = PGD(recipe.eps, recipe.step_size, 100)
    adversarial = {}
    for name, model in models.items():
        perturbed = attack(model, images, labels, ImageRng(options.seed, indices))
        with torch.no_grad():
            adversarial[name] = (perturbed, model(perturbed).argmax(dim=1))
    return [
        Exhibit(
            label=int(labels[i]),
            image=images[i, 0],
            planes=planes[:, i, 0],
            quantised=quantised[i, 0],
            adversarial={name: (out[i, 0], int(guess[i])) for name, (out, guess) in adversarial.items()},
        )
        for i in range(len(indices))
    ]


def _print(summary: dict[str, dict[str, float]], console: "Console") -> None:
    from rich.table import Table

    table = Table(title="Accuracy on held-out digits, ε 0.3")
    for column in ("", "normal", "BPFC"):
        table.add_column(column, justify="right" if column else "left")
    for name, row in summary.items():
        table.add_row(name, f"{row['normal']:.1%}", f"{row['bpfc']:.1%}")
    console.print(table)

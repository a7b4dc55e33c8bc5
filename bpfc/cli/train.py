"""Verb `train`: recipe -> run."""

import os
import re
import shlex
import sys
from contextlib import nullcontext, redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import tyro

from bpfc.options import PLAIN, DataFolder, Device, Precision, read_words
from bpfc.training.settings import Settings

if TYPE_CHECKING:
    from bpfc.training.recipe import Recipe
    from bpfc.training.run import Run

HELP = """Train a network by a recipe.

bpfc recipes lists the recipes; bpfc recipes RECIPE shows the values of one, and the --method.… options of its method.
What stands below may be given to change it."""


@dataclass(frozen=True, kw_only=True)
class Where:
    """Everything that is not the recipe's."""

    out: Path
    """Folder of the run, runs/RECIPE unless given; made if need be."""
    device: Device = "auto"
    precision: Annotated[
        Precision,
        tyro.conf.arg(help="Arithmetic of forward and backward; auto is bfloat16 where the machine is fast in it."),
    ] = "auto"
    data_dir: DataFolder = None
    resume: bool = False
    """Continue the run in the folder."""


@dataclass(frozen=True, kw_only=True)
class Train(Where):
    """A recipe, and where to follow it."""

    recipe: "Recipe"


def parse(arguments: list[str]) -> Train:
    """Options by the recipe that the first word names, changed by the words after it."""
    if not arguments or {"-h", "--help"} & set(arguments):
        _help()
    from bpfc.cli.recipes import named
    from bpfc.training.recipe import Recipe

    @dataclass(frozen=True, kw_only=True)
    class Words(Where):
        recipe: Annotated[Recipe, tyro.conf.arg(name="")]

    name = arguments[0]
    default = Words(recipe=named(name)[1], out=Path("runs") / name)
    given = read_words(Words, f"bpfc train {name}", arguments[1:], default)
    return Train(**vars(given))


def _help() -> NoReturn:
    """Prints the options without a recipe's values: those need the methods, and with them torch."""

    @dataclass(frozen=True, kw_only=True)
    class Words(Where):
        settings: Annotated[Settings, tyro.conf.arg(name="")]

    shown = StringIO()
    with redirect_stdout(shown), suppress(SystemExit):
        tyro.cli(Words, prog="bpfc train RECIPE", description=HELP, args=["--help"], config=PLAIN)
    where, mark, settings = shown.getvalue().replace("(required)", "(recipe's)").partition("  --data ")
    print(where + mark + re.sub(r"\(default:\s[^)]*\)", "(recipe's)", settings), end="")
    sys.exit(0)


def main(options: Train) -> None:
    """The verb: train, and say what comes next, or what to do where it came to nothing."""
    from bpfc.training.health import TrainingError

    recipe = options.recipe
    try:
        run = train(options)
    except TrainingError as failure:
        weight = "" if getattr(recipe.method, "weight", None) is None else ", a lower --method.weight"
        advice = f"--clip-norm {recipe.clip_norm / 2 if recipe.clip_norm else 1:g}, a lower --lr{weight}"
        raise TrainingError(f"{failure}; train anew with {advice}, into another --out") from failure
    if int(os.environ.get("RANK", "0")):
        return  # of several processes one tells
    selected = run.log[-1]["selected_epoch"] + 1
    print(f"Selected: epoch {selected}, in {run.weights}. Attack it with: bpfc evaluate {shlex.quote(str(run.folder))}")


def train(options: Train) -> "Run":
    """Trains by the options.

    Raises:
        ValueError, DataError, RunError, OSError: something that was asked for can't be had; before any long work.
        TrainingError: the training comes to nothing; says which state is good still.
    """
    import torch

    from bpfc.data import load, split
    from bpfc.files import owned
    from bpfc.machine import pick_device, resolve
    from bpfc.models import build
    from bpfc.provenance import provenance
    from bpfc.training.engine import engine, fit
    from bpfc.training.run import Run, RunError

    recipe, run = options.recipe, Run(options.out)
    device = pick_device(options.device)
    precision = resolve(options.precision, device, run.precision)
    if run.begun() and not options.resume:
        raise RunError(f"{options.out}: holds a run already; continue it with --resume, or choose another --out")
    data = load(recipe.data, options.data_dir)
    training, validation = split(data.train, recipe.validation, recipe.seed)
    if recipe.limit is not None:
        training = training[: recipe.limit]
    fabric = engine(device)
    precision = fabric.broadcast(precision)  # processes that time their CPU may differ
    torch.manual_seed(recipe.seed)
    model = build(recipe.network, channels=data.channels, classes=data.classes, size=data.size)
    with owned(options.out) if fabric.is_global_zero else nullcontext():
        if fabric.is_global_zero:
            run.begin(recipe, precision, provenance(device))
        fabric.barrier()
        fit(
            fabric,
            recipe,
            precision,
            model,
            training.to(fabric.device),
            validation[: recipe.validation_attacked].to(fabric.device),
            run,
        )
    return run

"""Verb `train`: recipe -> run."""

import os
import re
import shlex
import sys
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import tyro

from bpfc.options import PLAIN, DataFolder, Device, Precision, read_words
from bpfc.training.settings import Settings

if TYPE_CHECKING:
    from bpfc.training.recipe import Recipe

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
    from bpfc.training.start import train

    recipe = options.recipe
    try:
        run = train(
            recipe,
            options.out,
            device=options.device,
            precision=options.precision,
            data_dir=options.data_dir,
            resume=options.resume,
        )
    except TrainingError as failure:
        weight = "" if getattr(recipe.method, "weight", None) is None else ", a lower --method.weight"
        advice = f"--clip-norm {recipe.clip_norm / 2 if recipe.clip_norm else 1:g}, a lower --lr{weight}"
        raise TrainingError(f"{failure}; train anew with {advice}, into another --out") from failure
    if int(os.environ.get("RANK", "0")):
        return  # of several processes one tells
    selected = run.log[-1]["selected_epoch"] + 1
    print(f"Selected: epoch {selected}, in {run.weights}. Attack it with: bpfc evaluate {shlex.quote(str(run.folder))}")

"""Verb `train`: recipe -> run."""

import os
import re
import shlex
import sys
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, replace
from io import StringIO
from math import isfinite
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import tyro

from bpfc.errors import UserError
from bpfc.options import AS_THEY_ARE, PLAIN, VALUES, DataFolder, Device, Precision, Reading, read_some_words, read_words
from bpfc.training.settings import Settings

if TYPE_CHECKING:
    from bpfc.training.recipe import Recipe

HELP = """Train a network by a recipe.

bpfc recipes lists the recipes; bpfc recipes RECIPE shows the values of one, and the --method.… options of its method.
What stands below may be given to change it.

bpfc train METHOD --data PATH --eps ε trains on data of yours: a folder of pictures for each class, WebDataset's or
Hugging Face's shards, or .npz files. The recipe follows from the data, ε and --network, and may be changed likewise;
--bits says the depth of the images."""


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
    sync_batchnorm: bool = False
    """Under torchrun on GPUs: BatchNorm normalises by the images of all processes, as one process would."""
    reading: Annotated[Reading, tyro.conf.arg(name="")] = AS_THEY_ARE


@dataclass(frozen=True, kw_only=True)
class Train(Where):
    """A recipe, and where to follow it."""

    recipe: "Recipe"


@dataclass(frozen=True, kw_only=True)
class Own:
    """What a recipe for data of one's own follows from."""

    data: str | None = None
    """A folder of pictures for each class, or of shards, or .npz files."""
    eps: float | None = None
    """ε: ℓ∞ radius that the network should stand, in units of [0, 1], such as 4/255."""
    network: str | None = None
    """See bpfc networks; timm:NAME; torchvision:NAME; package.module:function. Or resnet-18, for ibp m-lenet-sparse."""
    bits: int | None = None
    """Of the images; 16 where they are stored so, else 8, unless given."""


@dataclass(frozen=True, kw_only=True)
class Radius:
    """ε, where a recipe's is changed: its method's follows."""

    eps: float | None = None


@dataclass(frozen=True)
class TrainOwn:
    """A training on one's own data: the recipe is made when the data has been seen.

    Attributes:
        method: its name.
        data, eps: what must be said: the path, and the ℓ∞ radius in units of [0, 1].
        words: those of the command that are not `own`'s, and change the recipe.
    """

    method: str
    data: str
    eps: float
    own: Own
    words: list[str]

    def options(self, recipe: "Recipe") -> Train:
        """The options that the words make of a recipe."""
        out = Path("runs") / f"{Path(self.data).resolve().stem}-{self.method}"
        return _changed(self.method, out, replace(recipe, data=self.data), self.words)

    def anyhow(self) -> Train:
        """The options before the data has been seen: all but the recipe hold."""
        from bpfc.methods import BPFC, METHODS
        from bpfc.training.recipes import RECIPES

        method = BPFC(bits=16) if self.method == BPFC.name else METHODS[self.method]()  # the data may have 16
        return self.options(replace(RECIPES["mnist-5k-normal"][1], method=method))


def parse(arguments: list[str]) -> Train | TrainOwn:
    """Options by the recipe or method that the first word names, changed by the words after it."""
    if not arguments or {"-h", "--help"} & set(arguments):
        _help()
    from bpfc.cli.recipes import named
    from bpfc.methods import METHODS

    name, words = arguments[0], arguments[1:]
    if name not in METHODS:
        return _changed(name, Path("runs") / name, named(name)[1], words)
    own, rest = read_some_words(Own, f"bpfc train {name}", words)
    if own.data is None or own.eps is None:
        lacking = [option for option, given in (("--data PATH", own.data), ("--eps ε", own.eps)) if given is None]
        raise UserError(f"bpfc train {name}: a method, not a recipe; it needs {' and '.join(lacking)}")
    if not (own.eps > 0 and isfinite(own.eps)):
        raise UserError(f"--eps {own.eps:g}: must be a number above 0, such as 4/255")
    options = TrainOwn(name, own.data, own.eps, own, rest)
    options.anyhow()  # are they options at all?
    return options


def _changed(name: str, out: Path, recipe: "Recipe", words: list[str]) -> Train:
    """Options by a recipe, changed by the words."""
    from bpfc.data import DATA_SETS
    from bpfc.training.recipe import Recipe

    @dataclass(frozen=True, kw_only=True)
    class Words(Where):
        recipe: Annotated[Recipe, tyro.conf.arg(name="")]

    prog = f"bpfc train {name}"
    radius, _ = read_some_words(Radius, prog, words)
    given = read_words(Words, prog, words, Words(recipe=_at(recipe, radius.eps), out=out))
    data = given.recipe.data
    if data not in DATA_SETS and _is_class(given.out, Path(data)):
        raise UserError(
            f"--out {given.out}: lies in the folder of the data, {data}, where it would count as a class; choose "
            "another --out"
        )
    return Train(**vars(given))


def _at(recipe: "Recipe", eps: float | None) -> "Recipe":
    """The recipe with another ε, if one is given; in its method too, where that had the same."""
    if eps is None:
        return recipe
    changes: dict[str, Any] = {"eps": eps}
    moved = replace(recipe, eps=eps)  # raises on a wrong ε
    return replace(moved, method=replace(recipe.method, **changes)) if _radius(recipe) == recipe.eps else moved


def _radius(recipe: "Recipe") -> float | None:
    """The ε that the method trains at, if it has one."""
    return getattr(recipe.method, "eps", None)


def _is_class(out: Path, data: Path) -> bool:
    """Whether a folder lies in one of pictures by class, and would be a class of it or in one."""
    from bpfc.data.own import takes_folders

    if not out.resolve().is_relative_to(data.resolve()):
        return False
    first = out.resolve().relative_to(data.resolve()).parts[:1]
    return takes_folders(data) and not (first and first[0].startswith("."))


def _help() -> NoReturn:
    """Prints the options without a recipe's values: those need the methods, and with them torch."""

    @dataclass(frozen=True, kw_only=True)
    class Words(Where):
        settings: Annotated[Settings, tyro.conf.arg(name="")]

    shown = StringIO()
    with VALUES, redirect_stdout(shown), suppress(SystemExit):
        tyro.cli(Words, prog="bpfc train RECIPE", description=HELP, args=["--help"], config=PLAIN)
    where, mark, settings = shown.getvalue().replace("(required)", "(recipe's)").partition("  --data ")
    where = "\n".join(fill(line, 80) if len(line) > 80 else line for line in where.split("\n"))
    told = where + mark + re.sub(r"\(default:\s[^)]*\)", "(recipe's)", settings)
    print(*(line.rstrip() for line in told.rstrip("\n").split("\n")), sep="\n")
    sys.exit(0)


def main(options: Train | TrainOwn) -> None:
    """The verb: train, and say what comes next, or what to do where it came to nothing."""
    from bpfc.training.health import TrainingError
    from bpfc.training.start import train

    if isinstance(options, TrainOwn):
        options = _derive(options)
    recipe = options.recipe
    if _radius(recipe) not in (None, recipe.eps) and not int(os.environ.get("RANK", "0")):
        print(
            f"note: {recipe.method.name} trains at ε {_radius(recipe):.4g} (--method.eps); validation and later "
            f"attacks are at {recipe.eps:.4g} (--eps)",
            flush=True,
        )
    try:
        run = train(
            recipe,
            options.out,
            device=options.device,
            precision=options.precision,
            data_dir=options.data_dir,
            resume=options.resume,
            sync_batchnorm=options.sync_batchnorm,
            reading=options.reading,
        )
    except TrainingError as failure:
        weight = "" if getattr(recipe.method, "weight", None) is None else ", a lower --method.weight"
        advice = f"--clip-norm {recipe.clip_norm / 2 if recipe.clip_norm else 1:g}, a lower --lr{weight}"
        raise TrainingError(f"{failure}; train anew with {advice}, into another --out") from failure
    if int(os.environ.get("RANK", "0")):
        return  # of several processes one tells
    selected = run.log[-1]["selected_epoch"] + 1
    print(f"Selected: epoch {selected}, in {run.weights}. Attack it with: bpfc evaluate {shlex.quote(str(run.folder))}")


def _derive(options: TrainOwn) -> Train:
    """The options with the recipe that follows from the data, which are told."""
    from bpfc.data import load
    from bpfc.models import check_name
    from bpfc.training.derived import derived, told

    own = options.own
    if own.network is not None:
        check_name(own.network)
    anyhow = options.anyhow()
    data = load(options.data, anyhow.data_dir, anyhow.reading)
    given = options.options(derived(options.method, data, eps=options.eps, network=own.network, bits=own.bits))
    if not int(os.environ.get("RANK", "0")):
        print(*told(given.recipe, data), sep="\n", flush=True)
    return given

"""What the verbs' options share: numbers such as 8/255, where to compute, in which precision, where the data is."""

import re
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from bpfc.errors import UserError

Arithmetic = Literal["fp32", "bf16"]
Precision = Literal["auto", "fp32", "bf16"]
DataName = Literal["mnist-5k", "mnist", "fashion-mnist", "cifar-10"]
"""The data sets that `bpfc.data.load` knows."""


def number(text: str) -> float:
    """A number as people write ε: 0.1 or 8/255."""
    top, slash, bottom = text.partition("/")
    try:
        return float(top) / float(bottom) if slash else float(top)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{text!r}: must be a number or a fraction, such as 0.1 or 8/255") from error


Number = Annotated[
    float,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="NUMBER",
        instance_from_str=lambda words: number(words[0]),
        is_instance=lambda value: isinstance(value, float | int),
        str_from_instance=lambda value: [f"{value:.6g}"],
    ),
]
"""A float that the command line takes as 0.1 or 8/255."""

Device = Annotated[Literal["auto", "cpu", "cuda"], tyro.conf.arg(help="Where to compute.")]
AttackPrecision = Annotated[
    Precision, tyro.conf.arg(help="Arithmetic of the attacks' gradients; verdicts are in float32 always.")
]
BatchSize = Annotated[int, tyro.conf.arg(help="Images at a time; bounds the memory.")]
AttackSeed = Annotated[int, tyro.conf.arg(help="Of the random starts.")]
DataFolder = Annotated[
    Path | None,
    tyro.conf.arg(
        help="Where the data files are; else BPFC_DATA, the user's cache, Debian's package, the network.",
    ),
]


DECIDING = ("size", "colour", "skip_unreadable")
"""Of what follows, what decides the pixels."""


@dataclass(frozen=True)
class Reading:
    """How pictures of one's own are taken; without these options, as they are, and all must be alike."""

    size: int | None = None
    """Pictures of one's own: bring the shorter side to this (bicubic) and cut the middle out of the longer."""
    colour: Literal["grey", "rgb"] | None = None
    """Pictures of one's own: make all of them that; else they must be alike."""
    skip_unreadable: bool = False
    """Pictures of one's own: leave out those that cannot be read, and name them; costs a look at all of them."""
    workers: int | None = None
    """Threads that decode pictures; as many as there are cores unless given."""

    def __post_init__(self) -> None:
        for name in ("size", "workers"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"--{name} {value}: must be 1 or more")

    def deciding(self) -> dict[str, Any]:
        """What was asked for that decides the pixels, by name; the number of workers does not."""
        return {name: value for name in DECIDING if (value := getattr(self, name))}

    def refuse_for(self, what: str) -> None:
        """Raises UserError if an option asks for other pixels than those of `what`, which are taken as they are."""
        for name in self.deciding():
            option = name.replace("_", "-")
            raise UserError(f"--{option}: is for pictures that you hand in, not for {what}; leave it out")


AS_THEY_ARE = Reading()

PLAIN = (tyro.conf.AvoidSubcommands,)
"""How every verb reads its words."""

Options = TypeVar("Options")


def read_words(kind: type[Options], prog: str, words: list[str], default: Options | None = None) -> Options:
    """A verb's options out of its words.

    Raises:
        UserError: a word is not one of the verb's, or its value makes no sense; in one line.
    """
    return _read(kind, prog, words, {} if default is None else {"default": default})


def read_some_words(kind: type[Options], prog: str, words: list[str]) -> tuple[Options, list[str]]:
    """The same where some words may belong to other options; these come back.

    Raises:
        UserError: see `read_words`.
    """
    return _read(kind, prog, words, {"return_unknown_args": True})


def _read(kind: Any, prog: str, words: list[str], given: dict[str, Any]) -> Any:
    for name, value in zip(["", *words], words, strict=False):
        if not value or (value.endswith("=") and value.startswith("--")):
            raise UserError(f"{name or value}: is given an empty value; name one, or leave the option out")
    shown = StringIO()
    try:
        with redirect_stderr(shown):
            return tyro.cli(kind, prog=prog, args=words, config=PLAIN, **given)
    except SystemExit as stopped:
        if stopped.code != 2:
            raise
        raise UserError(f"{_plainly(shown.getvalue())}; {prog} --help lists the options") from None


def _plainly(box: str) -> str:
    """What tyro says in a box of several lines, without the box, its title and the help."""
    lines = [line.strip(" │|") for line in box.split("Argument helptext:")[0].splitlines()]
    beside = r"[+─╭╮╰╯].*|-{3,}.*|For full helptext.*|bpfc \S+ --help"
    return " ".join(line for line in lines if line and not re.fullmatch(beside, line))

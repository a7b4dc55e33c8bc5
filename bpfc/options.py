"""What the verbs' options share: numbers such as 8/255, where to compute, in which precision, where the data is."""

import re
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from bpfc.errors import UserError

Arithmetic = Literal["fp32", "bf16"]
Precision = Literal["auto", "fp32", "bf16"]
DataName = Literal["mnist-5k", "mnist", "fashion-mnist", "cifar-10"]
"""The data sets that `bpfc.data.load` knows."""


def number(text: str) -> float:
    """A number as people write ε: 0.1 or 8/255; every option that is a number takes it so."""
    top, slash, bottom = text.partition("/")
    try:
        return float(top) / float(bottom) if slash else float(top)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{text!r}: must be a number or a fraction, such as 0.1 or 8/255") from error


def whole(text: str) -> int:
    """A whole number, such as a limit."""
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"{text!r}: must be a whole number") from error


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

HELP_INDENT = " " * 10
"""Before what an option is for, where tyro's errors name it."""
PLAIN = (tyro.conf.AvoidSubcommands,)
"""How every verb reads its words."""

VALUES = ConstructorRegistry()
"""How words become values, where tyro's own way would answer a wrong one with Python's types."""


@VALUES.primitive_rule
def _number(of: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    if of.type not in (int, float):
        return None
    read = whole if of.type is int else number
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT" if of.type is int else "NUMBER",
        instance_from_str=lambda words: read(words[0]),
        is_instance=lambda value: isinstance(value, (of.type, int)),
        str_from_instance=lambda value: [f"{value:.6g}" if isinstance(value, float) else str(value)],
    )


@VALUES.primitive_rule
def _numbers(of: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    if get_origin(of.type) is not tuple or get_args(of.type) != (float, ...):
        return None
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="NUMBER …",
        instance_from_str=lambda words: tuple(map(number, words)),
        is_instance=lambda value: isinstance(value, tuple) and all(isinstance(each, int | float) for each in value),
        str_from_instance=lambda value: [f"{each:.6g}" for each in value],
    )


@VALUES.primitive_rule
def _or_none(of: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """What may be left open: read as it is where it is given, or as None, by that word."""
    kinds = [kind for kind in get_args(of.type) if kind is not NoneType]
    if of.type_origin not in (Union, UnionType) or len(kinds) > 1:
        return None
    given = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(kinds[0], of.markers))
    if not isinstance(given, PrimitiveConstructorSpec) or given.choices is not None:
        return None

    def read(words: list[str]) -> Any:
        if not words:
            raise ValueError("needs a value")
        return None if words == ["None"] else given.instance_from_str(words)

    return replace(
        given,
        instance_from_str=read,
        is_instance=lambda value: value is None or given.is_instance(value),
        str_from_instance=lambda value: ["None"] if value is None else given.str_from_instance(value),
    )


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
    told = StringIO()
    helps = {"-h", "--help"} & set(words)
    try:
        # An error is told in colours and boxes where stdout is a terminal.
        with VALUES, redirect_stderr(told), nullcontext() if helps else redirect_stdout(StringIO()):
            return tyro.cli(kind, prog=prog, args=words, config=PLAIN, **given)
    except SystemExit as stopped:
        if stopped.code != 2:
            raise
        raise UserError(f"{_plainly(told.getvalue())}; {prog} --help lists the options") from None


def _plainly(told: str) -> str:
    """What tyro tells below a title and a rule, in several lines, without the options' kinds and help."""
    _, _, *lines = told.split("Argument helptext:")[0].splitlines()
    kept = []
    for line in lines:
        text = line.strip()
        if line.startswith(HELP_INDENT) or re.fullmatch(r"-{3,}|For full helptext.*|bpfc \S+ --help|", text):
            continue
        kept.append(text.split()[0] if text.startswith("--") else text)
    line = " ".join(kept).removeprefix("Error parsing ").replace(" Perhaps you meant:", "; did you mean").rstrip(". ")
    line = re.sub(r"Missing value for argument '([^']+)'\. Expected \d+ values", r"\1: needs a value", line)
    return re.sub(r"invalid choice (.*) for argument '([^']+)'\. Expected one of \((.*)\)", _choice, line)


def _choice(found: re.Match[str]) -> str:
    value, name, shown = found.groups()
    choices = {choice for choice in re.findall(r"'([^']*)'", shown) if choice != "None"}  # tyro's order is any
    return f"{name}: {value}: must be one of {', '.join(sorted(choices))}"

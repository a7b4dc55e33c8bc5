import sys
from collections.abc import Iterator
from dataclasses import fields
from io import StringIO
from types import NoneType
from typing import Any, get_args, get_type_hints

import pytest

from bpfc.cli import audit, certify, demo, evaluate, reproduce, train, transfer
from bpfc.errors import UserError
from bpfc.options import Reading, number, read_words
from bpfc.training.settings import Settings

VERBS = (
    (evaluate.parse, evaluate.Evaluate, "run"),
    (certify.parse, certify.Certify, "run"),
    (audit.parse, audit.Audit, "run"),
    (transfer.parse, transfer.Transfer, "run --source run"),
    (demo.parse, demo.Demo, ""),
    (reproduce.parse, reproduce.Reproduce, "table1"),
    (train.parse, Settings, "mnist-5k-normal"),
    (train.parse, Reading, "mnist-5k-normal"),
    (train.parse, train.Own, "normal"),
)


def numbers_left_open() -> Iterator[tuple[Any, list[str], str]]:
    """Each option that is a number or None, with its verb's `parse` and the words before it."""
    for parse, kind, words in VERBS:
        hints = get_type_hints(kind)
        for field in fields(kind):
            if {NoneType} < (kinds := set(get_args(hints[field.name]))) <= {NoneType, int, float}:
                made = "a number or a fraction, such as 0.1 or 8/255" if float in kinds else "a whole number"
                yield parse, [*words.split(), f"--{field.name.replace('_', '-')}"], made


def test_numbers() -> None:
    assert number("8/255") == 8 / 255
    assert number("0.1") == 0.1
    for wrong in ("a", "1/0", "", "1/2/3"):
        with pytest.raises(ValueError, match="8/255"):
            number(wrong)


def test_a_wrong_number_is_told_without_types() -> None:
    told = []
    for parse, words, made in numbers_left_open():
        with pytest.raises(UserError) as found:
            parse([*words, "1/x"])
        said, _, rest = str(found.value).partition("; bpfc ")
        assert (said, rest.endswith(" --help lists the options")) == (f"{words[-1]}: '1/x': must be {made}", True)
        told.append(said)
    assert len(told) > 15


def test_numbers_that_are_left_open() -> None:
    given = evaluate.parse(["run", "--eps", "8/255", "--step-size", "None", "--limit", "7", "--mean", "0.5", "1/4"])
    assert (given.eps, given.step_size, given.limit, given.mean) == (8 / 255, None, 7, (0.5, 0.25))
    assert evaluate.parse(["run", "--eps", "None", "--mean", "None"]).eps is None
    assert train.parse(["mnist-5k-normal", "--clip-norm", "None", "--lr", "1/8"]).recipe.lr == 0.125  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--mean a", "--mean: 'a': must be a number or a fraction, such as 0.1 or 8/255"),
        ("--mean 0.5 1/0", "--mean: '1/0': must be a number or a fraction, such as 0.1 or 8/255"),
        ("--mean", "--mean: needs a value"),
        ("--limit", "--limit: needs a value"),
        ("--colour", "--colour: needs a value"),
        ("--colour blue", "--colour: 'blue': must be one of grey, rgb"),
        ("--device gpu", "--device: 'gpu': must be one of auto, cpu, cuda"),
    ],
)
def test_a_wrong_or_missing_value_is_told_in_words(words: str, told: str) -> None:
    with pytest.raises(UserError) as found:
        evaluate.parse(["run", *words.split()])
    assert str(found.value) == f"{told}; bpfc evaluate --help lists the options"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_errors_are_plain_on_a_terminal(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    Terminal.encoding = encoding  # type: ignore[misc]
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stdout", Terminal())
    with pytest.raises(UserError) as found:
        read_words(evaluate.Evaluate, "bpfc evaluate", ["run", "--step", "3"])
    told = "Unrecognized options: --step, 3; did you mean --step-size; bpfc evaluate --help lists the options"
    assert str(found.value) == told

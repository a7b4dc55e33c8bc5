"""Verb `attacks`: the attacks and suites by name."""

from dataclasses import dataclass

from bpfc.options import read_words


@dataclass(frozen=True)
class Attacks:
    """List the attacks by name, with what each does, and the suites."""


def parse(arguments: list[str]) -> Attacks:
    return read_words(Attacks, "bpfc attacks", arguments)


def main(_: Attacks) -> None:
    """The verb: print both tables."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from bpfc.evaluation.forms import FORMS
    from bpfc.evaluation.names import SUITES

    names = Table(title="Attacks: give several as fgsm,pgd-50x10; -last judges the last iterate alone")
    for column in ("name", "what it does", "norm"):
        names.add_column(column)
    for form in FORMS:
        names.add_row(escape(form.shown), form.what, "ℓ∞" if form.linf_only else "ℓ∞, ℓ2")
    suites = Table(title="Suites")
    for column in ("name", "what is in it"):
        suites.add_column(column)
    for name, text in SUITES.items():
        suites.add_row(name, text)
    console = Console()
    console.print(names)
    console.print(suites)

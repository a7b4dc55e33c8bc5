"""What a check hands back, and what a check is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from bpfc.auditing.measurements import Measurements

Outcome = Literal["pass", "flag", "not run"]
Settled = Literal["lower", "cleared", "open"]


@dataclass(frozen=True)
class Finding:
    """What a check found of a model.

    Attributes:
        id: C and a number.
        title: what is looked at, in a few words.
        outcome: pass, flag, or not run.
        measured: in words, with the figures; of a check that was not run, why.
        value: the figure that the threshold is for; None without one.
        threshold: what flags, in words.
        source: where the check and its threshold come from.
        needs, cost: what it works on, and how long.
        meaning: what a flag says about a robust accuracy, for someone who must defend one.
        next: what to run after a flag.
        settled: of a flag: the settling attack took the figure lower, cleared the flag, or left it open. Else None.
    """

    id: str
    title: str
    outcome: Outcome
    measured: str
    value: float | None
    threshold: str
    source: str
    needs: str
    cost: str
    meaning: str
    next: str
    settled: Settled | None = None


class Measured(NamedTuple):
    """The part of a finding that depends on the model. `flag` is None where the check could not run."""

    flag: bool | None
    text: str
    value: float | None = None


@dataclass(frozen=True)
class Check:
    """A sign of masked gradients that can be measured. The texts are those of its findings."""

    id: str
    title: str
    threshold: str
    source: str
    needs: str
    cost: str
    meaning: str
    next: str
    measure: Callable[["Measurements"], Measured]

    def __call__(self, measurements: "Measurements") -> Finding:
        flag, text, value = self.measure(measurements)
        outcome: Outcome = "not run" if flag is None else "flag" if flag else "pass"
        texts = (self.threshold, self.source, self.needs, self.cost, self.meaning, self.next)
        return Finding(self.id, self.title, outcome, text, value, *texts)

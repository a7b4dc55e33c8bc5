"""The attacks that a flag asks for. The verdict rests on what they reach, not on the flag."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from bpfc.attacks import PGD, SPSA, Adaptive, MultiTargeted, Square
from bpfc.auditing.finding import Finding, Settled
from bpfc.auditing.layers import WORKING, around, without_softmax, working_gradients
from bpfc.auditing.measurements import Measurements
from bpfc.auditing.stand_ins import Late, Near, Through, rescaled
from bpfc.auditing.twin import twin
from bpfc.ledger import wilson_interval
from bpfc.wrappers import EOT

LOSSES = {"C6", "C7"}
"""Flags that say that cross-entropy hides something: its figure is what the settling attack is held against."""
GRADIENTS = {"C1", "C4", "C5", "C8", "C9", "C10", "C11", "C12"}
"""Flags that say that the gradients lead nowhere."""
SEARCH = {"C9", "C10"}
"""Flags of searches that beat the gradients."""
EFFORT = {"C2", "C3", "C4", "C13", "C16"}
"""Flags that say that the attack was too weak."""
ORDINARY = {"C2", "C3", "C6", "C7", "C13", "C16"}
"""Flags of an attack that could be better, not of gradients that mislead. A better attack takes any network a little
further: it must leave the interval.
"""
CLEARED = {"C2", "C3", "C6", "C7", "C13", "C14", "C15", "C16"}
"""Flags that are answered by an attack which finds nothing more; the others stay open, because what masks is not known.
"""
NEAR = 0.1
"""Of ε, the deviation of the points that a rugged surface is averaged over."""
FURTHER = 0.01
"""By how much of all images, and more than one of them, an attack must lower the figure to have settled a flag."""


@dataclass(frozen=True)
class Settlement:
    """A settling attack, or a family of them.

    Attributes:
        told: what was done, and why.
        before, after: the share that stands before and after it.
        flags: the ids of the checks that asked for it.
    """

    told: str
    before: float
    after: float
    flags: tuple[str, ...]


def settle(m: Measurements, findings: Iterable[Finding]) -> list[Settlement]:
    """Runs the attacks that the flags ask for, each on what those before it left."""
    flags = {finding.id for finding in findings if finding.outcome == "flag"}
    done = []
    before = m.share(m.left)
    for told, asked in _attacks(m, flags):
        after = m.share(m.left)
        done.append(Settlement(told, before, after, tuple(sorted(asked & flags))))
        before = after
    return done


def _attacks(m: Measurements, flags: set[str]) -> Iterator[tuple[str, set[str]]]:
    """Each settling attack, told after it has run, with the flags that it answers to."""
    if m.train_mode:
        yield "put into eval mode before anything was measured", {"C14"}
    if m.front is not None and flags & (GRADIENTS | EFFORT | LOSSES):
        m.behind(2 * m.short, "settling ", on=m.left)
        yield f"attacked behind {m.front[0]}, on the box that the ball becomes there", GRADIENTS | EFFORT | LOSSES
    source, found = m.plain, m.varies
    some, labels = m.some(slice(64))
    if flags & GRADIENTS and (way := around(m.given, some, labels, m.eps)) is not None:
        source, found = way.stand_ins[0], True
        if not m.probabilities:
            for number, stand_in in enumerate(way.stand_ins):
                _strong(m, stand_in, "around the layer" + " again" * number)
            yield f"the gradient gets lost in {way.told}; attacked around it", GRADIENTS
    if m.probabilities:
        source, found = without_softmax(source, some), True
        source = rescaled(source, _scale(source, some)).eval()
        _strong(m, source, "on what is before the softmax")
        yield "the logits before the softmax attacked", {"C14", *LOSSES, *GRADIENTS}
    elif flags & (LOSSES | {"C5", "C8"}):
        scale = _scale(source, some)
        source = rescaled(source, scale).eval()
        found = found or (flags & GRADIENTS <= {"C5", "C8"} and working_gradients(source, some, labels) >= WORKING)
        _strong(m, source, f"on logits x {scale:.3g}")
        yield f"margin, cross-entropy and targeted attacks on logits x {scale:.3g}", LOSSES | {"C5", "C8"}
    if m.varies:
        yield from _averaged(m, source)
    elif "C12" in flags:
        _smoothed(m, source)
        yield f"the mean gradient at {m.budget.samples[-1]} points with normal noise ε/10 followed", GRADIENTS | {"C3"}
    if flags & EFFORT:
        steps, left = 2 * m.budget.steps, m.left
        m.pgd(f"settling pgd-margin-{steps}x2", steps, "margin", step_size=0.05, on=left, through=source, restarts=2)
        yield f"PGD on the margin with {steps} smaller steps from two starts", EFFORT
    if found and flags & SEARCH:
        queries = 4 * m.budget.queries
        m.probe(f"settling square-{queries}", Square(m.eps, queries), on=m.left)
        yield f"Square with {queries} queries", SEARCH
    if flags & GRADIENTS and not found:
        _without_gradients(m)
        yield "a twin trained longer, Square with four times the queries, SPSA", GRADIENTS
    if "C15" in flags and m.k is not None:
        attack = Adaptive(m.eps, m.eps / 10, 2 * m.short, m.k, samples=4)
        m.probe(f"settling adaptive-{2 * m.short}", attack, on=m.left)
        yield "the adaptive attack with more steps and samples", {"C15"}


def _strong(m: Measurements, source: nn.Module, name: str, part: int = 1) -> None:
    """Every loss through a stand-in, on what stands; `part` of the steps where each of them is dear."""
    steps, targeted = max(2 * m.short, m.budget.steps // part), m.short // part
    for loss in ("margin", "ce"):
        m.pgd(f"settling pgd-{loss}-{steps} {name}", steps, loss, on=m.left, through=source)
    m.probe(f"settling mt-pgd-{targeted} {name}", MultiTargeted(m.eps, m.eps / 8, targeted), on=m.left, through=source)


def _smoothed(m: Measurements, source: nn.Module) -> None:
    """Of a rugged surface, the slope that it has on the whole (Tramèr et al. 2020, against k-winners-take-all)."""
    smooth = EOT(Near(source, NEAR * m.eps), m.budget.samples[-1]).eval()
    for step in (0.125, 0.05):
        steps = round(m.budget.steps * 0.125 / step)
        attack = Through(PGD(m.eps, step * m.eps, steps, "margin"), smooth, alike=False)
        m.probe(f"settling pgd-margin-{steps} on near points", attack, on=m.left)


def _scale(model: nn.Module, images: Tensor) -> float:
    """The factor that gives the logits of the clean images a margin of 1 in the median."""
    with torch.no_grad():
        top = model(images).float().topk(2, dim=1).values
    median = float((top[:, 0] - top[:, 1]).median())
    return 1 / median if median > 0 else 1.0


def _averaged(m: Measurements, source: nn.Module) -> Iterator[tuple[str, set[str]]]:
    """EOT with more samples as long as that gains."""
    for samples in m.budget.samples:
        before = m.left
        _strong(m, EOT(source, samples).eval(), f"on the mean of {samples} answers", part=2)
        yield f"the mean of {samples} answers attacked (EOT)", {"C14", "C12", "C3"}
        if samples > m.budget.samples[0] and not lower(m.share(before), m.share(m.left), len(m)):
            break


def _without_gradients(m: Measurements) -> None:
    imitation = Late(lambda: twin(m.plain, m.images, m.eps, 3 * m.epochs))
    steps = 2 * m.short
    attack = Through(PGD(m.eps, m.eps / 8, steps, "margin"), imitation, alike=False)
    m.probe(f"settling pgd-margin-{steps} on a twin", attack, on=m.left)
    queries = 4 * m.budget.queries
    m.probe(f"settling square-{queries}", Square(m.eps, queries), on=m.left)
    m.probe(f"settling spsa-{m.short}", SPSA(m.eps, m.short, pairs=32, lr=m.eps / 5), on=m.left)


def lower(before: float, after: float, images: int) -> bool:
    """Whether one share of the images lies below another by as much as settles a flag."""
    return before - after > max(FURTHER, 1 / images) + 1e-9


def settled(m: Measurements, findings: Iterable[Finding], settlements: list[Settlement]) -> list[Finding]:
    """The findings, the flags among them with what the settling attacks made of them."""
    last = m.share(m.left)
    done = []
    for finding in findings:
        outcome: Settled | None = None
        if finding.outcome == "flag":
            asked = [step for step in settlements if finding.id in step.flags]
            held = reported(m, finding.id)
            within = finding.id in ORDINARY and held <= wilson_interval(int(m.left.sum()), len(m))[1]
            if asked and lower(held, last, len(m)) and not within:
                outcome = "lower"
            else:
                # Of a random model, the mean answer's gradients explain unsteady ones as well.
                clear = finding.id in CLEARED or (m.varies and finding.id == "C12")
                outcome = "cleared" if asked and clear else "open"
        done.append(replace(finding, settled=outcome))
    return done


def reported(m: Measurements, flag: str | None = None) -> float:
    """The share that stands under what a careful report would quote; where losses are in doubt, under PGD alone."""
    return m.share(m.plain_standing if flag in LOSSES | {"C8"} else m.white_box)

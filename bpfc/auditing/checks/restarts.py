"""C3: more restarts. If luck with the start decides, one start measures luck."""

from bpfc.auditing.finding import Check, Measured
from bpfc.auditing.measurements import Measurements

LIMIT = 0.02


def measure(m: Measurements) -> Measured:
    few, many = m.budget.restarts
    probe = m.pgd(f"pgd-{m.short}x{many}", m.short, step_size=0.25, restarts=many, on=m.plain_standing)
    gain = m.share(probe.broken & (probe.restart >= few))
    end = m.share(m.plain_standing & ~probe.broken)
    return Measured(gain > LIMIT + 1e-9, f"{end + gain:.1%} stand after {few} restarts, {end:.1%} after {many}", gain)


CHECK = Check(
    id="C3",
    title="more restarts",
    threshold="the last restarts gain more than 2 points",
    source="Carlini et al. 2019, section 4.9; the threshold is ours",
    needs="gradients",
    cost="restarts of short PGD on what PGD left",
    meaning="Each random start finds other images: the loss surface is rugged, or the answers are random.",
    next="more restarts; if gradients are unsteady too, their mean over near points",
    measure=measure,
)

"""C13: unfinished. An attack whose loss still rises when its steps are spent has not said its last word."""

from bpfc.auditing.finding import Check, Measured
from bpfc.auditing.measurements import Measurements

LIMIT, LATE, PART = 0.05, 0.25, 0.1


def measure(m: Measurements) -> Measured:
    seen = m.margins_along_pgd
    if not seen.shape[1]:
        return Measured(False, "no image stands", 0.0)
    steps = len(seen) - 1
    gained, whole = seen[-1] - seen[int((1 - LATE) * steps)], seen[-1] - seen[0]
    share = float((gained > PART * whole.clamp_min(1e-12)).float().mean())
    told = f"of {seen.shape[1]} images that stand, the margin of {share:.1%} still rises in the last quarter of"
    return Measured(share > LIMIT + 1e-9, f"{told} {steps} steps", share)


CHECK = Check(
    id="C13",
    title="finished optimisation",
    threshold="the last quarter brings over a tenth of the whole rise for more than 5 % of the images that stand",
    source="Pintor et al. 2022, indicator 4 (incomplete optimisation); a tenth and a quarter are ours",
    needs="gradients",
    cost="PGD on up to 100 images that stand",
    meaning="The steps are too few or too small: the figure is one of an attack that was stopped.",
    next="smaller steps, and more of them",
    measure=measure,
)

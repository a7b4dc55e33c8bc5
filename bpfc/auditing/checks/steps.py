"""C2: more steps. A figure that still falls when the steps are doubled is one of the attack, not of the model."""

from bpfc.auditing.finding import Check, Measured
from bpfc.auditing.measurements import Measurements

LIMIT = 0.005


def measure(m: Measurements) -> Measured:
    half, whole = m.budget.steps, 2 * m.budget.steps
    late = m.pgd_long.broken & (m.pgd_long.step > half)
    gain = m.share(late)
    end = m.share(m.standing(m.pgd_short, m.pgd_long))
    return Measured(
        gain > max(LIMIT, 1 / len(m)) + 1e-9,
        f"{end + gain:.1%} stand under {half} steps, {end:.1%} under {whole}",
        gain,
    )


CHECK = Check(
    id="C2",
    title="more steps",
    threshold="doubling the steps gains more than 0.5 points, and more than one image",
    source="Carlini et al. 2019, section 4.8; the threshold is ours",
    needs="gradients",
    cost="long PGD on the images that short PGD left",
    meaning="The attack was stopped early; the figure would have gone on falling.",
    next="smaller steps, and more of them",
    measure=measure,
)

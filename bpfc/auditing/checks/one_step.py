"""C1: one step against many. A step of ε along the gradient breaks no more than small steps do, if gradients tell."""

from bpfc.auditing.finding import Check, Measured
from bpfc.auditing.measurements import Measurements

LIMIT = 0.005


def measure(m: Measurements) -> Measured:
    one, many = m.share(m.standing(m.fgsm)), m.share(m.standing(m.pgd_short))
    gap = many - one
    return Measured(
        gap > max(LIMIT, 1 / len(m)) + 1e-9, f"{one:.1%} stand under FGSM, {many:.1%} under PGD-{m.short}", gap
    )


CHECK = Check(
    id="C1",
    title="one step against many",
    threshold="FGSM breaks more than PGD, by over 0.5 points and more than one image",
    source="Athalye et al. 2018, section 3.1; Carlini et al. 2019, section 5.2; the threshold is ours",
    needs="gradients",
    cost="one step, and short PGD",
    meaning="Small steps follow gradients that lead nowhere; figures of PGD say nothing.",
    next="the layer in which the gradient gets lost, and an attack around it",
    measure=measure,
)

"""C6: other losses. Cross-entropy vanishes where a model is very sure; margin and DLR do not."""

from bpfc.auditing.finding import Check, Measured
from bpfc.auditing.measurements import Measurements

LIMIT = 0.06


def measure(m: Measurements) -> Measured:
    entropy = m.share(m.standing(m.pgd_short, m.pgd_long))
    others = m.losses
    best = m.share(m.standing(m.pgd_short, m.pgd_long, *others.values()))
    each = ", ".join(f"{m.share(m.standing(probe)):.1%} on the {name}" for name, probe in list(others.items())[:2])
    told = f"{entropy:.1%} stand under PGD on the cross-entropy, {each}, {best:.1%} under all"
    return Measured(entropy - best > LIMIT + 1e-9, told, entropy - best)


CHECK = Check(
    id="C6",
    title="other losses",
    threshold="they take cross-entropy's figure down by more than 6 points",
    source="Croce and Hein 2020 (DLR), Carlini and Wagner 2017 (margin); the threshold is ours",
    needs="gradients",
    cost="two PGD, and a targeted one on what they left",
    meaning="The figure of PGD on the cross-entropy measures how that loss vanishes, not what the model withstands.",
    next="margin and targeted attacks on rescaled logits",
    measure=measure,
)

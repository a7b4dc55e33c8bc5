"""C4: accuracy over ε. A larger ball holds the smaller one, so that accuracy cannot rise."""

from itertools import pairwise

from bpfc.attacks import PGD
from bpfc.auditing.finding import Check, Measured
from bpfc.auditing.measurements import Measurements

FACTORS = (0.5, 2.0, 4.0)


def curve(m: Measurements) -> dict[float, float]:
    """By ε, the share that stands under PGD on the margin."""
    steps = 2 * m.short
    found = {m.eps: m.share(m.standing(m.losses["margin"]))}
    for factor in FACTORS:
        eps = factor * m.eps
        if eps < 1:
            probe = m.probe(f"pgd-margin-{steps} at {factor:g} ε", PGD(eps, eps / 8, steps, "margin"))
            found[eps] = m.share(m.standing(probe))
    return dict(sorted(found.items()))


def measure(m: Measurements) -> Measured:
    found = curve(m)
    shares = list(found.values())
    rise = max([later - sooner for sooner, later in pairwise(shares)], default=0.0)
    told = ", ".join(f"{share:.1%} at ε {eps:.4g}" for eps, share in found.items())
    return Measured(rise > max(0.01, 1 / len(m)) + 1e-9, told, rise)


CHECK = Check(
    id="C4",
    title="accuracy over ε",
    threshold="it rises by more than 1 point, and more than one image, where ε grows",
    source="Carlini et al. 2019, section 5.2; the threshold is ours",
    needs="gradients",
    cost="three PGD on the margin",
    meaning="The attack gets worse where it should get easier: it does not find what is there.",
    next="the layer in which the gradient gets lost, and an attack around it",
    measure=measure,
)

"""C15: an attacker who knows the regulariser. What training made alike, the attacker may make differ again."""

from bpfc.attacks import Adaptive
from bpfc.auditing.finding import Check, Measured
from bpfc.auditing.measurements import Measurements

LIMIT = 0.005


def measure(m: Measurements) -> Measured:
    if m.k is None:
        return Measured(None, "which bit planes the training left out is not known; say so with --k")
    attack = Adaptive(m.eps, m.eps / 8, m.short, m.k)
    probe = m.probe(f"adaptive-{m.short}", attack, on=m.white_box)
    share = m.share(probe.broken)
    told = f"it breaks {share:.1%} (of all images) that the plain losses left"
    return Measured(share > max(LIMIT, 1 / len(m)) + 1e-9, told, share)


CHECK = Check(
    id="C15",
    title="who knows the regulariser",
    threshold="it breaks more than 0.5 points that plain losses left, and more than one image",
    source="Addepalli et al. 2020 (adaptive attacks); the threshold is ours",
    needs="gradients, and the k of the training",
    cost="three PGD with two forwards a step on the images that gradients left",
    meaning="The robustness is against attackers who do not know how the model was trained.",
    next="the adaptive attack with more steps and samples",
    measure=measure,
)

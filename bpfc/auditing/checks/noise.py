"""C10: noise. Random points of the ball are the weakest attack there is."""

from bpfc.attacks import Noise
from bpfc.auditing.finding import Check, Measured
from bpfc.auditing.measurements import Measurements


def measure(m: Measurements) -> Measured:
    left, draws = m.white_box, m.budget.draws
    inside = m.probe(f"noise-{draws}", Noise(m.eps, draws), on=left)
    corners = m.probe(f"corners-{draws}", Noise(m.eps, draws, corners=True), on=left)
    share = m.share(inside.broken | corners.broken)
    told = f"random points and corners break {share:.1%} (of all images) that gradients left"
    return Measured(share > 0, told, share)


CHECK = Check(
    id="C10",
    title="random noise",
    threshold="it breaks any image that gradients left",
    source="Carlini et al. 2019, section 4.11",
    needs="the model's answers alone",
    cost="a forward a draw on the images that gradients left",
    meaning="Chance beats the gradients: they point nowhere.",
    next="an attack around the layer; a twin's gradients",
    measure=measure,
)

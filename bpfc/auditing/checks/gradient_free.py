"""C9: without gradients. Random search knows less than a gradient; where it finds more, the gradient is wrong."""

from bpfc.attacks import Square
from bpfc.auditing.finding import Check, Measured
from bpfc.auditing.measurements import Measurements

LIMIT = 0.002


def measure(m: Measurements) -> Measured:
    left = m.white_box
    probe = m.probe(f"square-{m.budget.queries}", Square(m.eps, m.budget.queries), on=left)
    share = m.share(probe.broken)
    told = f"Square breaks {share:.1%} (of all images) that gradients left"
    return Measured(share > max(LIMIT, 1 / len(m)) + 1e-9, told, share)


CHECK = Check(
    id="C9",
    title="gradient-free attack",
    threshold="it breaks more than 0.2 points that gradients left, and more than one image",
    source="Croce and Hein 2020; the threshold is that of AutoAttack's own warning",
    needs="the model's answers alone",
    cost="a forward a query on the images that gradients left",
    meaning="A search that knows nothing of the model beats its gradients: they are masked.",
    next="an attack around the layer; a twin's gradients; more queries",
    measure=measure,
)

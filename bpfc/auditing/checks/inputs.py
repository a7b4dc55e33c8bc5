"""C17: what was handed in. An ε in other units than the images makes any figure."""

from bpfc.auditing.finding import Check, Measured
from bpfc.auditing.measurements import Measurements
from bpfc.data import blocks

LIMIT = 0.05


def measure(m: Measurements) -> Measured:
    ends = [block.images.aminmax() for block in blocks(m.images, range(len(m)), m.batch_size)]
    low, high = min(float(each.min) for each in ends), max(float(each.max) for each in ends)
    told = f"finite images in [{low:.3g}, {high:.3g}], ε {m.eps:.4g}, labels that the model knows"
    return Measured(high <= LIMIT, told, high)


CHECK = Check(
    id="C17",
    title="what was handed in",
    threshold="no pixel is above 0.05, as after dividing by 255 twice (what is outside [0, 1] is refused)",
    source="ours",
    needs="the images",
    cost="none",
    meaning="ε and the images are in different units.",
    next="hand the images in as uint8, or in [0, 1], with the normalisation in the model",
    measure=measure,
)

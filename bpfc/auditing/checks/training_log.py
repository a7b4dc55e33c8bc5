"""C16: what the training showed. A network that overfits to one-step attacks does so at once, and is seen to."""

from bpfc.auditing.finding import Check, Measured
from bpfc.auditing.measurements import Measurements
from bpfc.training.overfitting import warning


def measure(m: Measurements) -> Measured:
    rows = [row for row in m.log if "gradient_alignment" in row]
    if not rows:
        return Measured(None, f"the log of the training {'tells no gradient alignment' if m.log else 'is not there'}")
    end = rows[-1]["gradient_alignment"]
    told = f"gradient alignment {rows[0]['gradient_alignment']:.2f} after the first epoch, {end:.2f} in the epoch kept"
    overfitted = warning(rows)
    return Measured(overfitted is not None, f"{told}; {overfitted}" if overfitted else told, end)


CHECK = Check(
    id="C16",
    title="gradients along training",
    threshold="alignment below 0.5, and PGD accuracy falls to half of its best or a tenth of FGSM's",
    source="Andriushchenko and Flammarion 2020; Wong et al. 2020; the thresholds are those of bpfc train's own warning",
    needs="a run, with its log",
    cost="none",
    meaning="The network has learned to answer one-step attacks alone (catastrophic overfitting).",
    next="PGD with many steps; no figure of FGSM",
    measure=measure,
)

"""C11: transfer. Gradients of another network should not serve an attacker better than the model's own."""

from bpfc.attacks import PGD
from bpfc.auditing.finding import Check, Measured
from bpfc.auditing.measurements import Measurements
from bpfc.auditing.stand_ins import Through

LIMIT = 0.005


def measure(m: Measurements) -> Measured:
    steps = 2 * m.short
    attack = Through(PGD(m.eps, m.eps / 8, steps, "margin"), m.twin, alike=False)
    probe = m.probe(f"pgd-margin-{steps} on a twin", attack, on=m.white_box)
    share = m.share(probe.broken)
    told = f"a twin's gradients break {share:.1%} (of all images) that the model's own left"
    return Measured(share > max(LIMIT, 1 / len(m)) + 1e-9, told, share)


CHECK = Check(
    id="C11",
    title="transfer from a twin",
    threshold="it breaks more than 0.5 points that the model's own gradients left, and more than one image",
    source="Athalye et al. 2018, section 3.1; Papernot et al. 2017 (the twin); the threshold is ours",
    needs="the model's answers alone",
    cost="a brief training, and PGD on the images that gradients left",
    meaning="A network that merely imitates the model serves the attacker better than the model: it is masked.",
    next="an attack around the layer; a twin that is trained longer",
    measure=measure,
)

"""C5: without a bound. Within ε = 1 every image is every other one, so that nothing can stand."""

import torch

from bpfc.attacks import PGD, Behind, ImageRng
from bpfc.auditing.finding import Check, Measured
from bpfc.auditing.measurements import Measurements
from bpfc.judge import exact_logits


def measure(m: Measurements) -> Measured:
    if _is_constant(m):
        return Measured(None, "the model answers all it sees with one class, which nothing changes")
    steps = 2 * m.short
    entropy = m.probe(f"pgd-{steps} at ε 1", PGD(1.0, 0.1, steps))
    margin = m.probe(f"pgd-margin-{steps} at ε 1", PGD(1.0, 0.1, steps, "margin"), on=m.standing(entropy))
    stands = m.standing(entropy, margin)
    if m.front is not None:  # whose flat parts let no gradient through, which is no secret
        attack = Behind(1.0, steps)
        stands = stands & ~m.probe(f"behind-{steps} at ε 1", attack, on=stands, through=m.front[1]).broken
    share = m.share(stands)
    return Measured(share > 0, f"{share:.1%} stand at ε 1", share)


def _is_constant(m: Measurements) -> bool:
    """Whether it gives one class to the images, to their negatives, to noise, black and white."""
    images, _ = m.some(slice(64))
    noise = ImageRng(m.seed, range(len(images))).uniform(images).add(1).div(2)
    seen = torch.cat([images, 1 - images, noise, torch.zeros_like(images[:1]), torch.ones_like(images[:1])])
    return len(exact_logits(m.model, seen).argmax(dim=1).unique()) < 2


CHECK = Check(
    id="C5",
    title="without a bound",
    threshold="any image stands",
    source="Athalye et al. 2018, section 3.1; Carlini et al. 2019, section 5.3",
    needs="gradients",
    cost="PGD on cross-entropy and margin, which ends soon where it works; behind a curve in front, if there is one",
    meaning="The attack fails where success is certain: it is the attack that is measured, not the model.",
    next="the layer in which the gradient gets lost, and an attack around it",
    measure=measure,
)

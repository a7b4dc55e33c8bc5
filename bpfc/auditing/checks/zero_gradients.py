"""C8: no gradient. Where it is zero or not finite, gradient attacks do not move, and the image counts as robust."""

import torch

from bpfc.attacks.ascent import input_gradient
from bpfc.attacks.objectives import cross_entropy, margin
from bpfc.auditing.finding import Check, Measured
from bpfc.auditing.measurements import Measurements
from bpfc.auditing.stand_ins import Ungraded


def measure(m: Measurements) -> Measured:
    if isinstance(m.plain, Ungraded):
        return Measured(True, "the model lets no gradient through", 1.0)
    told, worst = [], 0.0
    for objective, name in ((cross_entropy, "cross-entropy"), (margin, "margin")):
        useless = torch.zeros(len(m), dtype=torch.bool, device=m.labels.device)
        for at in torch.arange(len(m), device=m.labels.device).split(m.batch_size):
            gradient, _ = input_gradient(m.plain, *m.some(at), objective)
            flat = gradient.flatten(1)
            useless[at] = ~torch.isfinite(flat).all(dim=1) | (flat == 0).all(dim=1)
        share = m.share(useless & m.right)
        told.append(f"{share:.1%} by the {name}")
        worst = max(worst, share)
    return Measured(worst > 0, f"images whose gradient is zero or not finite: {', '.join(told)}", worst)


CHECK = Check(
    id="C8",
    title="zero gradients",
    threshold="any image that is classified rightly has none",
    source="Athalye et al. 2018; Pintor et al. 2022, indicator 1 (unavailable gradients)",
    needs="the model",
    cost="two gradients an image",
    meaning="Gradient attacks cannot move these images: that they stand is no merit of the model.",
    next="the layer in which the gradient gets lost, and an attack around it",
    measure=measure,
)

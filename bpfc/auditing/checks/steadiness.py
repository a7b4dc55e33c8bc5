"""C12: steadiness. A gradient that is another one a tenth of ε further on tells nothing about the ball."""

import torch
import torch.nn.functional as F

from bpfc.attacks import ImageRng
from bpfc.attacks.ascent import input_gradient
from bpfc.attacks.objectives import margin
from bpfc.auditing.finding import Check, Measured
from bpfc.auditing.measurements import Measurements
from bpfc.auditing.stand_ins import Ungraded

LIMIT, NEAR, LIKE = 0.1, 0.1, 0.5


def measure(m: Measurements) -> Measured:
    if isinstance(m.plain, Ungraded):
        return Measured(None, "there is no gradient to look at")
    unsteady = torch.zeros(len(m), dtype=torch.bool, device=m.labels.device)
    for at in torch.arange(len(m), device=m.labels.device).split(m.batch_size):
        images, labels = m.some(at)
        near = (images + NEAR * m.eps * ImageRng(m.seed, at.tolist()).uniform(images)).clamp(0, 1)
        here, there = (input_gradient(m.plain, x, labels, margin)[0].flatten(1) for x in (images, near))
        unsteady[at] = F.cosine_similarity(here, there).nan_to_num(nan=0.0) < LIKE
    share = m.share(unsteady)
    return Measured(share > LIMIT + 1e-9, f"{share:.1%} of the images have another gradient ε/10 away", share)


CHECK = Check(
    id="C12",
    title="steady gradients",
    threshold="at ε/10 from more than 10 % of the images the gradient's cosine with that at the image is below 0.5",
    source="after Pintor et al. 2022, indicator 2 (unstable predictions); the thresholds are ours",
    needs="gradients",
    cost="two gradients an image",
    meaning="The surface is rugged or random; a step along the gradient is a step anywhere.",
    next="for a random model the mean of many answers; an attack around the layer",
    measure=measure,
)

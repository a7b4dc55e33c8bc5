"""C13: unfinished. An attack whose loss still rises when its steps are spent has not said its last word."""

import torch
from torch import Tensor

from bpfc.attacks import PGD, ImageRng
from bpfc.attacks.objectives import margins
from bpfc.auditing.finding import Check, Measured
from bpfc.auditing.measurements import Measurements

LIMIT, LATE, PART, MOST = 0.05, 0.25, 0.1, 100


def measure(m: Measurements) -> Measured:
    at = m.white_box.nonzero()[:MOST, 0]
    if not len(at):
        return Measured(False, "no image stands", 0.0)
    steps = 2 * m.short
    images, labels = m.images[at], m.labels[at]
    best = torch.full((steps, len(at)), -torch.inf, device=at.device)

    def watch(positions: Tensor, candidates: Tensor, logits: Tensor, step: int) -> Tensor:
        best[step, positions] = margins(logits, labels[positions])
        return torch.zeros_like(positions, dtype=torch.bool)

    attack = PGD(m.eps, m.eps / 8, steps, "margin")
    attack(m.plain, images, labels, ImageRng(m.seed, at.tolist()), watch)
    best = best.cummax(dim=0).values
    late = int((1 - LATE) * steps)
    clean = margins(m.logits[at], labels)
    gained, whole = best[-1] - best[late - 1], best[-1] - clean
    share = float((gained > PART * whole.clamp_min(1e-12)).float().mean())
    told = f"of {len(at)} images that stand, the margin of {share:.1%} still rises in the last quarter of {steps} steps"
    return Measured(share > LIMIT + 1e-9, told, share)


CHECK = Check(
    id="C13",
    title="finished optimisation",
    threshold="the last quarter brings over a tenth of the whole rise for more than 5 % of the images that stand",
    source="Pintor et al. 2022, indicator 4 (incomplete optimisation); a tenth and a quarter are ours",
    needs="gradients",
    cost="PGD on up to 100 images that stand",
    meaning="The steps are too few or too small: the figure is one of an attack that was stopped.",
    next="smaller steps, and more of them",
    measure=measure,
)

"""The verdict: whether a perturbed image breaks a network. Attacks propose, this decides."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bpfc.attacks import Attack, Rng

SLACK = 1e-6
"""By how much a perturbation may exceed ε: the rounding of x + ε in float32."""


def exact_logits(model: nn.Module, images: Tensor) -> Tensor:
    """Logits in float32 without gradients, whatever precision is in force around the call."""
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        return model(images.float()).float()


@dataclass
class Judge:
    """Verdicts on perturbed versions of `images`, for one run of an attack. The model must be in eval mode.

    An image is broken by a candidate that is finite, in the box [0, 1], within ε in ℓ∞ (to 1e-6), and that an
    independent float32 forward takes for another class. The first such candidate counts.

    Attributes:
        model: from images to logits, in eval mode.
        images: clean, float32, (N, C, H, W) in [0, 1].
        labels: (N,).
        eps: ℓ∞ radius, in units of [0, 1].
        broken: (N,) bool, so far.
        step: (N,) after how many steps of the attack the image was broken; −1 where it is not.
        linf, l2: (N,) the distance of the candidate that broke the image; NaN where none has.
    """

    model: nn.Module
    images: Tensor
    labels: Tensor
    eps: float
    broken: Tensor = field(init=False)
    step: Tensor = field(init=False)
    linf: Tensor = field(init=False)
    l2: Tensor = field(init=False)

    def __post_init__(self) -> None:
        count, device = len(self.images), self.images.device
        self.broken = torch.zeros(count, dtype=torch.bool, device=device)
        self.step = torch.full((count,), -1, device=device)
        self.linf = torch.full((count,), torch.nan, device=device)
        self.l2 = torch.full((count,), torch.nan, device=device)

    def watch(self, positions: Tensor, candidates: Tensor, logits: Tensor, step: int) -> Tensor:
        """For attacks: verdicts on iterates. The attack's own logits, perhaps in low precision, only say which of them
        are worth a forward of ours."""
        claimed = logits.argmax(dim=1) != self.labels[positions]
        if claimed.any():
            self.judge(positions[claimed], candidates[claimed], step)
        return self.broken[positions]

    def judge(self, positions: Tensor, candidates: Tensor, step: int) -> None:
        """Records which of the images at `positions` are broken by the candidates."""
        delta = (candidates - self.images[positions]).flatten(1)
        linf = delta.abs().amax(dim=1)  # NaN where a candidate holds one, so no comparison with it holds
        inside = (candidates.flatten(1).amin(dim=1) >= 0) & (candidates.flatten(1).amax(dim=1) <= 1)
        legal = inside & (linf <= self.eps + SLACK) & ~self.broken[positions]
        positions, candidates, delta, linf = (part[legal] for part in (positions, candidates, delta, linf))
        if not len(positions):
            return
        wrong = exact_logits(self.model, candidates).argmax(dim=1) != self.labels[positions]
        hit = positions[wrong]
        self.broken[hit] = True
        self.step[hit] = step
        self.linf[hit] = linf[wrong]
        self.l2[hit] = delta[wrong].norm(dim=1)


def run_attack(
    model: nn.Module, images: Tensor, labels: Tensor, attack: Attack, rng: Rng, *, any_iterate: bool = True
) -> Judge:
    """One run of an attack on images, judged: every iterate, or (`any_iterate=False`) the last one alone with no image
    dropped on the way. The model must be in eval mode."""
    judge = Judge(model, images, labels, attack.eps)
    perturbed = attack(model, images, labels, rng, judge.watch if any_iterate else None)
    judge.judge(torch.arange(len(images), device=images.device), perturbed, attack.steps)
    return judge

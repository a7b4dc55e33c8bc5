"""Random points of the ε-ball, or of its corners: what no gradient has anything to do with."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from bpfc.attacks.base import Norm, Rng, Watch, check_call, check_count, check_radius
from bpfc.wrappers import logits_of


@dataclass(frozen=True)
class Noise:
    """`draws` random points each image, in the ℓ∞-ball or (`corners`) with every pixel moved by ε or −ε."""

    eps: float
    draws: int
    corners: bool = False
    norm: ClassVar[Norm] = "linf"
    forwards: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_radius(eps=self.eps)
        check_count(draws=self.draws)

    @property
    def steps(self) -> int:
        return self.draws

    @torch.no_grad()
    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        check_call(model, images, rng)
        active = torch.arange(len(images), device=images.device)
        perturbed = images.clone()
        for draw in range(self.draws):
            noise = rng[active].uniform(images[active], draw)
            if self.corners:
                noise = noise.sign()
            perturbed[active] = (images[active] + self.eps * noise).clamp(0, 1)
            if watch is not None and draw + 1 < self.draws:  # the last is judged by whoever called
                candidates = perturbed[active]
                active = active[~watch(active, candidates, logits_of(model, candidates), draw + 1)]
                if not len(active):
                    break
        return perturbed

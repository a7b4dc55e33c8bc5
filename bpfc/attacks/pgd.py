"""PGD in the ℓ∞-ball (Madry et al. 2018): random start U(−ε, ε), steps of a fixed length."""

from dataclasses import dataclass

from torch import Tensor, nn

from bpfc.attacks.base import Rng, Watch, check_radius, sign_ascent


@dataclass(frozen=True)
class PGD:
    """Projected gradient ascent on the cross-entropy.

    The start is not clipped to the box before the first gradient, as in the paper's scripts.
    """

    eps: float
    step: float
    steps: int

    def __post_init__(self) -> None:
        check_radius(eps=self.eps, step=self.step)
        if self.steps < 1:
            raise ValueError(f"steps={self.steps!r}: must be 1 or more")

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        start = images + self.eps * rng.uniform(images)
        return sign_ascent(model, images, labels, start, eps=self.eps, step=self.step, steps=self.steps, watch=watch)

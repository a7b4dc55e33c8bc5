"""I-FGSM (Kurakin et al. 2017) as the paper's scripts run it: steps of ε / steps, no random start."""

from dataclasses import dataclass

from torch import Tensor, nn

from bpfc.attacks.base import Rng, Watch, check_radius, sign_ascent


@dataclass(frozen=True)
class IFGSM:
    """FGSM in `steps` steps of equal length that add up to ε."""

    eps: float
    steps: int

    def __post_init__(self) -> None:
        check_radius(eps=self.eps)
        if self.steps < 1:
            raise ValueError(f"steps={self.steps!r}: must be 1 or more")

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        step = self.eps / self.steps
        return sign_ascent(model, images, labels, images, eps=self.eps, step=step, steps=self.steps, watch=watch)

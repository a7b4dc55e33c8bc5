"""I-FGSM (Kurakin et al. 2017) as the paper's scripts run it: steps of ε / steps, no random start."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from bpfc.attacks.ascent import projected_ascent
from bpfc.attacks.balls import ball
from bpfc.attacks.base import Norm, Rng, Watch, check_call, check_count, check_radius


@dataclass(frozen=True)
class IFGSM:
    """FGSM in `steps` steps of equal length that add up to ε."""

    eps: float
    steps: int
    norm: ClassVar[Norm] = "linf"
    forwards: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_radius(eps=self.eps)
        check_count(steps=self.steps)

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        check_call(model, images, rng)
        inside = ball(self.norm, self.eps)
        return projected_ascent(
            model,
            images,
            labels,
            images,
            ball=inside,
            step_size=self.eps / self.steps,
            steps=self.steps,
            watch=watch,
        )

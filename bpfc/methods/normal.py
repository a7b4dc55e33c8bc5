"""Normal training: cross-entropy on the clean images, the baseline of every table."""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch.nn.functional as F
from torch import Tensor, nn

from bpfc.methods.base import MethodOutput
from bpfc.wrappers import logits_of


@dataclass(frozen=True)
class Normal:
    """Cross-entropy on the clean images."""

    name: ClassVar[str] = "normal"

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> MethodOutput:
        logits = logits_of(model, images)
        loss = F.cross_entropy(logits, labels)
        return MethodOutput(loss, logits, {"cross_entropy": loss.detach()})

    def weighted(self, factor: float) -> Self:
        """Unchanged: there is no regulariser to weigh."""
        return self

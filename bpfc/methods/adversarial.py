"""Adversarial training on one attack's images: FGSM-AT (Goodfellow 2015), R-FGSM-AT (Tramèr 2018), PGD-AT (Madry 2018).

The images are made in eval mode, so that making them moves no batch statistics; the loss is taken in train mode.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch.nn.functional as F
from torch import Tensor, nn

from bpfc.attacks import FGSM, PGD, RFGSM, Attack, BatchRng
from bpfc.attacks.base import check_radius
from bpfc.methods.base import MethodOutput
from bpfc.modes import eval_mode
from bpfc.wrappers import logits_of


class _OnAdversaries:
    """Cross-entropy on the images that the attack makes."""

    eps: float

    def __post_init__(self) -> None:
        check_radius(eps=self.eps)
        self.attack()  # raises on a wrong length or number of its steps

    def attack(self) -> Attack:
        raise NotImplementedError

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> MethodOutput:
        """The loss; the logits are those of the adversarial images."""
        with eval_mode(model):
            adversaries = self.attack()(model, images, labels, BatchRng())
        logits = logits_of(model, adversaries)
        loss = F.cross_entropy(logits, labels)
        return MethodOutput(loss, logits, {"cross_entropy": loss.detach()})

    def weighted(self, factor: float) -> Self:
        """Unchanged: there is no regulariser to weigh."""
        return self


@dataclass(frozen=True)
class FGSMAT(_OnAdversaries):
    """Cross-entropy on FGSM images, no random start: known to overfit to FGSM (PGD accuracy 0), as the paper shows."""

    eps: float = 8 / 255
    """ℓ∞ radius, in units of [0, 1]."""
    name: ClassVar[str] = "fgsm-at"

    def attack(self) -> Attack:
        return FGSM(self.eps)


@dataclass(frozen=True)
class RFGSMAT(_OnAdversaries):
    """Cross-entropy on R-FGSM images: half of ε at random, half along the gradient's sign."""

    eps: float = 8 / 255
    """ℓ∞ radius, in units of [0, 1]."""
    name: ClassVar[str] = "r-fgsm-at"

    def attack(self) -> Attack:
        return RFGSM(self.eps / 2, self.eps / 2)


@dataclass(frozen=True)
class PGDAT(_OnAdversaries):
    """Cross-entropy on PGD images."""

    eps: float = 8 / 255
    """ℓ∞ radius, in units of [0, 1]."""
    step_size: float = 2 / 255
    """Length of a step, likewise."""
    steps: int = 7
    """Steps an image."""
    name: ClassVar[str] = "pgd-at"

    def attack(self) -> Attack:
        return PGD(self.eps, self.step_size, self.steps)

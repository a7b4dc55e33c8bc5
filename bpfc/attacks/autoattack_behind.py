"""AutoAttack's parts behind a tone curve: on the box that the curve makes of the ball."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from bpfc.attacks.autoattack import AutoAttackPart, Part
from bpfc.attacks.base import Norm, Rng, Watch, check_call, check_radius
from bpfc.models.curve import behind


class OnBox(nn.Module):
    """The network on one image's box, from t in [0, 1]: u = lower + (upper − lower) t. Any number of t at once."""

    def __init__(self, network: nn.Module, lower: Tensor, upper: Tensor) -> None:
        super().__init__()
        self.network, self.lower, self.upper = network, lower, upper

    def at(self, t: Tensor) -> Tensor:
        return torch.lerp(self.lower, self.upper, t).clamp(self.lower, self.upper)

    def forward(self, t: Tensor) -> Tensor:
        logits: Tensor = self.network(self.at(t))
        return logits


@dataclass(frozen=True)
class AutoAttackBehind:
    """One part by the authors' code, where no gradient is lost to the curve's flat parts.

    All of the box is the ball of radius 1/2 around t = 1/2, so that their clipping to [0, 1] is the box's own. They
    start from its middle, which is itself an image of the ball: where the network is wrong there, it is what comes
    back. What they find comes back as the nearest image that the curve answers with it, and is judged in x like any
    other attack's. Image by image, because their code lets images leave the batch and the boxes could not follow:
    slow, and meant for the images that neither a certificate nor a faster attack has settled.
    """

    eps: float
    """ℓ∞ radius before the curve, in units of [0, 1]."""
    part: Part
    norm: ClassVar[Norm] = "linf"
    steps: ClassVar[None] = None
    forwards: ClassVar[None] = None

    def __post_init__(self) -> None:
        check_radius(eps=self.eps)

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        """Raises ValueError if the model has no tone curve in front."""
        check_call(model, images, rng)
        found = behind(model)
        if found is None:
            raise ValueError(f"{type(model).__name__}: has no tone curve in front; aa-{self.part} attacks in x")
        curve, network = found
        attack, results = AutoAttackPart(0.5, self.part), []
        for place in torch.arange(len(images), device=images.device).split(1):
            image, label = images[place], labels[place]
            box = OnBox(network, *curve.image(image, self.eps))
            t = torch.full_like(image, 0.5)
            with torch.no_grad():
                right = box(t).argmax(dim=1) == label
            if right:
                t = attack(box, t, label, rng[place])
            results.append(curve.preimage(box.at(t), image, self.eps))
        return torch.cat(results)

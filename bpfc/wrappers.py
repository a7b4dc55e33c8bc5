"""Models wrapped so that an attack meets a defence at its strongest: BPDA and EOT (Athalye et al. 2018)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class BPDA(nn.Module):
    """A layer as it is on the way forward, differentiated as its stand-in on the way back.

    For a layer whose gradient is zero or missing, such as rounding or JPEG: put it in the layer's place, between the
    images and the network. `layer` keeps the shape of its input unless a stand-in is given that changes it alike.
    """

    def __init__(self, layer: Callable[[Tensor], Tensor], stand_in: Callable[[Tensor], Tensor] | None = None) -> None:
        """`stand_in`: differentiable and near the layer; the identity unless given."""
        super().__init__()
        self.layer = layer
        self.stand_in = stand_in

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            exact = self.layer(images)
        near = images if self.stand_in is None else self.stand_in(images)
        if near.shape != exact.shape:
            raise ValueError(
                f"the layer gives {tuple(exact.shape)}, its stand-in {tuple(near.shape)}: must be the same shape"
            )
        return near + (exact - near).detach()


class EOT(nn.Module):
    """A model with randomness in it, answering with its mean logits over `samples` forwards.

    Attacks differentiate the mean and draw anew each step; the judge's verdict, on the mean as well, draws from a fixed
    seed, so that it can be repeated.
    """

    def __init__(self, model: nn.Module, samples: int = 20) -> None:
        super().__init__()
        if samples < 2:
            raise ValueError(f"samples={samples!r}: must be 2 or more, to average over")
        self.model = model
        self.samples = samples

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([self.model(images) for _ in range(self.samples)]).mean(dim=0)


def is_random(model: nn.Module) -> bool:
    """Whether the model is said to answer differently each time."""
    return any(isinstance(module, EOT) for module in model.modules())

"""Models wrapped: so that an attack meets a defence at its strongest (BPDA and EOT, Athalye et al. 2018), and so that
what answers otherwise answers with logits."""

from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor, fx, nn


def with_hooks(model: nn.Module) -> nn.Module:
    """The model; one of TorchScript inside another module, for scripts take no hooks themselves."""
    for module in model.modules():
        if not hasattr(module, "training"):  # torch.jit.freeze takes it away: such a script is in eval mode for good
            module.__dict__["training"] = False
    if not isinstance(model, torch.jit.ScriptModule):
        return model
    return nn.Sequential(model).train(model.training)


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
    seed for each image by itself, so that it can be repeated and does not depend on the batch.
    """

    def __init__(self, model: nn.Module, samples: int = 20) -> None:
        super().__init__()
        if samples < 2:
            raise ValueError(f"samples={samples!r}: must be 2 or more, to average over")
        self.model = model
        self.samples = samples

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([self.model(images) for _ in range(self.samples)]).mean(dim=0)


class Logits(nn.Module):
    """A model that answers with its logits alone, whatever the one inside wraps them in.

    That may answer with an object that has `.logits` (Hugging Face's image classifiers), a dictionary that has "logits"
    or "out", a tuple or list that begins with them, or one logit an image, (N,) or (N, 1), that is above 0 for class 1;
    of this z it makes (0, z), whose softmax is the sigmoid of z.

        bpfc.evaluate(bpfc.Logits(model).eval(), images, labels, eps=8 / 255)
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits (N, classes), 2 classes or more.

        Raises:
            TypeError: no logits are found in the answer.
        """
        answer = self.model(images)
        if isinstance(answer, Mapping):
            answer = next((answer[name] for name in ("logits", "out") if name in answer), None)
        elif not isinstance(answer, fx.Proxy) and hasattr(answer, "logits"):  # a proxy has whatever it is asked for
            answer = answer.logits
        elif isinstance(answer, tuple | list) and answer:
            answer = answer[0]
        if isinstance(answer, fx.Proxy):  # bpfc.certify reads the network so, and compares what it gives
            return cast(Tensor, answer)
        if not isinstance(answer, Tensor):
            raise TypeError("the model's answer has neither .logits, nor 'logits' or 'out', nor begins with a tensor")
        one = answer.flatten()
        return torch.stack([torch.zeros_like(one), one], dim=1) if len(one) == len(images) else answer


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """The model's answer in float32.

    Raises:
        TypeError: it is no tensor; the message names the wrapper that finds the logits in it.
    """
    answer = model(images)
    if not isinstance(answer, Tensor):
        raise TypeError(
            f"the model gives a {type(answer).__name__}, must give logits; if they are in there, wrap it: "
            "bpfc.Logits(model)"
        )
    return answer.float()


def is_random(model: nn.Module) -> bool:
    """Whether the model is said to answer differently each time."""
    return any(isinstance(module, EOT) for module in model.modules())

"""Whether gradients tell an attack anything where it starts."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bpfc.attacks.ascent import input_gradient
from bpfc.checks import first_line
from bpfc.data import AnyImages, to_float
from bpfc.ledger import Blind
from bpfc.machine import float32
from bpfc.models import behind
from bpfc.modes import own_randomness


def blind_at_start(
    model: nn.Module, images: Tensor, labels: Tensor, *, past_curve: bool = False
) -> Sequence[Blind | None]:
    """For each image, what is wrong with the gradient of cross-entropy at it, in float32; None where nothing is.

    Zero means every value of it: no step by gradients leaves the image. NaN or infinite means one value or more. With
    `past_curve` it is the gradient by what the tone curve in front answers, if there is one: where the curve is flat,
    attacks from behind it lose nothing.

    Raises:
        ValueError: no gradient comes through the model at all.
    """
    if not len(images):
        return []
    with float32(), torch.autocast(images.device.type, enabled=False), own_randomness(images.device, seed=0):
        images = images.float()
        if past_curve and (found := behind(model)) is not None:
            curve, model = found
            images = curve(images)
        gradient, _ = input_gradient(model, images, labels)
    flat = gradient.flatten(1)
    zero, finite = (flat == 0).all(dim=1).tolist(), torch.isfinite(flat).all(dim=1).tolist()
    return ["zero" if nothing else None if sound else "not_finite" for nothing, sound in zip(zero, finite, strict=True)]


def check_gradient(model: nn.Module, images: AnyImages) -> None:
    """Raises ValueError for a model that attacks by gradients cannot work on at all, with the way out."""
    some = images[:1]
    try:
        blind_at_start(model, to_float(some.pixels).clone(), some.labels.long())
    except RuntimeError as error:
        raise ValueError(
            f"the model fails where its gradient is asked for: {first_line(error)}; attack it without (noise-100, "
            "square-5000, spsa-100), or wrap the layer in bpfc.BPDA"
        ) from error

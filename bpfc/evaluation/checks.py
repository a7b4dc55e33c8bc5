"""What would make the figures wrong in silence, refused before any work."""

import torch
from torch import Tensor, nn

from bpfc.data import Images, to_float
from bpfc.judge import exact_logits
from bpfc.wrappers import is_random


def check(model: nn.Module, handed: Images) -> None:
    """Raises ValueError for a model or images of which no figure could be trusted (see `bpfc.evaluate`)."""
    if in_train_mode(model):
        raise ValueError("the model is in train mode: its answers would depend on the batch; call model.eval() first")
    logits = check_form(model, handed)
    if are_probabilities(logits):
        raise ValueError(
            "the model gives probabilities: their gradients vanish where it is sure, and attacks fail for no merit of "
            "its own; leave out the softmax at its end"
        )
    if not is_random(model) and answers_vary(model, handed):
        raise ValueError(
            "the model answers differently to the same images twice: attack its mean answer, with --eot 20 on the "
            "command line, or wrapped as bpfc.EOT(model, samples=20)"
        )


def check_form(model: nn.Module, handed: Images) -> Tensor:
    """The model's answers to the first images (up to 32), logits as far as one can tell.

    Raises:
        ValueError: images, labels or answers have not the shape, the type or the range that `bpfc.evaluate` asks for.
    """
    images, labels = handed.pixels, handed.labels
    if images.ndim != 4 or images.dtype not in (torch.uint8, torch.float32) or not len(images):
        raise ValueError(
            f"images of shape {tuple(images.shape)}, {images.dtype}: must be float32 or uint8 (N, C, H, W), N ≥ 1"
        )
    if images.dtype == torch.float32:
        _check_floats(images)
    if labels.shape != (len(images),) or labels.is_floating_point():
        raise ValueError(f"labels of shape {tuple(labels.shape)}, {labels.dtype}: must be one integer for each image")
    some = _some(handed)
    logits = exact_logits(model, some)
    if logits.ndim != 2 or logits.shape[0] != len(some) or logits.shape[1] < 2:
        raise ValueError(
            f"the model gives shape {tuple(logits.shape)} for {len(some)} images: must be ({len(some)}, classes), "
            "classes ≥ 2"
        )
    if not torch.isfinite(logits).all():
        raise ValueError("the model gives NaN or infinite logits on the first images; check its weights")
    if int(labels.min()) < 0 or int(labels.max()) >= logits.shape[1]:
        raise ValueError(
            f"labels lie in {int(labels.min())} … {int(labels.max())}, but the model knows {logits.shape[1]} classes"
        )
    return logits


def in_train_mode(model: nn.Module) -> bool:
    """Whether any layer is."""
    return any(module.training for module in model.modules())


def are_probabilities(logits: Tensor) -> bool:
    """Whether they are none below 0, and sum to 1 for each image."""
    return bool((logits >= 0).all()) and bool(((logits.sum(dim=1) - 1).abs() < 1e-4).all())


def answers_vary(model: nn.Module, handed: Images) -> bool:
    """Whether the model answers differently to the same images twice."""
    some = _some(handed)
    return not torch.allclose(exact_logits(model, some), exact_logits(model, some), rtol=1e-4, atol=1e-5)


def _some(handed: Images) -> Tensor:
    return to_float(handed.pixels[:32])


def _check_floats(images: Tensor) -> None:
    if not torch.isfinite(images).all():
        count = int((~torch.isfinite(images)).flatten(1).any(dim=1).sum())
        raise ValueError(f"{count} of {len(images)} images hold NaN or infinite values; remove or mend them")
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        raise ValueError(
            f"images lie in [{low:.4g}, {high:.4g}]: must be in [0, 1]; "
            "divide by 255, and put any normalisation into the model"
        )

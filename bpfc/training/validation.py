"""A look at held-out images after each epoch: accuracy, I-FGSM, and the signs of catastrophic overfitting."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bpfc.attacks import IFGSM, ImageRng
from bpfc.data import AnyImages, to_float
from bpfc.judge import exact_logits, run_attack
from bpfc.machine import autocast
from bpfc.modes import eval_mode
from bpfc.options import Arithmetic
from bpfc.training.overfitting import WATCHED, signs
from bpfc.training.settings import Settings

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def validate(
    fabric: "Fabric",
    recipe: Settings,
    model: nn.Module,
    validation: AnyImages,
    precision: Arithmetic,
    layout: torch.memory_format,
) -> dict[str, float]:
    """Shares of the validation images: right as they are, and under the recipe's I-FGSM (any iterate counts).

    And, on the first of them, the signs of catastrophic overfitting.
    """
    attack = IFGSM(recipe.eps, recipe.ifgsm_steps)
    counts = torch.zeros(5, device=fabric.device)
    mine = torch.arange(fabric.global_rank, len(validation), fabric.world_size)
    with eval_mode(model):
        for indices in mine.split(256):
            batch = validation[indices.to(fabric.device)]
            images = as_seen(batch, layout)
            right = exact_logits(model, images).argmax(dim=1) == batch.labels
            if not right.any():
                continue
            rng = ImageRng(recipe.seed, indices[right.cpu()].tolist())
            with autocast(fabric.device, precision):
                judge = run_attack(model, images[right], batch.labels[right], attack, rng)
            counts[:2] += torch.stack([right.sum(), (~judge.broken).sum()])
        watched = validation[mine[mine < WATCHED].to(fabric.device)]
        with autocast(fabric.device, precision):
            rng = ImageRng(recipe.seed, mine[mine < WATCHED].tolist())
            counts[2:] += signs(model, as_seen(watched, layout), watched.labels, recipe.eps, rng)
    clean, robust, fgsm, pgd, alignment = total(fabric, counts).tolist()
    number = min(WATCHED, len(validation))
    return {
        "validation_accuracy": clean / len(validation),
        "validation_ifgsm_accuracy": robust / len(validation),
        "watched_fgsm_accuracy": fgsm / number,
        "watched_pgd_accuracy": pgd / number,
        "gradient_alignment": alignment / number,
    }


def as_seen(images: AnyImages, layout: torch.memory_format) -> Tensor:
    """Images as the network sees them."""
    return to_float(images.pixels).contiguous(memory_format=layout)


def total(fabric: "Fabric", values: Tensor) -> Tensor:
    """The sum over all processes."""
    summed = fabric.all_reduce(values, reduce_op="sum")
    assert isinstance(summed, Tensor)
    return summed

"""Trainings that come to nothing: a loss or weights that are not finite, and a network that answers alike to all."""

from collections.abc import Sequence
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from bpfc.errors import UserError

SOON = 150
"""Steps before which a network may still stand at chance. A run that ends sooner is warned, not stopped."""


class TrainingError(UserError):
    """What happened, and which state is good still. What to do is said by the verb, which knows its own options."""


def check_finite(total: Tensor, what: str, where: str, kept: str) -> None:
    """Raises TrainingError unless the tensor, a sum, is finite."""
    if not torch.isfinite(total).all():
        raise TrainingError(f"{what} no longer finite ({where}): {kept}")


def collapse(log: Sequence[dict[str, Any]], labels: Tensor, validated: int, epochs: int) -> str | None:
    """What to say of a network that has collapsed to constant logits; None of one that has not.

    It has where it does no better than one class for all images would, after it had been better, or still after a third
    of the run. Both accuracies must say so: that in training may be one on adversarial images, and falls below chance
    without any collapse. In the last epoch validation decides alone, for training is the whole epoch's.

    Args:
        log: a row for each epoch so far, with `train_accuracy` and `validation_accuracy`.
        labels: of the training images, (N,).
        validated: how many validation images there are.
        epochs: of the whole run.
    """
    share = labels.bincount().max().item() / len(labels)

    def chance(count: int) -> float:
        return share + 0.02 + 3 * sqrt(share * (1 - share) / count)

    def better(row: dict[str, Any]) -> bool:
        trained = row["train_accuracy"] > chance(len(labels))
        return trained or row["validation_accuracy"] > chance(validated)

    done, now = len(log), log[-1]["validation_accuracy"]
    last = done == epochs and now <= chance(validated)
    if better(log[-1]) and not last:
        return None
    if any(better(row) for row in log[:-1]):
        before = max(row["validation_accuracy"] for row in log[:-1])
        return f"the network has collapsed to constant logits: validation accuracy {now:.1%}, after {before:.1%} before"
    if 3 * done >= epochs:
        return f"the network does not learn: {now:.1%} after {done} of {epochs} epochs is no more than chance"
    return None

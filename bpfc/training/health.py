"""Trainings that come to nothing: a loss or weights that are not finite, and a network that answers alike to all."""

from collections.abc import Sequence
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from bpfc.errors import UserError

SOON = 150
"""Steps before which a network may still stand at chance."""


class TrainingError(UserError):
    """What happened, and which state is good still. What to do is said by the verb, which knows its own options."""


def check_finite(total: Tensor, what: str, where: str, kept: str) -> None:
    """Raises TrainingError unless the tensor, a sum, is finite."""
    if not torch.isfinite(total).all():
        raise TrainingError(f"{what} no longer finite ({where}): {kept}")


def collapse(log: Sequence[dict[str, Any]], labels: Tensor, epochs: int, steps: int) -> str | None:
    """What to say of a network that has collapsed to constant logits; None of one that has not.

    It has where its accuracy is that of one class for all images, after it had been above, or still after a third of
    the run. In the last epoch the accuracy on validation images counts as well, because the training accuracy is that
    of the whole epoch.

    Args:
        log: a row for each epoch so far, with `train_accuracy` and `validation_accuracy`.
        labels: of the validation images, (N,).
        epochs: of the whole run.
        steps: an epoch.
    """
    share = labels.bincount().max().item() / len(labels)
    chance = share + 0.02 + 3 * sqrt(share * (1 - share) / len(labels))
    done = len(log)
    accuracies = [row["train_accuracy"] for row in log]
    now = min(accuracies[-1], log[-1]["validation_accuracy"]) if done == epochs else accuracies[-1]
    if now > chance or done * steps < SOON:
        return None
    if max(accuracies) > chance:
        return f"the network has collapsed to constant logits: accuracy {now:.1%}, after {max(accuracies):.1%} before"
    if 3 * done >= epochs:
        return f"the network does not learn: {now:.1%} after {done} of {epochs} epochs is no more than chance"
    return None

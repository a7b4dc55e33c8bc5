"""What attacks ascend: logits (N, classes) and targets to the sum over the images, so that no image's gradient depends
on the others. Names in the plural give each image its own value, (N,)."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Objective = Callable[[Tensor, Tensor], Tensor]
Losses = Callable[[Tensor, Tensor], Tensor]
ObjectiveName = Literal["ce", "margin", "dlr"]


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="sum")


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """For each image, the best other logit less that of the label: above 0 where the image is misclassified."""
    own = F.one_hot(labels, logits.shape[1]).bool()
    return logits.masked_fill(own, -torch.inf).amax(dim=1) - logits[own]


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The margin of Carlini and Wagner 2017, without its confidence."""
    return margins(logits, labels).sum()


def dlrs(logits: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio (Croce and Hein 2020): the margin over that of the first to the third logit.

    It does not change when all logits are shifted or scaled. With two classes there is no third: the plain margin.
    """
    if logits.shape[1] < 3:
        return margins(logits, labels)
    top = logits.topk(3, dim=1).values
    return margins(logits, labels) / (top[:, 0] - top[:, 2] + 1e-12)


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    return dlrs(logits, labels).sum()


def likeliest_others(logits: Tensor, labels: Tensor) -> Tensor:
    """For each image the classes other than its label, the likeliest first, (N, K − 1); of equal ones the lower number
    first, as argmax has it, on every device."""
    own_last = logits.scatter(1, labels[:, None], -torch.inf)
    return own_last.argsort(dim=1, descending=True, stable=True)[:, :-1]


def towards(logits: Tensor, pairs: Tensor) -> Tensor:
    """Targeted: the target's logit less the label's; `pairs` (N, 2) holds label and target."""
    labels, targets = logits.gather(1, pairs).unbind(dim=1)
    return (targets - labels).sum()


def targeted_dlrs(logits: Tensor, pairs: Tensor) -> Tensor:
    """Targeted DLR (Croce and Hein 2020): the target's logit less the label's, over that of the first to the mean of
    the third and fourth; `pairs` as in `towards`. With fewer than four classes there is no fourth: the plain
    difference."""
    labels, targets = logits.gather(1, pairs).unbind(dim=1)
    if logits.shape[1] < 4:
        return targets - labels
    top = logits.topk(4, dim=1).values
    return (targets - labels) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12)


OBJECTIVES: dict[ObjectiveName, Objective] = {"ce": cross_entropy, "margin": margin, "dlr": dlr}
LOSSES: dict[ObjectiveName, Losses] = {"ce": cross_entropies, "margin": margins, "dlr": dlrs}

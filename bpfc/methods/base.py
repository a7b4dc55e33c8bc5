"""What every training method is: a loss over (model, images, labels)."""

from typing import ClassVar, NamedTuple, Protocol, Self

from torch import Tensor, nn


class MethodOutput(NamedTuple):
    """What a method gives back.

    Attributes:
        loss: scalar, float32, to differentiate; the mean over the images.
        logits: shape (images, classes), float32, for the training accuracy: of the clean images, or of the images that
            the method puts in their place, in the same order.
        parts: the terms of the loss before weighting, detached scalars by name, for the log.
    """

    loss: Tensor
    logits: Tensor
    parts: dict[str, Tensor]


class Method(Protocol):
    """A frozen dataclass of hyper-parameters, called on a batch in train mode. It never touches the optimiser."""

    name: ClassVar[str]

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> MethodOutput:
        """The loss of `model` on float images (N, C, H, W) in [0, 1] and integer labels (N,)."""
        ...

    def weighted(self, factor: float) -> Self:
        """The same method with its regulariser weighed `factor` times as much: how a schedule of λ is applied."""
        ...


def check_classes(labels: Tensor) -> None:
    """Raises ValueError for soft labels, where a method asks which class an image is of."""
    if labels.ndim != 1 or labels.is_floating_point():
        raise ValueError(
            f"labels of shape {tuple(labels.shape)}, {labels.dtype}: must be one class for each image; this method "
            "takes no soft labels, as mixing and smoothing make them"
        )

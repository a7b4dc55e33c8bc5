"""M-LeNet: the paper's network for MNIST and Fashion-MNIST (a LeNet with two more convolutions), and narrower ones."""

from torch import nn

from bpfc.models.shi import make_tight
from bpfc.models.sparse import make_sparse


def m_lenet(channels: int, classes: int, size: int = 28) -> nn.Module:
    """Four 5x5 convolutions and two linear layers; `size` is the height and width of the images, a multiple of 4."""
    return _m_lenet(channels, classes, size, width=32)


def m_lenet_half(channels: int, classes: int, size: int = 28) -> nn.Module:
    """The same at half of every width: a quarter of the cost, for trying things out."""
    return _m_lenet(channels, classes, size, width=16)


def m_lenet_quarter(channels: int, classes: int, size: int = 28) -> nn.Module:
    """The same at a quarter of every width: a fourteenth of the cost, for the demo."""
    return _m_lenet(channels, classes, size, width=8)


def m_lenet_sparse(channels: int, classes: int, size: int = 28) -> nn.Module:
    """M-LeNet with most weights at 0 to begin with, for training with interval bounds."""
    return make_sparse(_m_lenet(channels, classes, size, width=32))


def m_lenet_half_sparse(channels: int, classes: int, size: int = 28) -> nn.Module:
    """The same at half of every width."""
    return make_sparse(_m_lenet(channels, classes, size, width=16))


def m_lenet_batchnorm(channels: int, classes: int, size: int = 28) -> nn.Module:
    """M-LeNet with BatchNorm before each ReLU, for training with interval bounds; its weights are kept as M-LeNet's."""
    return make_tight(_m_lenet(channels, classes, size, width=32, normalised=True))


def m_lenet_half_batchnorm(channels: int, classes: int, size: int = 28) -> nn.Module:
    """The same at half of every width."""
    return make_tight(_m_lenet(channels, classes, size, width=16, normalised=True))


def _m_lenet(channels: int, classes: int, size: int, width: int, normalised: bool = False) -> nn.Sequential:
    if size % 4:
        raise ValueError(f"size={size}: M-LeNet halves the image twice, so its side must be a multiple of 4")

    def convolved(inputs: int, outputs: int) -> list[nn.Module]:
        norm = [nn.BatchNorm2d(outputs)] if normalised else []
        return [nn.Conv2d(inputs, outputs, 5, padding=2), *norm, nn.ReLU()]

    return nn.Sequential(
        *convolved(channels, width),
        *convolved(width, width),
        nn.MaxPool2d(2),
        *convolved(width, 2 * width),
        *convolved(2 * width, 2 * width),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * width * (size // 4) ** 2, 16 * width),
        *([nn.BatchNorm1d(16 * width)] if normalised else []),
        nn.ReLU(),
        nn.Linear(16 * width, classes),
    )

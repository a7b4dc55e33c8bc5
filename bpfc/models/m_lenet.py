"""M-LeNet: the paper's network for MNIST and Fashion-MNIST (a LeNet with two more convolutions)."""

from torch import nn


def m_lenet(channels: int, classes: int, size: int = 28) -> nn.Module:
    """Four 5x5 convolutions and two linear layers; `size` is the height and width of the images, a multiple of 4."""
    if size % 4:
        raise ValueError(f"size={size}: M-LeNet halves the image twice, so its side must be a multiple of 4")
    return nn.Sequential(
        nn.Conv2d(channels, 32, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(32, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(64, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * (size // 4) ** 2, 512),
        nn.ReLU(),
        nn.Linear(512, classes),
    )

"""Net-A: a source network of the paper's black-box table for MNIST and Fashion-MNIST (Table 3)."""

from torch import nn


def net_a(channels: int, classes: int, size: int = 28) -> nn.Module:
    """Two 5x5 convolutions without padding and two linear layers, with dropout; `size` is the side, 9 or more."""
    if size < 9:
        raise ValueError(f"size={size}: Net-A takes 8 pixels off each side, so it must be 9 or more")
    return nn.Sequential(
        nn.Conv2d(channels, 64, 5),
        nn.ReLU(),
        nn.Conv2d(64, 64, 5),
        nn.ReLU(),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(64 * (size - 8) ** 2, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, classes),
    )

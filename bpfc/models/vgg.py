"""VGG19 with BatchNorm for 32x32 images: the source network of the paper's black-box table for CIFAR-10 (Table 3)."""

from torch import nn

WIDTHS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Width and number of 3x3 convolutions of each stage (Simonyan and Zisserman 2015, configuration E)."""


def vgg19(channels: int, classes: int, size: int = 32) -> nn.Module:
    """Five stages of convolutions, each ended by a max-pool, and one linear layer; any `size` from 32 up.

    The three linear layers of the ImageNet network are one, as is usual for 32x32 images.
    """
    if size < 32:
        raise ValueError(f"size={size}: VGG19 halves the image five times, so its side must be 32 or more")
    layers: list[nn.Module] = []
    inputs = channels
    for width, count in WIDTHS:
        for _ in range(count):
            layers += [nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            inputs = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))

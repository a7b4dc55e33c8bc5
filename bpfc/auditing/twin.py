"""Small normal networks whose gradients nothing masks: one that answers like the model, and one beside it."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bpfc.attacks import BatchRng
from bpfc.data import Images, to_float
from bpfc.modes import own_randomness

BATCH = 50


def twin(model: nn.Module, images: Images, eps: float, epochs: int) -> nn.Module:
    """A network that answers like the model around the images, taught without its gradients (Papernot et al. 2017).

    Each epoch shows every image at a random point of its ε-ball, with the model's class there.

    Args:
        model: the one to imitate.
        images: as they are stored.
        eps: radius in which it is imitated.
        epochs: over the images.
    """
    with torch.no_grad():
        classes = model(to_float(images[:1].pixels)).shape[1]

    def shown(some: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        near = (some + eps * BatchRng().uniform(some)).clamp(0, 1)
        with torch.no_grad():
            return near, model(near).argmax(dim=1)

    return _taught(images, classes, epochs, shown)


def undefended(images: Images, classes: int, epochs: int) -> nn.Module:
    """The same network, taught these images by heart with nothing to defend it.

    Args:
        images: as they are stored, with their labels.
        classes: how many there are.
        epochs: over the images.
    """
    return _taught(images, classes, epochs, lambda *some: some)


def _taught(
    images: Images, classes: int, epochs: int, shown: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
) -> nn.Module:
    """`shown` makes of a batch of images and labels what the network is to learn."""
    device = images.labels.device
    with own_randomness(device, seed=0):
        network = _network(images.shape, classes).to(device)
        optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
        for _ in range(epochs):
            for batch in torch.randperm(len(images), device=device).split(BATCH):
                some = images[batch]
                near, answers = shown(to_float(some.pixels), some.labels)
                optimizer.zero_grad()
                F.cross_entropy(network(near), answers).backward()
                optimizer.step()
    return network.eval().requires_grad_(False)


def _network(shape: torch.Size, classes: int) -> nn.Sequential:
    channels, height, width = shape[1:]
    return nn.Sequential(
        nn.Conv2d(channels, 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * -(-height // 4) * -(-width // 4), classes),
    )

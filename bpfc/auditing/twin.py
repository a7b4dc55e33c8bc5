"""Small normal networks whose gradients nothing masks: one that answers like the model, and one beside it."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bpfc.attacks import BatchRng
from bpfc.modes import own_randomness

BATCH = 50


def twin(model: nn.Module, images: Tensor, eps: float, epochs: int) -> nn.Module:
    """A network that answers like the model around the images, taught without its gradients (Papernot et al. 2017).

    Each epoch shows every image at a random point of its ε-ball, with the model's class there.

    Args:
        model: the one to imitate.
        images: float32 (N, C, H, W) in [0, 1].
        eps: radius in which it is imitated.
        epochs: over the images.
    """
    with torch.no_grad():
        classes = model(images[:1]).shape[1]

    def shown(batch: Tensor) -> tuple[Tensor, Tensor]:
        near = (images[batch] + eps * BatchRng().uniform(images[batch])).clamp(0, 1)
        with torch.no_grad():
            return near, model(near).argmax(dim=1)

    return _taught(images, classes, epochs, shown)


def undefended(images: Tensor, labels: Tensor, classes: int, epochs: int) -> nn.Module:
    """The same network, taught these images by heart with nothing to defend it.

    Args:
        images: float32 (N, C, H, W) in [0, 1].
        labels: (N,).
        classes: how many there are.
        epochs: over the images.
    """
    return _taught(images, classes, epochs, lambda batch: (images[batch], labels[batch]))


def _taught(images: Tensor, classes: int, epochs: int, shown: Callable[[Tensor], tuple[Tensor, Tensor]]) -> nn.Module:
    with own_randomness(images.device, seed=0):
        network = _network(images, classes).to(images.device)
        optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
        for _ in range(epochs):
            for batch in torch.randperm(len(images), device=images.device).split(BATCH):
                near, answers = shown(batch)
                optimizer.zero_grad()
                F.cross_entropy(network(near), answers).backward()
                optimizer.step()
    return network.eval().requires_grad_(False)


def _network(images: Tensor, classes: int) -> nn.Sequential:
    channels, height, width = images.shape[1:]
    return nn.Sequential(
        nn.Conv2d(channels, 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * -(-height // 4) * -(-width // 4), classes),
    )

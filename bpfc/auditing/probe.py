"""What an attack did to the images of an audit."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Probe(NamedTuple):
    """What an attack did.

    Attributes:
        broken: (N,) bool.
        restart, step: (N,) in which restart and after how many steps; −1 where it did not break, or does not tell.
    """

    broken: Tensor
    restart: Tensor
    step: Tensor


def read_probe(line: Mapping[str, Any], images: int, device: torch.device) -> Probe:
    """From what was kept of an attack on so many images."""
    broken = torch.zeros(images, dtype=torch.bool)
    restart, step = (torch.full((images,), -1) for _ in range(2))
    for index, of_restart, of_step in line["found"]:
        broken[index] = True
        restart[index] = -1 if of_restart is None else of_restart
        step[index] = -1 if of_step is None else of_step
    return Probe(broken.to(device), restart.to(device), step.to(device))

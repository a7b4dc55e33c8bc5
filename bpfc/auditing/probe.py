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
        no_answer: (N,) bool: where it broke by NaN or infinite logits.
    """

    broken: Tensor
    restart: Tensor
    step: Tensor
    no_answer: Tensor


def read_probe(line: Mapping[str, Any], images: int, device: torch.device) -> Probe:
    """From what was kept of an attack on so many images."""
    broken, no_answer = (torch.zeros(images, dtype=torch.bool) for _ in range(2))
    restart, step = (torch.full((images,), -1) for _ in range(2))
    for index, of_restart, of_step, *silent in line["found"]:
        broken[index], no_answer[index] = True, bool(silent)
        restart[index] = -1 if of_restart is None else of_restart
        step[index] = -1 if of_step is None else of_step
    return Probe(broken.to(device), restart.to(device), step.to(device), no_answer.to(device))

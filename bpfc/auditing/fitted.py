"""A smooth stand-in that is taught to answer as a layer does, where the identity is none or a poor one."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bpfc.modes import own_randomness

STEPS, PART, HIDDEN = 300, 16, 16


class Smooth(nn.Module):
    """A linear convolution, and a bend on top of it: (N, channels, H, W) to (N, out, H, W)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.straight = nn.Conv2d(channels, out, 5, padding=2)
        self.bent = nn.Sequential(
            nn.Conv2d(channels, HIDDEN, 3, padding=1), nn.GELU(), nn.Conv2d(HIDDEN, out, 3, padding=1)
        )

    def forward(self, values: Tensor) -> Tensor:
        values = values.to(self.straight.weight.dtype)
        bent: Tensor = self.bent(values)
        return bent + self.straight(values)


def can_be_fitted(before: Tensor, after: Tensor) -> bool:
    """Whether a layer keeps the place of what it is given: (N, C, H, W) to (N, any, H, W)."""
    return before.ndim == after.ndim == 4 and before.shape[2:] == after.shape[2:]


def fitted(pairs: Sequence[tuple[Tensor, Tensor]]) -> nn.Module:
    """A smooth stand-in for a layer, by least squares on what it made of what it was given (Athalye et al. 2018).

    Args:
        pairs: what went in (N, C, H, W) and what came out (N, out, H, W), at several points of the images' ε-balls.
    """
    before, after = (torch.cat(each).float() for each in zip(*pairs, strict=True))
    with own_randomness(before.device, seed=0), torch.enable_grad():
        network = Smooth(before.shape[1], after.shape[1]).to(before.device)
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        for _ in range(STEPS):
            some = torch.randint(len(before), (PART,), device=before.device)
            optimizer.zero_grad()
            F.mse_loss(network(before[some]), after[some]).backward()
            optimizer.step()
            schedule.step()
    form = pairs[0][1].dtype  # of the layers that come after
    return network.eval().requires_grad_(False).to(form if form.is_floating_point else torch.float32)

"""A tone curve of any rising form, whose form is trained with the network behind it."""

import torch
from torch import Tensor, nn

from bpfc.models.curve import Curve, ToneCurve

PIECES = 20
FLOOR = 1e-3
"""What a flat piece rises by to begin with: its gradient is not zero, and it can become steep."""


class LearnedCurve(Curve):
    """A line of equal pieces that rise from u(0) = 0 to u(1) = 1; it begins as the tone curve from a to b.

    What the pieces rise by is a softmax of the parameter `rises`, shape (pieces,): so the curve is monotone whatever
    they are trained to be, and takes the ball around an image onto a box as a `ToneCurve` does.
    """

    def __init__(self, a: float, b: float, pieces: int = PIECES) -> None:
        """0 ≤ a < b ≤ 1; raises ValueError otherwise."""
        super().__init__()
        self.pieces = pieces
        begin = ToneCurve(a, b)(torch.linspace(0, 1, pieces + 1)).diff()
        self.rises = nn.Parameter((begin + FLOOR).log())

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1] of any shape to images in [0, 1] of the same shape."""
        along, rises = images * self.pieces, self.rises.softmax(0)
        u = rises[0] * along.clamp(0, 1)
        for piece in range(1, self.pieces):
            u = u + rises[piece] * (along - piece).clamp(0, 1)
        return u.clamp(0, 1)  # in floating point too each step is monotone; the sum of the rises may pass 1

    def preimage(self, u: Tensor, images: Tensor, eps: float) -> Tensor:
        """To rounding the only such image, but where the curve is flat."""
        heights = nn.functional.pad(self.rises.softmax(0).cumsum(0), (1, 0)).cummax(0).values
        lower, upper = (images - eps).clamp_min(0), (images + eps).clamp_max(1)
        place = (torch.searchsorted(heights, u.contiguous(), right=True) - 1).clamp(0, self.pieces - 1)
        low, high = heights[place], heights[place + 1]
        share = ((u - low) / (high - low).clamp_min(torch.finfo(u.dtype).tiny)).clamp(0, 1)
        moved = ((place + share) / self.pieces).clamp(lower, upper)
        return moved.where(u != self(images), images)

    def extra_repr(self) -> str:
        return f"pieces={self.pieces}"

"""What a training is, but for its method: every setting, as data. Without torch, so that help texts come at once."""

from dataclasses import dataclass, field
from math import cos, floor, isfinite, pi
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Schedule:
    """What a learning rate or λ is multiplied by in the course of training."""

    shape: Annotated[
        Literal["steps", "one-cycle", "growth", "ramp"],
        tyro.conf.arg(
            help="steps: by the factor after each milestone. one-cycle: linearly from 0 to 1 over the first 30 %, "
            "cosine to 0. growth: from 1 to the factor, by the same share each step. ramp: 0 up to the first "
            "milestone, linearly to 1 at the second, 1 from there on."
        ),
    ] = "steps"
    milestones: tuple[float, ...] = ()
    """As shares of the run, so that a shorter run keeps its shape. 0.25 of 50 epochs: after epoch index 12."""
    factor: float = 1.0
    """By how much at each milestone (steps), or by the end of the run (growth)."""

    def __post_init__(self) -> None:
        if not (self.factor >= 0 and isfinite(self.factor)) or (self.shape == "growth" and self.factor == 0):
            least = "above 0" if self.shape == "growth" else "0 or more"
            raise ValueError(f"factor={self.factor!r}: must be a number, {least}")
        if self.shape == "ramp" and (len(self.milestones) != 2 or not self.milestones[0] < self.milestones[1]):
            raise ValueError(f"milestones={self.milestones!r}: a ramp needs its begin and its end, in order")
        if not all(0 <= share <= 1 for share in self.milestones) or sorted(self.milestones) != list(self.milestones):
            raise ValueError(f"milestones={self.milestones!r}: must be shares of the run, from 0 to 1, in order")

    def at(self, position: float, epochs: int) -> float:
        """The multiplier at `position`, the number of epochs behind us with its fraction, of a run of `epochs`."""
        if self.shape == "one-cycle":
            share = position / epochs
            return share / 0.3 if share < 0.3 else (1 + cos(pi * (share - 0.3) / 0.7)) / 2
        if self.shape == "ramp":
            begin, end = self.milestones
            return min(max((position / epochs - begin) / (end - begin), 0.0), 1.0)
        if self.shape == "growth":
            return float(self.factor ** (position / epochs))
        # `whole` is the scripts' integer division; "after index 12" leaves 13 epochs at the first value.
        passed = sum(floor(position) > whole(share, epochs) for share in self.milestones)
        return float(self.factor**passed)


def whole(share: float, epochs: int) -> int:
    """Epochs in that share of a run, rounded down; 0.29 of 100 are 29, though their product is 28.999…"""
    return floor(share * epochs + 1e-9)


QUARTERS = (0.25, 0.5, 0.75)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One training but for its method."""

    data: str
    """Data set: mnist-5k, mnist, fashion-mnist, cifar-10; or a folder or file of yours (see docs/own-data.md)."""
    network: str
    """Network, by its name in bpfc.models, or package.module:function for one of yours."""
    eps: float
    """ε: ℓ∞ radius of the attacks, in units of [0, 1], and of a method that has one, unless given as --method.eps."""
    step_size: float
    """Length of PGD's steps, in units of [0, 1]."""
    ifgsm_steps: int
    """Steps of the I-FGSM attack that is made on validation images after each epoch."""
    epochs: int
    """Times through the training images."""
    batch_size: int
    """Images a step, of all processes together."""
    lr: float
    """Learning rate, to begin with (one-cycle: at its peak)."""
    lr_schedule: Schedule = field(default_factory=lambda: Schedule(milestones=QUARTERS, factor=0.2))
    """Learning rate over the run."""
    weight_schedule: Schedule = field(default_factory=Schedule)
    """λ over the run, as multiples of the method's weight."""
    clip_norm: float | None = None
    """Largest ℓ2 norm of a step's gradient; a longer one is shortened to it. The paper's recipes have none."""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """What takes the steps. The paper's recipes take SGD."""
    momentum: float = 0.9
    """Momentum of SGD; Adam has its own."""
    weight_decay: float = 5e-4
    """Weight decay, ℓ2 by the gradient."""
    averaging: float | None = None
    """Validate and keep a moving average of the weights: the share of itself that it keeps at a step, as in 0.999."""
    augment: bool = False
    """Crop with padding 4 and horizontal flip, drawn for each image."""
    flips: Annotated[
        Literal["drawn", "alternating"],
        tyro.conf.arg(
            help="The augmentation's flips: drawn anew in each epoch, or drawn once and turned round from each epoch "
            "to the next, so that any two epochs in a row show an image both ways."
        ),
    ] = "drawn"
    shrunk: Annotated[
        float,
        tyro.conf.arg(
            help="Share of the run, from its start, in which training images have three quarters of their height and "
            "width, which nearly halves the cost: 24 pixels in place of 32."
        ),
    ] = 0.0
    validation: int = 10_000
    """Images held out of the training set."""
    validation_attacked: int = 1_000
    """How many of the held-out images are attacked after each epoch. The paper attacks all; 10000 does so."""
    select: Literal["ifgsm", "last"] = "ifgsm"
    """Which epoch's weights are kept: the best under I-FGSM on validation, or the last, which no attack has chosen."""
    select_from: float = 0.0
    """Share of the run after which an epoch may be selected by I-FGSM."""
    limit: int | None = None
    """Train on this many images only."""
    weights: Literal["float32", "bfloat16"] = "float32"
    """Type in which the selected weights are kept and evaluated; bfloat16 takes half the room."""
    seed: int = 0
    """Of the split, the weights, the order, the augmentation and the noise."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "ifgsm_steps", "validation", "validation_attacked", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value!r}: must be 1 or more")
        for name in ("eps", "step_size"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)!r}: must be above 0 and at most 1 (8/255, not 8)")
        for name in ("lr", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and isfinite(value)):
                raise ValueError(f"{name}={value!r}: must be a number above 0")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum={self.momentum!r}: must be from 0 to below 1")
        if self.averaging is not None and not 0 < self.averaging < 1:
            raise ValueError(f"averaging={self.averaging!r}: must be a share between 0 and 1, as in 0.999")
        if not (self.weight_decay >= 0 and isfinite(self.weight_decay)):
            raise ValueError(f"weight_decay={self.weight_decay!r}: must be 0 or more")
        if not 0 <= self.select_from < 1:
            raise ValueError(f"select_from={self.select_from!r}: must be a share of the run, from 0 to below 1")
        if not 0 <= self.shrunk < 1:
            raise ValueError(f"shrunk={self.shrunk!r}: must be a share of the run, from 0 to below 1")
        if self.flips == "alternating" and not self.augment:
            raise ValueError("flips='alternating': there are no flips without augment=True")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed={self.seed!r}: must be from 0 to {2**32 - 1}")

    def lr_at(self, position: float) -> float:
        """The learning rate after `position` epochs (a fraction counts)."""
        return self.lr * self.lr_schedule.at(position, self.epochs)

    def side_at(self, epoch: int, size: int) -> int:
        """Height and width in which an epoch (counted from 0) shows training images of `size`."""
        return size * 3 // 4 if epoch < whole(self.shrunk, self.epochs) else size

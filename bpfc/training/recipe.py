"""What a training is: every setting of it, as data."""

from dataclasses import dataclass, field
from math import cos, floor, pi
from typing import Annotated, Literal

import tyro

from bpfc.methods import AnyMethod, Method


def number(text: str) -> float:
    """A number as people write ε: 0.1 or 8/255."""
    top, slash, bottom = text.partition("/")
    try:
        return float(top) / float(bottom) if slash else float(top)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{text!r}: must be a number or a fraction, such as 0.1 or 8/255") from error


Number = Annotated[
    float,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="NUMBER",
        instance_from_str=lambda words: number(words[0]),
        is_instance=lambda value: isinstance(value, float | int),
        str_from_instance=lambda value: [f"{value:.6g}"],
    ),
]
"""A float that the command line takes as 0.1 or 8/255."""


@dataclass(frozen=True)
class Schedule:
    """What a learning rate or λ is multiplied by in the course of training."""

    shape: Literal["steps", "one-cycle", "ramp"] = "steps"
    """steps: by `factor` after each milestone. one-cycle: linearly from 0 to 1 over the first 30 %, cosine to 0.
    ramp: 0 up to the first milestone, linearly to 1 at the second, 1 from there on."""
    milestones: tuple[float, ...] = ()
    """As shares of the run, so that a shorter run keeps its shape. 0.25 of 50 epochs: after epoch index 12."""
    factor: float = 1.0

    def __post_init__(self) -> None:
        if self.shape == "ramp" and (len(self.milestones) != 2 or not self.milestones[0] < self.milestones[1]):
            raise ValueError(f"milestones={self.milestones!r}: a ramp needs its begin and its end, in order")

    def at(self, position: float, epochs: int) -> float:
        """The multiplier at `position`, the number of epochs behind us with its fraction, of a run of `epochs`."""
        if self.shape == "one-cycle":
            share = position / epochs
            return share / 0.3 if share < 0.3 else (1 + cos(pi * (share - 0.3) / 0.7)) / 2
        if self.shape == "ramp":
            begin, end = self.milestones
            return min(max((position / epochs - begin) / (end - begin), 0.0), 1.0)
        # floor(share · epochs) is the scripts' integer division; "after index 12" leaves 13 epochs at the first value.
        passed = sum(floor(position) > floor(share * epochs) for share in self.milestones)
        return float(self.factor**passed)


QUARTERS = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Recipe:
    """One training, complete: with the code and the data it determines the weights."""

    data: Literal["mnist-5k", "mnist", "fashion-mnist", "cifar-10"]
    """Data set."""
    network: str
    """Network, by its name in bpfc.models, or package.module:function for one of yours."""
    method: AnyMethod
    """Training method and its settings."""
    eps: Number
    """ε: ℓ∞ radius of the attacks, in units of [0, 1]."""
    attack_step: Number
    """Step of PGD, in units of [0, 1]."""
    ifgsm_steps: int
    """Steps of the I-FGSM attack that selects the epoch on validation images."""
    epochs: int
    """Times through the training images."""
    batch_size: int
    """Images a step, of all processes together."""
    lr: float
    """Learning rate of SGD, to begin with (one-cycle: at its peak)."""
    lr_schedule: Schedule = field(default_factory=lambda: Schedule(milestones=QUARTERS, factor=0.2))
    """Learning rate over the run."""
    weight_schedule: Schedule = field(default_factory=Schedule)
    """λ over the run, as multiples of the method's weight."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 5e-4
    """Weight decay of SGD."""
    augment: bool = False
    """Crop with padding 4 and horizontal flip, drawn for each image."""
    validation: int = 10_000
    """Images held out of the training set."""
    validation_attacked: int = 1_000
    """How many of the held-out images are attacked after each epoch. The paper attacks all; 10000 does so."""
    select_from: float = 0.0
    """Share of the run after which an epoch may be selected; the best under I-FGSM on validation is."""
    limit: int | None = None
    """Train on this many images only."""
    seed: int = 0
    """Of the split, the weights, the order, the augmentation and the noise."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "ifgsm_steps", "validation_attacked"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r}: must be 1 or more")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit={self.limit!r}: must be 1 or more")
        for name in ("eps", "attack_step", "lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)!r}: must be above 0")
        if not 0 <= self.select_from < 1:
            raise ValueError(f"select_from={self.select_from!r}: must be a share of the run, from 0 to below 1")

    def lr_at(self, position: float) -> float:
        """The learning rate after `position` epochs (a fraction counts)."""
        return self.lr * self.lr_schedule.at(position, self.epochs)

    def method_at(self, epoch: int) -> Method:
        """The method in the epoch of that index, with the λ of its schedule."""
        return self.method.weighted(self.weight_schedule.at(epoch, self.epochs))

"""A recipe for data that nobody has tuned one for: what follows from ε, the images and the network; and why.

The rest is what our own recipes have (one-cycle, a clipped gradient, the last epoch is kept). λ and its schedule are
the paper's of the nearest case, and want tuning.
"""

from dataclasses import fields, replace
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bpfc.bitplanes import k_for
from bpfc.data import DataSet
from bpfc.methods import BPFC, BPFCIBP, IBP, METHODS, Margin
from bpfc.models import build
from bpfc.training.own_recipes import BOUNDS, MARGIN
from bpfc.training.recipe import Recipe
from bpfc.training.settings import QUARTERS, Schedule

DEEP = 10
"""Layers with weights from which a network counts as deep; M-LeNet has 6, ResNet-18 has 21."""
VALIDATION = 0.1
"""Share of the training images that is held out of them to watch."""
LARGEST = 65535
"""What becomes 1 of images of 16 bits."""
LOOKED_AT = 256
"""Images that are looked at for their values."""


class Build(NamedTuple):
    """What λ's schedule hangs on.

    Attributes:
        layers: convolutions and linear layers.
        normalised: whether there is BatchNorm.
    """

    layers: int
    normalised: bool

    @property
    def slow(self) -> bool:
        """Whether λ must start low, and grow as on CIFAR-10."""
        return self.normalised or self.layers >= DEEP


def derived(method: str, data: DataSet, *, eps: float, network: str | None = None, bits: int | None = None) -> Recipe:
    """A recipe for a method on data of one's own.

    Args:
        method: a name of METHODS.
        data: what to train on.
        eps: ε in ℓ∞, in units of [0, 1].
        network: see bpfc.models.build; unless given ResNet-18, and for interval bounds M-LeNet of sparse weights.
        bits: of the images; 16 where they are stored so, else 8, unless given.

    Raises:
        ValueError: ε or the bits make no sense, or there is no such network.
    """
    deep = data.train.dtype == torch.uint16
    if bits is None:
        bits = 16 if deep else 8
    elif not 2 <= bits <= 16 or (deep and bits <= 8):
        raise ValueError(f"--bits {bits}: must be from 2 to 16, and from 9 for images that are stored in 16 bits")
    if deep and (most := brightest(data)) < 2**bits <= LARGEST:
        raise ValueError(
            f"--bits {bits}: values up to {most} lie in the low bits, but 1 is {LARGEST}; multiply them by "
            f"{2 ** (16 - bits)} first"
        )
    bounded = method in (IBP.name, BPFCIBP.name)
    network = network or ("m-lenet-sparse" if bounded else "resnet-18")
    built = _build(network, data)
    kind = METHODS[method]
    names = {field.name for field in fields(kind)}
    # λ of BPFC is that of the nearest of the paper's data sets, beside bounds our recipe's; others have their default.
    follow: dict[str, Any] = {"eps": eps, "step_size": eps / 4, "bits": bits}
    if "k" in names:  # of 8 planes where the method knows no others
        follow["k"] = k_for(eps, bits if "bits" in names else 8)
    if method == BPFC.name:
        follow["weight"] = 1.0 if built.slow else 25.0
    if method == BPFCIBP.name or (method == Margin.name and built.slow):
        follow["weight"] = 1.0
    if method == "rss-at":
        follow["alpha"] = eps / 4
    chosen = kind(**{name: follow[name] for name in names & follow.keys()})
    count = len(data.train)
    batch_size = 128 if count > 20_000 else 32 if count < 2_000 else 64
    changes: dict[str, Any] = {}
    if method == BPFC.name:
        growth = Schedule(milestones=QUARTERS, factor=9.0) if built.slow else Schedule("ramp", (0.0, 0.5))
        changes = {"weight_schedule": growth}
    elif method == Margin.name:
        changes = MARGIN
    elif bounded:  # over an epoch of few steps at most: a longer average of a short run is of fresh weights
        steps = max(2, count // batch_size)
        changes = {**BOUNDS, "averaging": min(BOUNDS["averaging"], 1 - 1 / steps)}
    held = max(1, round(VALIDATION * count))
    recipe = Recipe(
        data=data.name,
        network=network,
        method=chosen,
        eps=eps,
        step_size=eps / 4,
        ifgsm_steps=10,
        epochs=30,
        batch_size=batch_size,
        lr=0.1 if built.normalised else 0.03,
        lr_schedule=Schedule("one-cycle"),
        clip_norm=1.0,
        validation=held,
        validation_attacked=min(1_000, held),
        select="last",
    )
    return replace(recipe, **changes)


def brightest(data: DataSet) -> int:
    """The largest value in the first of the images to train on, which are of 16 bits."""
    return int(data.train[:LOOKED_AT].pixels.to(torch.int32).max())


def told(recipe: Recipe, data: DataSet) -> list[str]:
    """What is chosen and why, a line each."""
    built, method, size, pixel = _build(recipe.network, data), recipe.method, data.size, data.train.dtype
    lines = [
        f"data: {len(data.train)} images to train on, {recipe.validation} of them held out to watch; {len(data.test)} "
        f"to test on; {data.classes} classes, {data.channels}×{size}×{size}, {str(pixel).removeprefix('torch.')}",
        f"network: {recipe.network}, {built.layers} layers with weights, "
        f"{'with' if built.normalised else 'without'} BatchNorm",
    ]

    def course(full: float) -> str:
        schedule, epochs = recipe.weight_schedule, recipe.epochs
        return ", ".join(f"{full * schedule.at(tenths / 10 * epochs, epochs):.4g}" for tenths in (0, 3, 6, 9))

    if pixel == torch.uint16 and (most := brightest(data)) <= LARGEST // 2:
        lines.append(
            f"warning: the values end at {most} of {LARGEST}: what was recorded in fewer bits must be brought to 16 "
            "first, because ε and k are meant in the whole range"
        )
    if isinstance(method, BPFC):
        largest = 2**method.bits - 1
        lines.append(
            f"k {method.k} of {method.bits} bit planes: moves a pixel by at most {0.75 * 2**method.k:g} of {largest}; "
            f"ε is {recipe.eps * largest:.3g}"
        )
        why = "BatchNorm" if built.normalised else "depth" if built.slow else "neither BatchNorm nor depth"
        lines.append(
            f"λ: {course(method.weight)} after 0, 3, 6 and 9 tenths of the run ({why}); --method.weight scales it"
        )
    if isinstance(method, IBP | BPFCIBP | Margin):
        grows = "ρ" if isinstance(method, Margin) else "ε and κ of the bounds"
        lines.append(f"{grows}: {course(1)} times full size after 0, 3, 6 and 9 tenths of the run")
    if isinstance(method, IBP | BPFCIBP) and not recipe.network.partition("@")[0].endswith(("sparse", "batchnorm")):
        lines.append(
            "warning: bounds of dense fresh weights are wide, and constant logits may win; m-lenet-batchnorm and "
            "m-lenet-sparse begin with narrow ones"
        )
    augmented = "crops and flips" if recipe.augment else "no augmentation"
    steps = f"{recipe.optimizer.upper() if recipe.optimizer == 'sgd' else 'Adam'}, lr {recipe.lr:g}"
    return [*lines, f"{recipe.epochs} epochs, batches of {recipe.batch_size}, {steps}, {augmented}"]


def _build(network: str, data: DataSet) -> Build:
    parts = list(build(network, channels=data.channels, classes=data.classes, size=data.size).modules())
    layers = sum(isinstance(part, nn.Conv2d | nn.Linear) for part in parts)
    return Build(layers, any(isinstance(part, _BatchNorm) for part in parts))

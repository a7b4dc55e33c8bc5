"""What is evaluated: a network with its images and labels, from a run or from a factory of somebody's."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from bpfc.data import DATA_SETS, AnyImages, load, load_images
from bpfc.errors import UserError
from bpfc.models import (
    Normalise,
    from_library,
    from_script,
    is_library,
    is_script,
    load_weights,
    named,
    normalisation,
    state_sha256,
)
from bpfc.options import AS_THEY_ARE, Reading
from bpfc.wrappers import EOT, is_random, with_hooks

IMAGENET = 1_000
"""Classes of the weights that libraries come with."""


@dataclass(frozen=True)
class Subject:
    """A network in eval mode, test images as they are stored, and what is known of both.

    Attributes:
        data: name of the data set, or where the images came from.
        weights_sha256: of a run's file; of the state dict of a model from a factory; of a script without one its own.
        data_sha256: of images and labels that somebody brought; None for a data set that is known by its name.
        reading: how pictures that somebody handed in were taken.
        factory: the function that made the model, or the network of a run that may be imported; None without one.
        mean, std: of the normalisation that was put before the model; None without one.
        eot: of how many answers the mean is attacked and judged; None for a model without randomness.
        eps, step_size: of the recipe; None without one.
        k: bit planes that the network was trained to do without; None if it was not.
        channels_last: whether the model takes images in that layout, which convolutions are fastest in.
    """

    model: nn.Module
    images: AnyImages
    data: str
    weights_sha256: str
    data_sha256: str | None = None
    reading: Reading = AS_THEY_ARE
    factory: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    eot: int | None = None
    eps: float | None = None
    step_size: float | None = None
    k: int | None = None
    channels_last: bool = False

    def on(self, device: torch.device, limit: int | None = None) -> Self:
        """Model, and the first `limit` images, on a device; the images as they are stored."""
        return replace(self, model=self.model.to(device), images=self.images[:limit].to(device))

    def averaged(self, samples: int | None) -> Self:
        """The same with the mean of so many of its answers (EOT), for a model with randomness in it; None leaves it."""
        return self if samples is None else replace(self, model=EOT(self.model, samples).eval(), eot=samples)

    def header(self) -> dict[str, Any]:
        """What a ledger says of the subject, ready for JSON: all that decides a row."""
        header: dict[str, Any] = {
            "weights_sha256": self.weights_sha256,
            "model": self.factory,
            "mean": self.mean,
            "std": self.std,
            "eot": self.eot,
            "data": self.data,
            "data_sha256": self.data_sha256,
            "images": len(self.images),
        }
        if reading := self.reading.deciding():
            header["reading"] = reading
        if is_random(self.model):  # earlier versions drew for a whole batch: their rows are not gone on with
            header["draws"] = "by image"
        return header


def from_factory(
    factory: str,
    weights: Path | None,
    data: str,
    data_dir: Path | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    reading: Reading = AS_THEY_ARE,
) -> Subject:
    """A model by the name of a function without arguments that makes it, and images.

    Args:
        factory: package.module:function, whose import runs the module's code; a TorchScript file; or timm:NAME or
            torchvision:NAME, with the library's weights for ImageNet if there are no others; these need `mean`, `std`.
        weights: safetensors or a state dict; None if the function loads them itself.
        data: the name of a data set, or a path: a folder of pictures by class, or an .npz file.
        data_dir: where a named data set's files are.
        mean, std: for each channel, of the normalisation that the model expects; None if it expects [0, 1].
        reading: how pictures are taken.

    Raises:
        ValueError, DataError: something is not there, or does not fit together.
    """
    if (mean is None) != (std is None):
        raise ValueError("--mean and --std: give both or neither")
    if is_library(factory) and weights is None and mean is None:
        raise UserError(f"{factory}: its weights were trained on normalised images; say {normalisation(factory)}")
    known = data in DATA_SETS
    images = load(data, data_dir, reading).test if known else load_images(Path(data), reading)
    try:
        model = _made(factory, images, pretrained=weights is None)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # it is somebody's code
        told = " ".join(str(error).split())
        raise ValueError(
            f"{factory!r}: fails when called without arguments ({type(error).__name__}: {told})"
        ) from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"{factory!r}: gives a {type(model).__name__}, must give a torch.nn.Module")
    if lacking := [name for name, each in (*model.named_parameters(), *model.named_buffers()) if each.is_meta]:
        raise ValueError(
            f"{factory!r}: {lacking[0]} is on the meta device, without values; let it make the model on the CPU"
        )
    if weights is not None:
        load_weights(model, weights)
    frozen = is_script(factory) and not model.state_dict()  # its weights are constants of its code
    digest = hashlib.sha256(Path(factory).read_bytes()).hexdigest() if frozen else state_sha256(model)
    if mean is not None and std is not None:
        if len(mean) not in (1, images.channels):
            raise ValueError(f"--mean: {len(mean)} values for images of {images.channels} channels")
        model = nn.Sequential(Normalise(mean, std), model)
    return Subject(
        model.eval(),
        images,
        data,
        digest,
        data_sha256=None if known else images.sha256(),
        reading=reading,
        factory=factory,
        mean=None if mean is None else tuple(mean),
        std=None if std is None else tuple(std),
    )


def _made(factory: str, images: AnyImages, pretrained: bool) -> object:
    """What a name of a model stands for."""
    if is_script(factory):
        return from_script(Path(factory))
    if is_library(factory):
        classes = IMAGENET if pretrained else int(images.labels.max()) + 1
        return from_library(factory, channels=images.channels, classes=classes, pretrained=pretrained)
    made = named(factory)()
    return with_hooks(made) if isinstance(made, nn.Module) else made

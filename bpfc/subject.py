"""What is evaluated: a model with its images and labels, from a run or handed in by somebody."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bpfc.data import DATA_SETS, DataSet, load, load_images, to_float
from bpfc.methods import BPFC
from bpfc.models import Normalise, load_weights, named
from bpfc.training.run import MODEL, load_model, load_recipe


@dataclass(frozen=True)
class Subject:
    """A model in eval mode, test images float32 (N, C, H, W) in [0, 1], labels (N,), and what is known of them.

    Attributes:
        data: name of the data set, or where the images came from.
        weights_sha256: of the weights' file; of nothing if the model came with its weights.
        data_sha256: of images and labels that were handed in; None for a data set that is known by its name.
        eps, step: of the recipe; None if handed in.
        k: bit planes that the network was trained to do without; None if it was not.
        ifgsm_steps: the recipe's, else those that the paper uses on the data set.
    """

    model: nn.Module
    images: Tensor
    labels: Tensor
    data: str
    weights_sha256: str
    data_sha256: str | None = None
    eps: float | None = None
    step: float | None = None
    k: int | None = None
    ifgsm_steps: int = 7

    def to(self, device: torch.device, limit: int | None) -> tuple[nn.Module, Tensor, Tensor]:
        """Model, and the first `limit` images and labels, on a device."""
        return self.model.to(device), self.images[:limit].to(device), self.labels[:limit].to(device)


def from_run(run: Path, data_dir: Path | None, trusted: str | None = None) -> Subject:
    """The selected network of a run, and the test images of its data set.

    Args:
        run: folder that bpfc train wrote.
        data_dir: where the data files are; see bpfc.data.
        trusted: the network that may be imported, as package.module:function, if the recipe names one outside bpfc.

    Raises:
        RunError, DataError: there is no such run, or its data cannot be had.
    """
    recipe = load_recipe(run)
    data = load(recipe.data, data_dir)
    images, labels = _test(data)
    return Subject(
        load_model(run, data, trusted),
        # The layout of the model's weights. A model handed in may not bear it (x.view), and keeps the plain one.
        images.contiguous(memory_format=torch.channels_last),
        labels,
        recipe.data,
        hashlib.sha256((run / MODEL).read_bytes()).hexdigest(),
        eps=recipe.eps,
        step=recipe.attack_step,
        k=recipe.method.k if isinstance(recipe.method, BPFC) else None,
        ifgsm_steps=recipe.ifgsm_steps,
    )


def handed_in(
    factory: str,
    weights: Path | None,
    data: str,
    data_dir: Path | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> Subject:
    """A model by the name of a function without arguments that makes it, and images.

    Args:
        factory: package.module:function. Importing it runs the module's code.
        weights: safetensors or a state dict; None if the function loads them itself.
        data: the name of a data set, or a path: a folder of pictures by class, or an .npz file.
        data_dir: where a named data set's files are.
        mean, std: for each channel, of the normalisation that the model expects; None if it expects [0, 1].

    Raises:
        ValueError, DataError: something is not there, or does not fit together.
    """
    if (mean is None) != (std is None):
        raise ValueError("--mean and --std: give both or neither")
    known = data in DATA_SETS
    images, labels = _test(load(data, data_dir)) if known else load_images(Path(data))
    model = named(factory)()
    if not isinstance(model, nn.Module):
        raise ValueError(f"{factory!r}: gives a {type(model).__name__}, must give a torch.nn.Module")
    if weights is not None:
        load_weights(model, weights)
    if mean is not None and std is not None:
        if len(mean) not in (1, images.shape[1]):
            raise ValueError(f"--mean: {len(mean)} values for images of {images.shape[1]} channels")
        model = nn.Sequential(Normalise(mean, std), model)
    digest = hashlib.sha256(weights.read_bytes() if weights else b"").hexdigest()
    steps = 40 if known and "mnist" in data else 7
    content = None if known else hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
    return Subject(model.eval(), images, labels, data, digest, content, ifgsm_steps=steps)


def _test(data: DataSet) -> tuple[Tensor, Tensor]:
    return to_float(data.test.pixels), data.test.labels

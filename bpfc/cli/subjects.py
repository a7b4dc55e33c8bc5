"""What a verb works on: the network of a run, or a model of the user's. Where training and evaluation meet."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from bpfc.options import AS_THEY_ARE, DataFolder, Reading

if TYPE_CHECKING:
    from bpfc.attacks import Norm
    from bpfc.data import DataSet
    from bpfc.evaluation.subject import Subject
    from bpfc.methods import BPFC, BPFCIBP, Margin
    from bpfc.training.run import Run

UNNAMED = "name the folder of a run, or hand in a model with --model and --data"


@dataclass(frozen=True)
class SubjectOptions:
    """Options that name a network and its images."""

    run: tyro.conf.Positional[Path | None] = None
    """Folder that bpfc train wrote; or hand in a model with --model and --data."""
    model: Annotated[
        str | None,
        tyro.conf.arg(
            help="package.module:function, without arguments, that makes the model; importing it runs its code. Or a "
            "TorchScript file; or timm:NAME or torchvision:NAME, if you have these. Of a run: its network, if it "
            "is not bpfc's and you trust its code."
        ),
    ] = None
    weights: Path | None = None
    """The model's weights: safetensors, or a state dict that torch saved."""
    data: Annotated[
        str | None,
        tyro.conf.arg(
            help="Images for the model: a data set's name, a folder of pictures by class or shards of them, or .npz. "
            "Of a run: where its data lies now."
        ),
    ] = None
    mean: tuple[float, ...] | None = None
    """Of each channel, if the model expects normalised images; images and ε stay in [0, 1]."""
    std: tuple[float, ...] | None = None
    """Likewise."""
    data_dir: DataFolder = None
    reading: Annotated[Reading, tyro.conf.arg(name="")] = AS_THEY_ARE

    def subject(self) -> "Subject":
        """The network with its test images. Pictures that were skipped are told.

        Raises:
            ValueError, DataError, RunError: it is not named, or cannot be had.
        """
        from bpfc.data import told_of
        from bpfc.team import team

        found = self._found()
        if team().first:
            print(*(f"{line}\n" for line in told_of(found.images.skipped)), sep="", end="", flush=True)
        return found

    def _found(self) -> "Subject":
        from bpfc.evaluation.subject import from_factory

        if self.run is not None:
            for name in ("weights", "mean", "std"):
                if getattr(self, name) is not None:
                    raise ValueError(f"--{name}: is for a model that you hand in; a run has its own")
            self.reading.refuse_for("a run, whose are read as its training read them")
            return from_run(self.run, self.data_dir, self.model, self.data, self.reading.workers)
        if self.model is None or self.data is None:
            raise ValueError(UNNAMED)
        return from_factory(self.model, self.weights, self.data, self.data_dir, self.mean, self.std, self.reading)

    def radius(self, eps: float | None, norm: "Norm" = "linf") -> float:
        """ε as it is given, else the recipe's of a run; without the data, which may take long.

        Raises:
            ValueError: it is not given, and there is no recipe, or none in that norm.
            RunError: there is no such run.
        """
        from bpfc.training.run import Run

        if eps is not None:
            return eps
        if self.run is not None and norm == "linf":
            return Run(self.run).recipe().eps
        such_as = "8/255" if norm == "linf" else "0.5; a recipe's is one in ℓ∞"
        raise ValueError(f"--eps: say the radius, in units of [0, 1], such as {such_as}")

    def folder(self, out: Path | None, name: str) -> Path:
        """Where the outcome goes: `out`, or the folder of that name in the run.

        Raises:
            ValueError: there is neither.
        """
        if self.run is None and self.model is None:
            raise ValueError(UNNAMED)
        if out is None and self.run is None:
            raise ValueError("--out: name a folder for what is found of the model that you hand in")
        return out or Path(self.run or "") / name


def from_run(
    folder: Path,
    data_dir: Path | None = None,
    trusted: str | None = None,
    moved: str | None = None,
    workers: int | None = None,
) -> "Subject":
    """The selected network of a run, and the test images of its data set.

    Args:
        folder: that bpfc train wrote.
        data_dir: where the data files are; see bpfc.data.
        trusted: its network, as package.module:function, if that is outside bpfc and may be imported.
        moved: where somebody's own data lies now, if not where the recipe says.
        workers: threads that decode pictures.

    Raises:
        ValueError: the run has another network than that named as trusted.
        RunError, DataError: there is no such run, or its network or data cannot be had.
    """
    from bpfc.training.run import Run
    from bpfc.training.run_data import data_of

    run = Run(folder)
    (network,) = vouched([run], () if trusted is None else (trusted,))
    return of_run(run, data_of(run, data_dir, moved, workers), network)


def of_run(run: "Run", data: "DataSet", trusted: str | None = None) -> "Subject":
    """The same of a run whose data set is at hand.

    Raises:
        RunError: there is no such run, or its network cannot be had.
    """
    import torch

    from bpfc.evaluation.subject import Subject
    from bpfc.methods import BPFC, BPFCIBP, Margin
    from bpfc.models import lay_out
    from bpfc.training.run_data import test_sha256

    recipe, model = run.recipe(), run.model(data, trusted)
    return Subject(
        model,
        data.test,
        recipe.data,
        run.digest,
        data_sha256=test_sha256(run),
        factory=trusted,
        eps=recipe.eps,
        step_size=recipe.step_size,
        k=_of_eight(recipe.method) if isinstance(recipe.method, BPFC | BPFCIBP | Margin) else None,
        channels_last=lay_out(model, data.test.shape[1:]) == torch.channels_last,
    )


def vouched(runs: "Sequence[Run]", trusted: Sequence[str]) -> "list[str | None]":
    """Of each run the network that may be imported, None where it is bpfc's; to be asked before data is read.

    Args:
        runs: folders that bpfc train wrote.
        trusted: networks of theirs whose code somebody has vouched for.

    Raises:
        ValueError: none of the runs has a network that is named as trusted.
        RunError: there is no such run, or its network is code that is not named.
    """
    from bpfc.models import is_code

    networks = [run.recipe().network for run in runs]
    for name in trusted:
        if name not in networks:
            theirs = " or ".join(f"{run.folder} ({network})" for run, network in zip(runs, networks, strict=True))
            raise ValueError(f"--model {name}: is not the network of {theirs}; name one that is, or leave it out")
    for run, network in zip(runs, networks, strict=True):
        run.check_trust(network if network in trusted else None)
    return [network if is_code(network) else None for network in networks]


def _of_eight(method: "BPFC | BPFCIBP | Margin") -> int | None:
    """The method's k as attackers take it, of 8 planes: of 16, 14 planes span what 6 of 8 do. None below 1."""
    k = method.k + 8 - getattr(method, "bits", 8)
    return k if k >= 1 else None

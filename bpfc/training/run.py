"""What a training run leaves behind, and how it is read back without running code.

RUN/recipe.json              the effective recipe, precision included
RUN/provenance.json          for each start of the run: command, commit, versions, hardware
RUN/log.jsonl                a row an epoch
RUN/model.safetensors        the selected weights so far
RUN/checkpoint-0012/         everything after 12 epochs: written under another name, then renamed
    weights.safetensors, selected.safetensors, state.pt
"""

import json
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bpfc.data import DataSet
from bpfc.files import replace_file, write_json
from bpfc.methods import METHODS
from bpfc.models import build
from bpfc.training.recipe import Recipe, Schedule

MODEL = "model.safetensors"


class RunError(Exception):
    """A run's folder is not what it should be; the message says what is wrong and the way out."""


@dataclass
class State:
    """What a killed run needs to continue to the bit; random numbers derive from the seed and the epoch."""

    epochs_done: int
    weights: dict[str, Tensor]
    selected: dict[str, Tensor]
    selected_epoch: int
    selected_score: float
    optimizer: dict[str, Any]


def save_state(run: Path, state: State) -> Path:
    """Writes the state after an epoch, updates the selected weights, removes older states; gives back its folder."""
    folder = _folder(run, state.epochs_done)
    temporary = run / f".{folder.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    save_file(state.weights, temporary / "weights.safetensors")
    save_file(state.selected, temporary / "selected.safetensors")
    rest = {"optimizer": state.optimizer, "epoch": state.selected_epoch, "score": state.selected_score}
    torch.save(rest, temporary / "state.pt")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    replace_file(run / MODEL, lambda path: save_file(state.selected, path))
    for older in _states(run):
        if older != folder:
            shutil.rmtree(older)
    return folder


def load_state(run: Path) -> State | None:
    """The newest state of a run, on the CPU; None if it has none yet."""
    states = _states(run)
    if not states:
        return None
    folder = states[-1]
    rest = torch.load(folder / "state.pt", weights_only=True, map_location="cpu")
    return State(
        epochs_done=int(folder.name.rpartition("-")[2]),
        weights=load_file(folder / "weights.safetensors"),
        selected=load_file(folder / "selected.safetensors"),
        selected_epoch=rest["epoch"],
        selected_score=rest["score"],
        optimizer=rest["optimizer"],
    )


def save_recipe(run: Path, recipe: Recipe, precision: str) -> None:
    write_json(run / "recipe.json", _recipe_json(recipe, precision))


def load_recipe(run: Path) -> Recipe:
    """The recipe of a run.

    Raises:
        RunError: the folder holds no run, or its recipe cannot be read.
    """
    return _recipe_from(_read_recipe(run), run)


def check_same_recipe(run: Path, recipe: Recipe, precision: str) -> None:
    """Raises RunError, naming the fields, if the run in the folder was started with another recipe."""
    before, now = _read_recipe(run), json.loads(json.dumps(_recipe_json(recipe, precision)))
    if changed := [name for name in now if before.get(name) != now[name]]:
        told = "; ".join(f"{name} was {before.get(name)!r}, is {now[name]!r}" for name in changed)
        raise RunError(f"{run}: started with other settings ({told}); give the same ones or choose another --out")


def load_model(run: Path, data: DataSet, trusted: str | None = None) -> nn.Module:
    """The selected network of a run, in eval mode, on the CPU.

    Args:
        run: folder that bpfc train wrote.
        data: the data set that it was trained on.
        trusted: the network that may be imported, if the recipe names one outside bpfc.

    Raises:
        RunError: there are no weights yet, they belong to another network, or that is code that nobody has vouched for.
    """
    recipe = load_recipe(run)
    if ":" in recipe.network and recipe.network != trusted:
        raise RunError(
            f"{run}: its network {recipe.network} is not bpfc's, and importing it runs code; if you trust that code, "
            f"say so with --model {recipe.network}"
        )
    path = run / MODEL
    if not path.exists():
        raise RunError(f"{path}: no weights yet; the run ended before its first epoch: go on with bpfc train --resume")
    model = build(recipe.network, channels=data.channels, classes=data.classes, size=data.size)
    try:
        model.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise RunError(
            f"{path}: not the weights of {recipe.network} on {data.name} ({reason}); "
            f"put the file of this run back or train it again"
        ) from error
    return model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def cpu_copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors on the CPU that later steps do not change, contiguous as safetensors needs them."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}


def _folder(run: Path, epochs_done: int) -> Path:
    return run / f"checkpoint-{epochs_done:04d}"


def _states(run: Path) -> list[Path]:
    return sorted(run.glob("checkpoint-*"))


def _recipe_json(recipe: Recipe, precision: str) -> dict[str, Any]:
    content = asdict(recipe)
    content["method"] = {"name": recipe.method.name, **content["method"]}
    return {**content, "precision": precision}


def _read_recipe(run: Path) -> dict[str, Any]:
    path = run / "recipe.json"
    if not path.is_file():
        raise RunError(f"{run}: holds no run (no recipe.json); name a folder that bpfc train wrote")
    try:
        content = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise RunError(f"{path}: not JSON ({error}); train the run again") from error
    if not isinstance(content, dict):
        raise RunError(f"{path}: not a recipe; train the run again")
    return content


def _recipe_from(content: dict[str, Any], run: Path) -> Recipe:
    values = {item.name: content[item.name] for item in fields(Recipe) if item.name in content}
    try:
        settings = dict(values["method"])
        values["method"] = METHODS[settings.pop("name")](**settings)
        for name in ("lr_schedule", "weight_schedule"):
            schedule = values[name]
            values[name] = Schedule(**{**schedule, "milestones": tuple(schedule["milestones"])})
        return Recipe(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{run / 'recipe.json'}: not a recipe of this version ({error!r}); train the run again"
        ) from error

"""Verb `train`: recipe -> run."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from bpfc.data import load, split
from bpfc.files import make_writable_folder, read_jsonl, write_json
from bpfc.machine import Precision, pick_device, resolve
from bpfc.models import build
from bpfc.provenance import provenance
from bpfc.training.engine import engine, fit
from bpfc.training.recipe import Recipe
from bpfc.training.recipes import RECIPES
from bpfc.training.run import MODEL, RunError, check_same_recipe, save_recipe


@dataclass(frozen=True)
class Train:
    """Train a network by a recipe."""

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    """Settings of the recipe."""
    out: Path
    """Folder of the run; made if need be."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train."""
    precision: Precision = "auto"
    """Arithmetic of forward and backward; auto is bfloat16 where the machine is fast in it."""
    data_dir: Path | None = None
    """Where the data files are; else BPFC_DATA, the user's cache, Debian's package, the network."""
    resume: bool = False
    """Continue the run in the folder."""


def options() -> dict[str, tuple[str, Train]]:
    """The command line's defaults, by recipe."""
    return {name: (text, Train(recipe, out=Path("runs") / name)) for name, (text, recipe) in RECIPES.items()}


def run(options: Train) -> Path:
    """Trains by the options and gives back the run's folder.

    Raises:
        ValueError, DataError, RunError, OSError: something that was asked for can't be had; before any long work.
        FloatingPointError: the loss is no longer finite; names the last good checkpoint.
    """
    recipe, out = options.recipe, options.out
    device = pick_device(options.device)
    precision = resolve(options.precision, device, out / "recipe.json")
    make_writable_folder(out)
    if (out / "recipe.json").exists():
        if not options.resume:
            raise RunError(f"{out}: holds a run already; continue it with --resume, or choose another --out")
        check_same_recipe(out, recipe, precision)
    data = load(recipe.data, options.data_dir)
    training, validation = split(data.train, recipe.validation, recipe.seed)
    if recipe.limit is not None:
        training = training[: recipe.limit]
    fabric = engine(device)
    precision = fabric.broadcast(precision)  # processes that time their CPU may differ
    torch.manual_seed(recipe.seed)
    model = build(recipe.network, channels=data.channels, classes=data.classes, size=data.size)
    if fabric.is_global_zero:
        save_recipe(out, recipe, precision)
        starts = out / "provenance.json"
        before = json.loads(starts.read_text()) if starts.exists() else []
        write_json(starts, [*before, provenance(device)])
    fit(
        fabric,
        recipe,
        precision,
        model,
        training.to(fabric.device),
        validation[: recipe.validation_attacked].to(fabric.device),
        out,
    )
    if fabric.is_global_zero:
        selected = read_jsonl(out / "log.jsonl")[-1]["selected_epoch"] + 1
        print(f"Selected: epoch {selected}, in {out / MODEL}. Attack it with: bpfc evaluate {shlex.quote(str(out))}")
    return out

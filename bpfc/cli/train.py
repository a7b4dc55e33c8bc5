"""Verb `train`: recipe -> run."""

import shlex
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from bpfc.data import load, split
from bpfc.files import owned
from bpfc.machine import pick_device, resolve
from bpfc.models import build
from bpfc.options import DataFolder, Device, Precision
from bpfc.provenance import provenance
from bpfc.training.engine import engine, fit
from bpfc.training.health import TrainingFailed
from bpfc.training.recipe import Recipe
from bpfc.training.recipes import RECIPES
from bpfc.training.run import Run, RunError


@dataclass(frozen=True)
class Train:
    """Train a network by a recipe."""

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    """Settings of the recipe."""
    out: Path
    """Folder of the run; made if need be."""
    device: Device = "auto"
    precision: Annotated[
        Precision,
        tyro.conf.arg(help="Arithmetic of forward and backward; auto is bfloat16 where the machine is fast in it."),
    ] = "auto"
    data_dir: DataFolder = None
    resume: bool = False
    """Continue the run in the folder."""


def options() -> dict[str, tuple[str, Train]]:
    """The command line's defaults, by recipe."""
    return {name: (text, Train(recipe, out=Path("runs") / name)) for name, (text, recipe) in RECIPES.items()}


def main(options: Train) -> None:
    """The verb: train, and say what comes next, or what to do where it came to nothing."""
    recipe = options.recipe
    try:
        run = train(options)
    except TrainingFailed as failure:
        weight = "" if getattr(recipe.method, "weight", None) is None else ", a lower --method.weight"
        advice = f"--clip-norm {recipe.clip_norm / 2 if recipe.clip_norm else 1:g}, a lower --lr{weight}"
        raise TrainingFailed(f"{failure}; train anew with {advice}, into another --out") from failure
    selected = run.log[-1]["selected_epoch"] + 1
    print(f"Selected: epoch {selected}, in {run.weights}. Attack it with: bpfc evaluate {shlex.quote(str(run.folder))}")


def train(options: Train) -> Run:
    """Trains by the options.

    Raises:
        ValueError, DataError, RunError, OSError: something that was asked for can't be had; before any long work.
        TrainingFailed: the training comes to nothing; says which state is good still.
    """
    recipe, run = options.recipe, Run(options.out)
    device = pick_device(options.device)
    precision = resolve(options.precision, device, run.precision)
    if run.begun() and not options.resume:
        raise RunError(f"{options.out}: holds a run already; continue it with --resume, or choose another --out")
    data = load(recipe.data, options.data_dir)
    training, validation = split(data.train, recipe.validation, recipe.seed)
    if recipe.limit is not None:
        training = training[: recipe.limit]
    fabric = engine(device)
    precision = fabric.broadcast(precision)  # processes that time their CPU may differ
    torch.manual_seed(recipe.seed)
    model = build(recipe.network, channels=data.channels, classes=data.classes, size=data.size)
    with owned(options.out) if fabric.is_global_zero else nullcontext():
        if fabric.is_global_zero:
            run.begin(recipe, precision, provenance(device))
        fabric.barrier()
        fit(
            fabric,
            recipe,
            precision,
            model,
            training.to(fabric.device),
            validation[: recipe.validation_attacked].to(fabric.device),
            run,
        )
    return run

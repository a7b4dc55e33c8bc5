"""Trains a network by a recipe: epochs of steps, a look at held-out images after each, a state to go on from."""

import math
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from bpfc.attacks import IFGSM, ImageRng
from bpfc.data import Images, epoch_batches, to_float
from bpfc.files import read_jsonl, write_jsonl
from bpfc.judge import exact_logits, run_attack
from bpfc.machine import Arithmetic, autocast, peak_memory_mib
from bpfc.methods import Method
from bpfc.modes import eval_mode
from bpfc.training.overfitting import WATCHED, signs, warning
from bpfc.training.recipe import Recipe
from bpfc.training.run import State, cpu_copy, load_state, save_state

CHECK_EVERY = 50
"""Steps between two looks at the loss (each waits for the device)."""


def fit(
    fabric: Fabric,
    recipe: Recipe,
    precision: Arithmetic,
    model: nn.Module,
    training: Images,
    validation: Images,
    out: Path,
) -> None:
    """Trains from the newest state in the folder, if any, to the last epoch; leaves a state and a log row an epoch."""
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(
        model.parameters(), recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    loss = TrainingStep(model, recipe.method, precision)
    step, optimizer = fabric.setup(loss, optimizer)
    state = load_state(out)
    if state is not None:
        model.load_state_dict(state.weights)
        optimizer.load_state_dict(state.optimizer)
    first = state.epochs_done if state else 0
    log = read_jsonl(out / "log.jsonl")[:first]
    for epoch in range(first, recipe.epochs):
        started = time.perf_counter()
        loss.method = recipe.method_at(epoch)
        parts = train_epoch(fabric, recipe, step, optimizer, training, epoch, last_good=out if state else None)
        trained = time.perf_counter()
        shares = validate(fabric, recipe, model, validation, precision)
        robust = shares["validation_ifgsm_accuracy"]
        row = {
            "epoch": epoch,
            **parts,
            **shares,
            "images_per_second": len(training) / (trained - started),
            "train_seconds": trained - started,
            "validation_seconds": time.perf_counter() - trained,
            "peak_memory_mib": peak_memory_mib(fabric.device),
        }
        selected, selected_epoch, score = (
            (state.selected, state.selected_epoch, state.selected_score) if state else ({}, -1, -1.0)
        )
        eligible = epoch >= math.floor(recipe.select_from * recipe.epochs)
        if not eligible or robust > score:
            # An epoch that is not eligible stands in until one is: with a score that any eligible epoch beats.
            selected, selected_epoch, score = cpu_copy(model.state_dict()), epoch, robust if eligible else -1.0
        state = State(epoch + 1, cpu_copy(model.state_dict()), selected, selected_epoch, score, optimizer.state_dict())
        log.append({**row, "selected_epoch": selected_epoch})
        if fabric.is_global_zero:
            write_jsonl(out / "log.jsonl", log)
            save_state(out, state)
            _report(log, recipe.epochs)
        fabric.barrier()


class TrainingStep(nn.Module):
    """The loss as one module, so that processes exchange gradients once a step, however many forwards a method makes.

    The method, which changes from epoch to epoch with its λ, gets the network itself, unwrapped.
    """

    def __init__(self, model: nn.Module, method: Method, precision: Arithmetic) -> None:
        super().__init__()
        self.model = model
        self.method = method
        self.precision = precision

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        with autocast(images.device, self.precision):
            output = self.method(self.model, images.contiguous(memory_format=torch.channels_last), labels)
        return output.loss, output.logits.detach(), output.parts


def train_epoch(
    fabric: Fabric,
    recipe: Recipe,
    step: nn.Module,
    optimizer: torch.optim.Optimizer,
    training: Images,
    epoch: int,
    last_good: Path | None,
) -> dict[str, float]:
    """One epoch; gives back learning rate, λ, loss, its parts and the training accuracy, means over the epoch.

    All randomness derives from (seed, epoch, process), so that a resumed run repeats it. Order and augmentation are
    those of a single process; the noise that methods draw differs between processes.
    """
    step.train()
    generator = torch.Generator().manual_seed(_seed(recipe.seed, epoch))
    torch.manual_seed(_seed(recipe.seed, epoch) + 1 + fabric.global_rank)
    batches = epoch_batches(
        training,
        recipe.batch_size,
        augment=recipe.augment,
        generator=generator,
        rank=fabric.global_rank,
        world=fabric.world_size,
    )
    count = math.ceil(len(training) / recipe.batch_size)
    sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=fabric.device))
    seen = torch.zeros((), device=fabric.device)
    with _progress(fabric, f"epoch {epoch + 1}/{recipe.epochs}", count) as advance:
        for at, (images, labels, share) in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr_at(epoch + at / count)
            loss, logits, parts = step(images, labels)
            fabric.backward(loss * (share * fabric.world_size))
            optimizer.step()
            optimizer.zero_grad()
            seen += len(labels)
            for name, value in {"loss": loss.detach(), **parts}.items():
                sums[name] += value * len(labels)
            sums["train_accuracy"] += (logits.argmax(dim=1) == labels).sum()
            if (at + 1) % CHECK_EVERY == 0 or at + 1 == count:
                _check_finite(sums["loss"], epoch, at, last_good)
            advance()
    means = {name: _sum(fabric, value).item() for name, value in sums.items()}
    total = _sum(fabric, seen).item()
    rate = {"lr": recipe.lr_at(epoch), "weight": getattr(recipe.method_at(epoch), "weight", 0.0)}
    return {**rate, **{name: value / total for name, value in means.items()}}


def validate(
    fabric: Fabric, recipe: Recipe, model: nn.Module, validation: Images, precision: Arithmetic
) -> dict[str, float]:
    """Shares of the validation images: right as they are, and under the recipe's I-FGSM (any iterate counts).

    And, on the first of them, the signs of catastrophic overfitting.
    """
    attack = IFGSM(recipe.eps, recipe.ifgsm_steps)
    counts = torch.zeros(5, device=fabric.device)
    mine = torch.arange(fabric.global_rank, len(validation), fabric.world_size)
    with eval_mode(model):
        for indices in mine.split(256):
            batch = validation[indices.to(fabric.device)]
            images = as_seen(batch)
            right = exact_logits(model, images).argmax(dim=1) == batch.labels
            if not right.any():
                continue
            rng = ImageRng(recipe.seed, indices[right.cpu()].tolist())
            with autocast(fabric.device, precision):
                judge = run_attack(model, images[right], batch.labels[right], attack, rng)
            counts[:2] += torch.stack([right.sum(), (~judge.broken).sum()])
        watched = validation[mine[mine < WATCHED].to(fabric.device)]
        with autocast(fabric.device, precision):
            rng = ImageRng(recipe.seed, mine[mine < WATCHED].tolist())
            counts[2:] += signs(model, as_seen(watched), watched.labels, recipe.eps, rng)
    clean, robust, fgsm, pgd, alignment = _sum(fabric, counts).tolist()
    number = min(WATCHED, len(validation))
    return {
        "validation_accuracy": clean / len(validation),
        "validation_ifgsm_accuracy": robust / len(validation),
        "watched_fgsm_accuracy": fgsm / number,
        "watched_pgd_accuracy": pgd / number,
        "gradient_alignment": alignment / number,
    }


def as_seen(images: Images) -> Tensor:
    """Images as the network sees them, in the layout that convolutions are fastest in."""
    return to_float(images.pixels).contiguous(memory_format=torch.channels_last)


def engine(device: torch.device) -> Fabric:
    """An engine for this process, or for all of them under torchrun.

    In full precision: its mixed precision would round the images themselves to bfloat16, before the quantiser.
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    nodes = int(os.environ.get("WORLD_SIZE", "1")) // processes
    fabric = Fabric(
        accelerator=device.type,
        devices=processes,
        num_nodes=nodes,
        strategy="ddp" if processes * nodes > 1 else "auto",
    )
    fabric.launch()
    return fabric


def _sum(fabric: Fabric, values: Tensor) -> Tensor:
    """The sum over all processes."""
    total = fabric.all_reduce(values, reduce_op="sum")
    assert isinstance(total, Tensor)
    return total


def _seed(seed: int, epoch: int) -> int:
    return (seed * 1_000_003 + epoch) * 10_007


def _check_finite(total: Tensor, epoch: int, at: int, last_good: Path | None) -> None:
    if not torch.isfinite(total):
        kept = (
            f"the last good state is that after epoch {epoch} in {last_good}" if last_good else "no state was saved yet"
        )
        raise FloatingPointError(
            f"the loss is no longer finite (epoch {epoch + 1}, step {at + 1}): {kept}; "
            f"train with a lower --lr or a lower weight of the regulariser"
        )


@contextmanager
def _progress(fabric: Fabric, text: str, count: int) -> Iterator[Any]:
    """A bar with the time left, where somebody watches; yields the function that advances it."""
    columns = (TextColumn(text), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeRemainingColumn())
    watched = fabric.is_global_zero and sys.stdout.isatty()
    with Progress(*columns, transient=True, disable=not watched) as progress:
        task = progress.add_task(text, total=count)
        yield lambda: progress.advance(task)


def _report(log: list[dict[str, Any]], epochs: int) -> None:
    """A line an epoch, for terminals and log files alike."""
    row = log[-1]
    seconds = sum(row["train_seconds"] + row["validation_seconds"] for row in log[-5:]) / len(log[-5:])
    left = timedelta(seconds=round(seconds * (epochs - len(log))))
    shown = {
        name: f"{row[name]:.4g}"
        for name in ("loss", "cross_entropy", "regulariser", "lr", "weight", "images_per_second")
        if name in row
    }
    accuracies = (
        "train {train_accuracy:.1%} validation {validation_accuracy:.1%} I-FGSM {validation_ifgsm_accuracy:.1%}"
    )
    parts = " ".join(f"{name} {value}" for name, value in shown.items())
    print(f"epoch {len(log)}/{epochs}: {parts} {accuracies.format(**row)}; {left} left", flush=True)
    if (told := warning(log)) and not (log[:-1] and warning(log[:-1])):
        print(f"warning: {told}", flush=True)

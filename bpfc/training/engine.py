"""Trains a network by a recipe: epochs of steps, a look at held-out images after each, a state to go on from."""

import logging
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bpfc.data import AnyImages, alternating_flips, epoch_batches
from bpfc.machine import autocast, peak_memory_mib
from bpfc.methods import Method
from bpfc.models import folded, kept_as, lay_out
from bpfc.options import Arithmetic
from bpfc.training.health import SOON, TrainingError, check_finite, collapse
from bpfc.training.progress import bar, report
from bpfc.training.recipe import Recipe
from bpfc.training.run import Run
from bpfc.training.settings import whole
from bpfc.training.state import State
from bpfc.training.validation import total, validate

if TYPE_CHECKING:
    from lightning_fabric import Fabric

CHECK_EVERY = 50
"""Steps between two looks at the loss (each waits for the device)."""


def fit(
    fabric: "Fabric",
    recipe: Recipe,
    precision: Arithmetic,
    model: nn.Module,
    training: AnyImages,
    validation: AnyImages,
    run: Run,
) -> None:
    """Trains from the newest state in the folder, if any, to the last epoch; leaves a state and a log row an epoch.

    Raises:
        TrainingError: the loss or the weights are no longer finite, or the network has collapsed to constant logits.
        RunError: the state in the folder is damaged.
    """
    layout = lay_out(model, training.shape[1:])
    optimizer = optimizer_for(recipe, model)
    loss = TrainingStep(model, recipe.method, precision, layout)
    step, optimizer = fabric.setup(loss, optimizer)
    averaged = averaged_model(recipe, model)  # a copy, so made where the engine has put the network
    judged = model if averaged is None else averaged.module
    state = run.load()
    fabric.barrier()  # all have read before one writes
    if state is not None:
        if fabric.is_global_zero:
            run.follow(state)
        model.load_state_dict(state.weights)
        load_momentum(optimizer, state.momentum)
        if averaged is not None:
            averaged.load_state_dict(state.averaged)
    steps = math.ceil(len(training) / recipe.batch_size)
    first = state.epochs_done if state else 0
    with bar(fabric, recipe.epochs * steps, first * steps) as advance:

        def after_step() -> None:
            if averaged is not None:
                averaged.update_parameters(model)
            advance()

        for epoch in range(first, recipe.epochs):
            started = time.perf_counter()
            kept = f"the last state is that after epoch {epoch} in {run.folder}" if state else "no state was saved"
            parts = train_epoch(fabric, recipe, step, loss, optimizer, training, epoch, kept, after_step)
            trained = time.perf_counter()
            if fabric.world_size > 1:
                for each in [model] if averaged is None else [model, averaged]:
                    _take_buffers_of_first(fabric, each)
            shares = validate(fabric, recipe, judged, validation, precision, layout)
            row = {
                "epoch": epoch,
                **parts,
                **shares,
                "images_per_second": len(training) / (trained - started),
                "train_seconds": trained - started,
                "validation_seconds": time.perf_counter() - trained,
                "peak_memory_mib": peak_memory_mib(fabric.device),
            }
            log = [*(state.log if state else []), row]
            told = collapse(log, training.labels.cpu(), len(validation), recipe.epochs)
            if told and len(log) * steps >= SOON:
                raise TrainingError(f"{told}: {kept}")
            state = _next_state(recipe, model, averaged, optimizer, state, log)
            if fabric.is_global_zero:
                run.save(state)
                report(state.log, recipe, training.shape[-1], told)
            fabric.barrier()


def _next_state(
    recipe: Recipe,
    model: nn.Module,
    averaged: AveragedModel | None,
    optimizer: torch.optim.Optimizer,
    before: State | None,
    log: list[dict[str, Any]],
) -> State:
    """The state after the epoch whose row ends the log; that row learns which epoch is selected."""
    epoch, robust = log[-1]["epoch"], log[-1]["validation_ifgsm_accuracy"]
    weights = cpu_copy(model.state_dict())
    average = {} if averaged is None else cpu_copy(averaged.state_dict())
    trained = model if averaged is None else averaged.module
    judged = cpu_copy((folded(trained) if kept_as(recipe.network) != recipe.network else trained).state_dict())
    # An epoch that is not eligible stands in, without a score, until one is.
    eligible = recipe.select == "ifgsm" and epoch >= whole(recipe.select_from, recipe.epochs)
    best = None if before is None else before.selected_score
    if before is None or not eligible or best is None or robust > best:
        kept = {name: rounded(tensor) for name, tensor in judged.items()} if recipe.weights == "bfloat16" else judged
        selected, selected_epoch, score = kept, epoch, robust if eligible else None
    else:
        selected, selected_epoch, score = before.selected, before.selected_epoch, best
    log[-1]["selected_epoch"] = selected_epoch
    return State(epoch + 1, weights, momentum(optimizer), average, selected, selected_epoch, score, log)


def _take_buffers_of_first(fabric: "Fabric", model: nn.Module) -> None:
    """BatchNorm's running statistics are of a process's own images; the first's are kept, so all judge by these."""
    first = fabric.broadcast(cpu_copy(dict(model.named_buffers())))
    for name, buffer in model.named_buffers():
        buffer.copy_(first[name])


def cpu_copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors on the CPU that later steps do not change."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}


def rounded(tensor: Tensor) -> Tensor:
    return tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor


def optimizer_for(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    if recipe.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(model.parameters(), recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)


def averaged_model(recipe: Recipe, model: nn.Module) -> AveragedModel | None:
    """A copy of the network that follows its weights, and its BatchNorm's statistics, at a distance."""
    if recipe.averaging is None:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.averaging), use_buffers=True)


def momentum(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What the optimizer remembers of each parameter, by NAME.PLACE; the rest of its state is the recipe's."""
    return cpu_copy(
        {
            f"{name}.{place}": value
            for place, entry in optimizer.state_dict()["state"].items()
            for name, value in entry.items()
            if value is not None
        }
    )


def load_momentum(optimizer: torch.optim.Optimizer, memory: dict[str, Tensor]) -> None:
    content = optimizer.state_dict()
    content["state"] = defaultdict(dict)
    for name, value in memory.items():
        what, _, place = name.rpartition(".")
        content["state"][int(place)][what] = value
    optimizer.load_state_dict(content)


class TrainingStep(nn.Module):
    """The loss as one module, so that processes exchange gradients once a step, however many forwards a method makes.

    The method, which changes from epoch to epoch with its λ, gets the network itself, unwrapped.
    """

    def __init__(
        self,
        model: nn.Module,
        method: Method,
        precision: Arithmetic,
        layout: torch.memory_format = torch.channels_last,
    ) -> None:
        super().__init__()
        self.model = model
        self.method = method
        self.precision = precision
        self.layout = layout

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        with autocast(images.device, self.precision):
            output = self.method(self.model, images.contiguous(memory_format=self.layout), labels)
        return output.loss, output.logits.detach(), output.parts


def train_epoch(
    fabric: "Fabric",
    recipe: Recipe,
    step: nn.Module,
    loss: TrainingStep,
    optimizer: torch.optim.Optimizer,
    training: AnyImages,
    epoch: int,
    kept: str,
    advance: Callable[[], None],
) -> dict[str, float]:
    """One epoch; gives back means over it of the loss, its parts and the training accuracy, and lr and λ at its start.

    All randomness derives from (seed, epoch, process), so that a resumed run repeats it. Order and augmentation are
    those of a single process; the noise that methods draw differs between processes. `step` is `loss` as the
    engine has wrapped it; `kept` says which state is good, should this epoch fail.
    """
    step.train()
    generator = torch.Generator().manual_seed(_seed(recipe.seed, epoch))
    torch.manual_seed(_seed(recipe.seed, epoch, 1 + fabric.global_rank))
    size = training.shape[-1]
    batches = epoch_batches(
        training,
        recipe.batch_size,
        augment=recipe.augment,
        generator=generator,
        flips=alternating_flips(len(training), recipe.seed, epoch) if recipe.flips == "alternating" else None,
        side=side if (side := recipe.side_at(epoch, size)) < size else None,
        rank=fabric.global_rank,
        world=fabric.world_size,
    )
    count = math.ceil(len(training) / recipe.batch_size)
    sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=fabric.device))
    seen = torch.zeros((), device=fabric.device)
    for at, (images, labels, share) in enumerate(batches):
        position = epoch + at / count
        loss.method = recipe.method_at(position)
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr_at(position)
        value, logits, parts = step(images, labels)
        fabric.backward(value * (share * fabric.world_size))
        if recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(loss.model.parameters(), recipe.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        seen += len(labels)
        for name, part in {"loss": value.detach(), **parts}.items():
            sums[name] += part * len(labels)
        sums["train_accuracy"] += (logits.argmax(dim=1) == labels).sum()
        if (at + 1) % CHECK_EVERY == 0 or at + 1 == count:
            check_finite(sums["loss"], "the loss is", f"epoch {epoch + 1}, step {at + 1}", kept)
        advance()
    weights = torch.stack([parameter.detach().sum() for parameter in loss.model.parameters()])
    check_finite(weights, "the weights are", f"epoch {epoch + 1}, after its last step", kept)
    means = {name: total(fabric, value).item() for name, value in sums.items()}
    images_seen = total(fabric, seen).item()
    method = recipe.method_at(epoch)
    moved = getattr(method, "in_force", {"weight": method.weight} if hasattr(method, "weight") else {})
    return {"lr": recipe.lr_at(epoch), **moved, **{name: value / images_seen for name, value in means.items()}}


def engine(device: torch.device) -> "Fabric":
    """An engine for this process, or for all of them under torchrun.

    In full precision: its mixed precision would round the images themselves to bfloat16, before the quantiser. It
    advises TF32 on every GPU, where float32 is meant: it is told to keep that to itself.
    """
    from lightning_fabric import Fabric  # which takes seconds, and who looks at a run or times a step needs none
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    nodes = int(os.environ.get("WORLD_SIZE", "1")) // processes
    # Without torchrun it would take a shell inside a SLURM job for one of its tasks, and ask for the others.
    alone = "LOCAL_WORLD_SIZE" not in os.environ
    fabric = Fabric(
        accelerator=device.type,
        devices=processes,
        num_nodes=nodes,
        strategy="ddp" if processes * nodes > 1 else "auto",
        plugins=[LightningEnvironment()] if alone else None,
    )
    fabric.launch()
    return fabric


def _seed(seed: int, epoch: int, number: int = 0) -> int:
    """The seed of one of an epoch's generators, in the range that torch takes."""
    return ((seed * 1_000_003 + epoch) * 10_007 + number) % 2**64

"""From a recipe and a folder to a run: everything that can be wrong is looked at first, then the engine trains."""

from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bpfc.answers import Answers
from bpfc.checks import first_line
from bpfc.data import AnyImages, load, shrink, split, to_float, told_of
from bpfc.errors import UserError
from bpfc.files import check_writable, make_writable_folder, owned
from bpfc.machine import pick_device, resolve
from bpfc.methods import BPFCIBP, IBP, ManifoldMixup
from bpfc.methods.ibp import traced
from bpfc.models import build, check_name
from bpfc.modes import eval_mode, kept_modes, own_randomness
from bpfc.options import AS_THEY_ARE, Device, Precision, Reading
from bpfc.provenance import provenance
from bpfc.team import team
from bpfc.training.engine import engine, fit
from bpfc.training.recipe import Recipe
from bpfc.training.run import Run, RunError
from bpfc.training.run_data import describe, remember


def train(
    recipe: Recipe,
    out: Path,
    *,
    device: Device = "auto",
    precision: Precision = "auto",
    data_dir: Path | None = None,
    resume: bool = False,
    reading: Reading = AS_THEY_ARE,
    sync_batchnorm: bool = False,
) -> Run:
    """Trains by the recipe, from what the folder holds on if `resume`.

    Args:
        recipe: what to train, and how.
        out: folder of the run; made if need be.
        device: where to compute.
        precision: arithmetic of forward and backward.
        data_dir: where the data files are; see bpfc.data.
        resume: go on with the run in the folder, if there is one; else a run there is an error.
        reading: how pictures of one's own are taken.
        sync_batchnorm: BatchNorm normalises by the images of all processes; on GPUs.

    Raises:
        ValueError, DataError, RunError, OSError: something that was asked for can't be had; before any long work.
        TrainingError: the training comes to nothing; says which state is good still.
    """
    run = Run(out)
    check_name(recipe.network)
    where = pick_device(device)
    if sync_batchnorm:
        check_synchronises(where)
        if isinstance(recipe.method, IBP | BPFCIBP):
            raise ValueError(
                f"--sync-batchnorm: {recipe.method.name} takes BatchNorm by the images of one process; leave it out"
            )
    arithmetic = resolve(precision, where, run.precision)
    if run.exists and not resume:
        raise RunError(f"{out}: holds a run already; continue it with --resume, or choose another --out")
    check_writable(out)
    data = load(recipe.data, data_dir, reading)
    described = describe(data, reading)
    if team().first:
        print(*(f"{line}\n" for line in told_of(data.skipped)), sep="", end="", flush=True)
    training, validation = split(data.train, recipe.validation, recipe.seed)
    if recipe.limit is not None:
        training = training[: recipe.limit]
    if (batch := min(recipe.batch_size, len(training))) < team().size:
        raise ValueError(
            f"--batch-size {recipe.batch_size}: a batch of {batch} leaves some of {team().size} processes without an "
            "image; choose a larger batch or --limit, or fewer processes"
        )
    fabric = engine(where)
    arithmetic = fabric.broadcast(arithmetic)  # processes that time their CPU may differ
    torch.manual_seed(recipe.seed)
    model = build(recipe.network, channels=data.channels, classes=data.classes, size=data.size)
    if ":" in recipe.network:  # a library's or somebody's; ours are known to answer
        _try(model, training[:2], f"the network {recipe.network}", data.classes)
        _try_training(model, training[:1], f"the network {recipe.network}")
    if recipe.shrunk:
        _try_smaller(model, training[:2], recipe)
    if not sync_batchnorm or team().size == 1:  # else it is taken over the images of all processes
        _check_batches(recipe, model, training)
    if isinstance(recipe.method, ManifoldMixup):
        recipe.method.check(model)
    if isinstance(recipe.method, IBP | BPFCIBP):
        traced(model, tuple(training.shape[1:]))
    if sync_batchnorm:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # same names and values
    if fabric.is_global_zero:
        make_writable_folder(out)
    with owned(out) if fabric.is_global_zero else nullcontext():
        if fabric.is_global_zero:
            run.begin(recipe, arithmetic, provenance(where))
            remember(run, described)
        fabric.barrier()
        fit(
            fabric,
            recipe,
            arithmetic,
            model,
            training.to(fabric.device),
            validation[: recipe.validation_attacked].to(fabric.device),
            run,
        )
    return run


def _check_batches(recipe: Recipe, model: nn.Module, training: AnyImages) -> None:
    """Raises ValueError where a process would get one image, and the network, left as it was, cannot train on one.

    As where BatchNorm has one value a channel, whose variance is none.
    """
    count, side = len(training), recipe.side_at(0, training.shape[-1])
    if all(size // team().size != 1 for size in (min(count, recipe.batch_size), count % recipe.batch_size)):
        return
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        with torch.no_grad(), kept_modes(model), own_randomness(training.labels.device, seed=0):
            functional_call(model.train(), buffers, (to_float(shrink(training[:1].pixels, side)),))
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"--batch-size {recipe.batch_size}: of {count} images a batch would leave one to a process, which "
            f"{recipe.network} cannot train on ({first_line(error)}); choose another batch size or --limit"
        ) from error


def check_synchronises(device: torch.device) -> None:
    """Raises ValueError for a device on which torch cannot synchronise BatchNorm."""
    if device.type == "cpu":
        raise ValueError(
            "--sync-batchnorm: torch synchronises BatchNorm on GPUs alone, and this is the CPU; without it each "
            "process normalises by its own images"
        )


def _try(model: nn.Module, some: AnyImages, name: str, classes: int) -> None:
    """Raises UserError for a network of somebody's that gives no logits of some images, or too few."""
    with torch.no_grad(), eval_mode(model), Answers(model, name).to(range(len(some))):
        count = model(to_float(some.pixels)).shape[1]
    if count < classes:
        raise UserError(f"{name}: gives {count} logits an image, but the data has {classes} classes; give it as many")


def _try_training(model: nn.Module, one: AnyImages, name: str) -> None:
    """Raises UserError for a network of somebody's that cannot be trained, or not kept; leaves it as it was."""
    if odd := [each for each, value in model.state_dict().items() if not isinstance(value, Tensor)]:
        raise UserError(f"{name}: {odd[0]} of its state is no tensor, so it cannot be saved; take it out of the state")
    weights = {each: weight for each, weight in model.named_parameters() if weight.requires_grad}
    if not weights:
        raise UserError(f"{name}: none of its weights may be trained; requires_grad_() makes them learn")
    buffers = {each: buffer.clone() for each, buffer in model.named_buffers()}
    images = to_float(one.pixels).repeat(2, 1, 1, 1)  # on one alone BatchNorm may fail
    trained = Answers(model, f"{name} in train mode")
    with kept_modes(model), own_randomness(one.labels.device, seed=0), trained.to(range(len(one))):
        logits = functional_call(model.train(), buffers, (images,))
        found = (
            torch.autograd.grad(logits.sum(), [*weights.values()], allow_unused=True) if logits.requires_grad else ()
        )
    if not found:
        raise UserError(f"{name}: no gradient comes from its logits; take torch.no_grad() and detach() out of it")
    idle = [each for each, gradient in zip(weights, found, strict=True) if gradient is None]
    if idle and team().size > 1:
        raise UserError(
            f"{name}: no logit hangs on its weights {idle[0]}, and processes exchange the gradients of all; take them "
            "out, freeze them with requires_grad_(False), or train in one process"
        )


def _try_smaller(model: nn.Module, some: AnyImages, recipe: Recipe) -> None:
    """Raises UserError for a network that takes images of one size alone, where the recipe begins with smaller ones."""
    size = some.shape[-1]
    smaller = shrink(some.pixels, recipe.side_at(0, size))
    try:
        with torch.no_grad(), eval_mode(model):
            model(to_float(smaller))
    except RuntimeError as error:
        raise UserError(
            f"shrunk={recipe.shrunk}: {recipe.network} takes images of {size} pixels alone; leave it out, or choose a "
            "network for any size, such as resnet-18"
        ) from error

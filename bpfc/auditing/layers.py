"""Where the gradient gets lost: layer by layer, how far the output moves against what the gradient says.

What is found is replaced in what the attacker differentiates (BPDA, Athalye et al. 2018), never in what is judged.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bpfc.attacks.ascent import input_gradient
from bpfc.attacks.objectives import margin
from bpfc.auditing.stand_ins import Opened, Tapped, logarithms
from bpfc.evaluation.checks import are_probabilities
from bpfc.modes import own_randomness
from bpfc.wrappers import BPDA

USELESS = 0.1
"""Share of a layer's movement that its gradient must foresee; ours. Working layers lie between about 0.3 and 2."""
WORKING = 0.95
"""Share of the images that must have a gradient through a stand-in for it to be attacked; ours."""


@dataclass(frozen=True)
class Lost:
    """A layer that the gradient gets lost in.

    Attributes:
        name: in the model; "" for the model itself.
        told: the same for people: "layer 0, BitDepth".
        foreseen: the share of the movement that the gradient foresees; None where it lets none through.
        straight: its output has its input's shape, so that the identity can stand in for it.
    """

    name: str
    told: str
    foreseen: float | None
    straight: bool


def lost_layers(model: nn.Module, images: Tensor, eps: float) -> list[Lost]:
    """The layers of the model, in the order in which they run, whose gradient does not tell where they move.

    Each layer's output is compared at random points and at random corners of the images' ε-balls. Of its movement d,
    the gradient foresees (Jᵀ d) · v / |d|², where v is the movement of its input: 1 for a linear layer, 0 for rounding,
    below 0 for one that misleads.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(images.shape, generator=generator).to(images) * 2 - 1
    point, corner = ((images + eps * each).clamp(0, 1) for each in (noise, -noise.sign()))
    here, there = _traffic(model, point), _traffic(model, corner)
    found = []
    for name, (before, after) in here.items():
        if name not in there or there[name][1].shape != after.shape:
            continue
        layer = model.get_submodule(name)
        moved, answered = there[name][0] - before, there[name][1] - after
        if not moved.any() or float(answered.norm()) <= 1e-6 * float(after.norm()):
            continue  # nothing arrives, or nothing happens
        foreseen = _foreseen(layer, before, moved, answered)
        if foreseen is None or not USELESS <= foreseen < 1 / USELESS:
            told = f"layer {name}, {type(layer).__name__}" if name else type(layer).__name__
            found.append(Lost(name, told, foreseen, before.shape == after.shape))
    return found


def _traffic(model: nn.Module, images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """What goes in and out of each layer without layers of its own, at its first call, in order."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    handles = []
    for name, module in model.named_modules():

        def note(module: nn.Module, arguments: tuple[object, ...], output: object, name: str = name) -> None:
            if arguments and isinstance(arguments[0], Tensor) and isinstance(output, Tensor) and name not in seen:
                seen[name] = arguments[0].detach().float(), output.detach().float()

        if not any(True for _ in module.children()):
            handles.append(module.register_forward_hook(note))
    try:
        with torch.no_grad(), own_randomness(images.device, seed=0):
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _foreseen(layer: nn.Module, before: Tensor, moved: Tensor, answered: Tensor) -> float | None:
    with torch.enable_grad(), own_randomness(before.device, seed=0):
        at = before.clone().requires_grad_()
        try:
            output = layer(at)
            (gradient,) = torch.autograd.grad(output, at, answered.to(output.dtype))
        except (RuntimeError, NotImplementedError):  # it has no gradient
            return None
    return float((gradient * moved).sum() / answered.square().sum())


def working_gradients(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of the images whose margin has a finite gradient other than zero; 0 where there is no gradient."""
    try:
        gradient, _ = input_gradient(model, images, labels, margin)
    except (ValueError, RuntimeError, NotImplementedError):
        return 0.0
    flat = gradient.flatten(1)
    return float((torch.isfinite(flat).all(dim=1) & (flat != 0).any(dim=1)).float().mean())


def around(model: nn.Module, images: Tensor, labels: Tensor, eps: float) -> tuple[nn.Module, str] | None:
    """A stand-in with gradients for a model without useful ones, and what stood in the way; None if none is found."""
    lost = lost_layers(model, images, eps)
    straight = [each for each in lost if each.straight and each.name]
    if straight:
        stand_in = _with_bpda(model, straight)
        if working_gradients(stand_in, images, labels) >= WORKING:
            return stand_in, " and ".join(each.told for each in straight)
        if working_gradients(Opened(stand_in), images, labels) >= WORKING:
            return Opened(stand_in), " and ".join([*(each.told for each in straight), "code that records no gradients"])
    if working_gradients(model, images, labels) >= WORKING:
        return None  # nothing is in the way
    if working_gradients(Opened(model), images, labels) >= WORKING:
        return Opened(model), "code that records no gradients"
    for name, (before, _) in _traffic(model, images).items():
        if name and before.shape == images.shape:
            stand_in = Opened(model, name)
            if working_gradients(stand_in, images, labels) >= WORKING:
                return stand_in, f"code before layer {name}, {type(model.get_submodule(name)).__name__}"
    return None


def _with_bpda(model: nn.Module, lost: list[Lost]) -> nn.Module:
    """A copy on the same weights, with the identity's gradient in those layers."""
    shared = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    copied: nn.Module = copy.deepcopy(model, shared)
    for each in lost:
        copied.set_submodule(each.name, BPDA(copied.get_submodule(each.name)))
    return copied.eval()


def without_softmax(model: nn.Module, images: Tensor) -> nn.Module:
    """A model that gives probabilities, by its logits: those of its last layer that names the same classes.

    Where there is no such layer, by the logarithms of the probabilities.
    """
    with torch.no_grad(), own_randomness(images.device, seed=0):
        answers = model(images)
    for name, (_, output) in reversed(_traffic(model, images).items()):
        alike = output.shape == answers.shape and bool((output.argmax(dim=1) == answers.argmax(dim=1)).all())
        if name and alike and not are_probabilities(output):
            return Tapped(model, name)
    return logarithms(model)

"""Where the gradient gets lost: layer by layer, how far the output moves against what the gradient says.

What is found is replaced in what the attacker differentiates (BPDA, Athalye et al. 2018), never in what is judged.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from bpfc.attacks.ascent import input_gradient
from bpfc.attacks.objectives import margin
from bpfc.auditing.fitted import can_be_fitted, fitted
from bpfc.auditing.stand_ins import Opened, Tapped, hooked, logarithms
from bpfc.checks import are_probabilities
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
        fits: it keeps the place of its input, so that a smooth stand-in can be fitted to it.
    """

    name: str
    told: str
    foreseen: float | None
    straight: bool
    fits: bool


def lost_layers(model: nn.Module, images: Tensor, eps: float) -> list[Lost]:
    """The layers of the model, in the order in which they run, whose gradient does not tell where they move.

    Each layer's output is compared at random points and at random corners of the images' ε-balls. Of its movement d,
    the gradient foresees (Jᵀ d) · v / |d|², where v is the movement of its input: 1 for a linear layer, 0 for rounding,
    below 0 for one that misleads.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(images.shape, generator=generator).to(images) * 2 - 1
    point, corner = ((images + eps * each).clamp(0, 1) for each in (noise, -noise.sign()))
    here, there = traffic(model, point), traffic(model, corner)
    found = []
    for name, (before, after) in here.items():
        if name not in there or there[name][1].shape != after.shape:
            continue
        layer = model.get_submodule(name)
        moved, answered = (
            later.float() - sooner.float() for sooner, later in zip(here[name], there[name], strict=True)
        )
        if not moved.any() or float(answered.norm()) <= 1e-6 * float(after.float().norm()):
            continue  # nothing arrives, or nothing happens
        foreseen = _foreseen(layer, before, moved, answered)
        if foreseen is None or not USELESS <= foreseen < 1 / USELESS:
            told = f"layer {name}, {type(layer).__name__}" if name else type(layer).__name__
            straight, fits = before.shape == after.shape, can_be_fitted(before, after)
            found.append(Lost(name, told, foreseen, straight, fits))
    return found


def traffic(model: nn.Module, images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """What goes in and out of each layer without layers of its own, or of a script, at its first call, in order."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    names = {
        module: name
        for name, module in model.named_modules()
        if isinstance(module, torch.jit.ScriptModule) or not any(True for _ in module.children())
    }

    def note(module: nn.Module, arguments: tuple[object, ...], output: object) -> None:
        name = names.get(module)
        if name is None or name in seen or not arguments:
            return
        if isinstance(arguments[0], Tensor) and isinstance(output, Tensor):
            seen[name] = arguments[0].detach(), output.detach()

    with hooked(note), torch.no_grad(), own_randomness(images.device, seed=0):
        model(images)
    return seen


def _foreseen(layer: nn.Module, before: Tensor, moved: Tensor, answered: Tensor) -> float | None:
    with torch.enable_grad(), own_randomness(before.device, seed=0):
        try:
            at = before.clone().requires_grad_()
            output = layer(at)
            (gradient,) = torch.autograd.grad(output, at, answered.to(output.dtype))
        except (RuntimeError, NotImplementedError):  # it has no gradient
            return None
    return float((gradient.float() * moved).sum() / answered.square().sum())


def working_gradients(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of the images whose margin has a finite gradient other than zero; 0 where there is no gradient."""
    try:
        gradient, _ = input_gradient(model, images, labels, margin)
    except (ValueError, RuntimeError, NotImplementedError):
        return 0.0
    flat = gradient.flatten(1)
    return float((torch.isfinite(flat).all(dim=1) & (flat != 0).any(dim=1)).float().mean())


@dataclass(frozen=True)
class Way:
    """What an attacker may differentiate in place of a model without useful gradients.

    Attributes:
        told: what stood in the way, for people.
        stand_ins: one or more, the same forward, another backward.
    """

    told: str
    stand_ins: tuple[nn.Module, ...]


def around(model: nn.Module, images: Tensor, labels: Tensor, eps: float, most: int | None = None) -> Way | None:
    """A way around what hides the gradients, with the images that show it; None if nothing is in the way, or found.

    `most`: so many stand-ins are enough, and no more are made; all that work unless given.
    """

    def works(stand_in: nn.Module) -> bool:
        return working_gradients(stand_in, images, labels) >= WORKING

    lost = [each for each in lost_layers(model, images, eps) if each.name and (each.straight or each.fits)]
    if lost:
        told = [each.told for each in lost]
        for open_up, also in ((lambda stand_in: stand_in, []), (Opened, ["code that records no gradients"])):
            ways = map(open_up, _stand_ins(model, lost, images, eps))
            if found := tuple(islice(filter(works, ways), most)):
                return Way(" and ".join([*told, *also]), found)
    if works(model):
        return None  # nothing is in the way
    if works(Opened(model)):
        return Way("code that records no gradients", (Opened(model),))
    for name, (before, _) in traffic(model, images).items():
        if name and before.shape == images.shape and works(stand_in := Opened(model, name)):
            return Way(f"code before layer {name}, {type(model.get_submodule(name)).__name__}", (stand_in,))
    if (tapped := _tapped(model, images)) is not None and works(tapped):
        layer = model.get_submodule(tapped.layer)
        return Way(f"code after layer {tapped.layer}, {type(layer).__name__}", (tapped,))
    return None


def _stand_ins(model: nn.Module, lost: list[Lost], images: Tensor, eps: float) -> Iterator[nn.Module]:
    """Copies on the same weights: those layers differentiated as the identity; and as what was fitted to them."""
    if all(each.straight for each in lost):
        yield _with_bpda(model, {each.name: None for each in lost})
    if any(each.fits for each in lost):
        points = [traffic(model, _near(images, eps, draw)) for draw in range(4)]
        smooth = {each.name: fitted([at[each.name] for at in points]) if each.fits else None for each in lost}
        yield _with_bpda(model, smooth)


def _near(images: Tensor, eps: float, draw: int) -> Tensor:
    """Random points of the images' ε-balls."""
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(draw)).to(images) * 2 - 1
    return (images + eps * noise).clamp(0, 1)


def _with_bpda(model: nn.Module, backwards: Mapping[str, nn.Module | None]) -> nn.Module:
    shared = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    copied: nn.Module = copy.deepcopy(model, shared)
    for name, stand_in in backwards.items():
        layer = copied.get_submodule(name)  # which stays where it is: the code around may read what it holds
        layer.forward = BPDA(layer.forward, stand_in).forward
    return copied.eval()


def without_softmax(model: nn.Module, images: Tensor) -> nn.Module:
    """A model that gives probabilities, by its logits: those of its last layer that names the same classes.

    Where there is no such layer, by the logarithms of the probabilities.
    """
    tapped = _tapped(model, images)
    return logarithms(model) if tapped is None else tapped


def _tapped(model: nn.Module, images: Tensor) -> Tapped | None:
    """The model by what its last layer says that names the same classes, and not in probabilities."""
    with torch.no_grad(), own_randomness(images.device, seed=0):
        answers = model(images)
    for name, (_, output) in reversed(traffic(model, images).items()):
        alike = output.shape == answers.shape and bool((output.argmax(dim=1) == answers.argmax(dim=1)).all())
        if name and alike and not are_probabilities(output.float()):
            return Tapped(model, name)
    return None

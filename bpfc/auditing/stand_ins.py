"""A model as an attacker may differentiate it instead, and attacks that are made on one model and judged on another."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from bpfc.attacks import Attack, Norm, Rng, Watch


@dataclass(frozen=True)
class Through:
    """An attack whose gradients are those of a stand-in. Every iterate is shown as any attack's is.

    Attributes:
        attack: what is run.
        stand_in: what it differentiates.
        alike: the stand-in gives the same class as the model, so that its answers say which iterates may break the
            model; else the model is asked, for one more forward an iterate.
    """

    attack: Attack
    stand_in: nn.Module = field(repr=False)
    alike: bool = True

    @property
    def eps(self) -> float | None:
        return self.attack.eps

    @property
    def norm(self) -> Norm:
        return self.attack.norm

    @property
    def steps(self) -> int | None:
        return self.attack.steps

    @property
    def forwards(self) -> int | None:
        return None  # forwards of another model are no queries of this one

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        def asked(at: Tensor, candidates: Tensor, logits: Tensor, step: int) -> Tensor:
            assert watch is not None
            with torch.no_grad():
                return watch(at, candidates, model(candidates).float(), step)

        seen = watch if watch is None or self.alike else asked
        return self.attack(self.stand_in, images, labels, rng, seen)


class Answers(nn.Module):
    """The model with something done to its answers."""

    def __init__(self, model: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.change = model, change

    def forward(self, images: Tensor) -> Tensor:
        return self.change(self.model(images).float())


def rescaled(model: nn.Module, scale: float) -> Answers:
    """The model with its logits times a constant: the same classes, another cross-entropy."""
    return Answers(model, lambda logits: logits * scale)


def logarithms(model: nn.Module) -> Answers:
    """A model that ends in probabilities, by their logarithms: the same classes, and gradients where it is sure."""
    smallest = torch.finfo(torch.float32).tiny
    return Answers(model, lambda probabilities: probabilities.clamp_min(smallest).log())


@contextmanager
def hooked(note: Callable[[nn.Module, Any, Any], None]) -> Iterator[None]:
    """Inside, `note` hears of each module that answers: TorchScript's too, which take no hooks of their own."""
    handle = register_module_forward_hook(note)
    try:
        yield
    finally:
        handle.remove()


class Tapped(nn.Module):
    """What the last call of one of a model's layers gives, in place of the model's answers."""

    def __init__(self, model: nn.Module, layer: str) -> None:
        super().__init__()
        self.model, self.layer = model, layer

    def forward(self, images: Tensor) -> Tensor:
        found: list[Tensor] = []
        tap = self.model.get_submodule(self.layer)
        with hooked(lambda module, arguments, output: found.append(output) if module is tap else None):
            self.model(images)
        return found[-1]


class Near(nn.Module):
    """The model at a random point beside each image; averaged over, the mean of a rugged surface."""

    def __init__(self, model: nn.Module, deviation: float) -> None:
        super().__init__()
        self.model, self.deviation = model, deviation

    def forward(self, images: Tensor) -> Tensor:
        return torch.as_tensor(self.model(images + self.deviation * torch.randn_like(images)))


class Late(nn.Module):
    """A model that is made when it is first asked: an attack whose outcome was kept never asks."""

    made: nn.Module | None

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.make, self.made = make, None
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        if self.made is None:
            with torch.enable_grad(), torch.autocast(images.device.type, enabled=False):  # it may be trained
                self.made = self.make()
        return torch.as_tensor(self.made(images))


class Ungraded(nn.Module):
    """A model that lets no gradient through, with a gradient of zero, so that attacks run and are seen to be idle."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images).detach() + 0 * images.flatten(1).sum(dim=1, keepdim=True)


class Opened(nn.Module):
    """A model whose layers record gradients though its code says no_grad; and with a straight way into one of them.

    `entry`: a layer that takes something of the images' shape. What comes before it is differentiated as the identity.
    """

    def __init__(self, model: nn.Module, entry: str | None = None) -> None:
        super().__init__()
        self.model, self.entry = model, entry

    def forward(self, images: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return torch.as_tensor(self.model(images))

        layers = set(self.model.modules())
        entry = None if self.entry is None else self.model.get_submodule(self.entry)

        def record(module: nn.Module, arguments: tuple[Tensor, ...]) -> Any:
            if module not in layers:
                return None
            torch.set_grad_enabled(True)
            if module is not entry:
                return None
            entering = images + (arguments[0] - images).detach()
            return (entering.to(arguments[0].dtype), *arguments[1:])

        handle = register_module_forward_pre_hook(record)  # TorchScript's take no hooks of their own
        try:
            with torch.enable_grad():
                return torch.as_tensor(self.model(images))
        finally:
            handle.remove()

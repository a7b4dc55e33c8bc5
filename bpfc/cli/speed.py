"""How long trainings and attacks take here: a step and a pass are timed in seconds, the rest is multiplication."""

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch

from bpfc.machine import autocast
from bpfc.methods import Method, Normal
from bpfc.methods.classes import standing
from bpfc.models import build
from bpfc.options import Arithmetic
from bpfc.training.engine import TrainingStep
from bpfc.training.recipe import Recipe

SHAPES = {
    "mnist-5k": (1, 28, 4_500),
    "mnist": (1, 28, 60_000),
    "fashion-mnist": (1, 28, 60_000),
    "cifar-10": (3, 32, 50_000),
}
"""Channels, size, and images of the published training set."""
WATCHED = 12
"""Passes for each watched validation image of an epoch beside I-FGSM: FGSM, PGD-10, gradients."""

SETTLED = 200
"""Steps after which nearly every iterate repeats, so that the image leaves (bpfc/attacks/ascent.py)."""


@dataclass
class Speed:
    """Of a device in an arithmetic, as it is now.

    Attributes:
        device, precision: of what.
        got: the least share of a CPU's time that a measurement got, where that is less than one core's; else 1.
    """

    device: torch.device
    precision: Arithmetic
    got: float = 1.0

    def step(self, recipe: Recipe, method: Method) -> float:
        """Seconds of a training step of a method, with the recipe's network and batch."""
        channels, size, _ = SHAPES[recipe.data]
        model = build(recipe.network, channels=channels, classes=10, size=size).to(self.device)
        images = torch.rand(recipe.batch_size, channels, size, size, device=self.device)
        labels = torch.arange(recipe.batch_size, device=self.device) % 10
        loss, optimizer = TrainingStep(model.train(), method, self.precision), torch.optim.SGD(model.parameters(), 1e-6)

        def once() -> None:
            loss(images, labels)[0].backward()
            optimizer.step()
            optimizer.zero_grad()

        return self._seconds(once)

    def images_pass(self, network: str, data: str) -> float:
        """Seconds of a forward and a backward to one image, as attacks by gradients make them."""
        channels, size, _ = SHAPES[data]
        model = build(network, channels=channels, classes=10, size=size).to(self.device).eval().requires_grad_(False)
        images = torch.rand(64, channels, size, size, device=self.device, requires_grad=True)

        def once() -> None:
            with autocast(self.device, self.precision):
                torch.autograd.grad(model(images).float().sum(), images)

        return self._seconds(once) / len(images)

    def _seconds(self, work: Callable[[], None]) -> float:
        """The better of two, after one that warms up."""
        taken = []
        for _ in range(3):
            begin, spent = time.perf_counter(), time.process_time()
            work()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            taken.append((time.perf_counter() - begin, time.process_time() - spent))
        wall, busy = min(taken[1:])
        if self.device.type == "cpu" and wall > 1.5 * busy:  # not even one core worked: others had it
            self.got = min(self.got, busy / wall / torch.get_num_threads())
        return wall


class Estimate:
    """Seconds of trainings and evaluations, by a step of normal training and a pass of an attack, each timed once."""

    def __init__(self, speed: Speed) -> None:
        self._step: Callable[[Recipe], float] = cache(lambda normal: speed.step(normal, Normal()))
        self._pass: Callable[[str, str], float] = cache(speed.images_pass)

    def training(self, recipe: Recipe) -> float:
        """Of a whole training, with its looks at validation images."""
        images = SHAPES[recipe.data][2] - recipe.validation
        steps = math.ceil(min(images, recipe.limit or images) / recipe.batch_size)
        per_step = self._step(_as_normal(recipe)) * standing(recipe.method).cost
        watched = recipe.validation_attacked * (recipe.ifgsm_steps + WATCHED)
        return recipe.epochs * (steps * per_step + watched * self._pass(recipe.network, recipe.data))

    def evaluation(self, recipe: Recipe, attacks: str, images: int) -> float:
        """As if no image were broken; those that are leave earlier."""
        return images * sum(map(passes, attacks.split(","))) * self._pass(recipe.network, recipe.data)


def _as_normal(recipe: Recipe) -> Recipe:
    """A recipe that is the same for all methods with one network and batch."""
    return Recipe(
        data=recipe.data,
        network=recipe.network,
        batch_size=recipe.batch_size,
        method=Normal(),
        eps=recipe.eps,
        step_size=recipe.step_size,
        ifgsm_steps=1,
        epochs=1,
        lr=1.0,
    )


def passes(attack: str) -> int:
    """Forwards with backward that an attack of the paper's tables takes for one image: fgsm, ifgsm-40, pgd-500x100."""
    found = re.search(r"-(\d+)(?:x(\d+))?", attack)
    return 1 + (min(int(found[1]), SETTLED) * int(found[2] or 1) if found else 1)

"""How long trainings and attacks take here: a step and a pass are timed in seconds, the rest is multiplication."""

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from bpfc.machine import autocast
from bpfc.models import build
from bpfc.options import Arithmetic
from bpfc.report.experiments import trained_on
from bpfc.training.engine import TrainingStep
from bpfc.training.recipe import Recipe

SHAPES = {"mnist-5k": (1, 28), "mnist": (1, 28), "fashion-mnist": (1, 28), "cifar-10": (3, 32)}
"""Channels and size."""
WATCHED = 12
"""Passes for each watched validation image of an epoch beside I-FGSM: FGSM, PGD-10, gradients."""

SETTLED = 200
"""Steps after which nearly every iterate repeats, so that the image leaves (bpfc/attacks/ascent.py)."""

ROUNDS = 5
"""How often a piece of work is timed at most."""


@dataclass
class Speed:
    """Of a device in an arithmetic. Figures are as of a machine without other work, at best.

    Attributes:
        device, precision: of what.
        passed: seconds that measurements took so far.
        alone: what they would have taken without other work.
    """

    device: torch.device
    precision: Arithmetic
    passed: float = 0.0
    alone: float = 0.0

    @property
    def got(self) -> float:
        """The share of a CPU that measurements got, where others had so much that it shows; else 1."""
        return self.alone / self.passed if self.passed else 1.0

    def steps(self, recipes: Sequence[Recipe], budget: float = 1.0) -> list[float]:
        """Seconds of a training step by each recipe's method, with its network and batch; within a budget of seconds.

        On a CPU colour images, whose networks are large, make an eighth of a batch: time goes with their number.
        """
        parts = [8 if self.device.type == "cpu" and SHAPES[recipe.data][0] == 3 else 1 for recipe in recipes]
        works = [
            self._step(recipe, recipe.batch_size // part or 1) for recipe, part in zip(recipes, parts, strict=True)
        ]
        return [part * seconds for part, seconds in zip(parts, self._best(works, budget), strict=True)]

    def images_pass(self, network: str, data: str) -> float:
        """Seconds of a forward and a backward to one image, as attacks by gradients make them."""
        channels, size = SHAPES[data]
        model = build(network, channels=channels, classes=10, size=size).to(self.device).eval().requires_grad_(False)
        images = torch.rand(64, channels, size, size, device=self.device, requires_grad=True)

        def once() -> None:
            with autocast(self.device, self.precision):
                torch.autograd.grad(model(images).float().sum(), images)

        once()
        return self._best([once], budget=1.0)[0] / len(images)

    def told(self) -> str:
        """A sentence for a machine with other work to do; nothing for one without."""
        if self.got == 1:
            return ""
        return f" Other work holds this machine up: what was timed had {self.got:.0%} of its cores."

    def _step(self, recipe: Recipe, count: int) -> Callable[[], None]:
        """A step on that many images, warmed up on a few."""
        channels, size = SHAPES[recipe.data]
        model = build(recipe.network, channels=channels, classes=10, size=size).to(self.device)
        images = torch.rand(count, channels, size, size, device=self.device)
        labels = torch.arange(count, device=self.device) % 10
        loss = TrainingStep(model.train(), recipe.method, self.precision)
        optimizer = torch.optim.SGD(model.parameters(), 1e-6)

        def once(images: Tensor = images, labels: Tensor = labels) -> None:
            loss(images, labels)[0].backward()
            optimizer.step()
            optimizer.zero_grad()

        once(images[:4], labels[:4])
        return once

    def _best(self, works: Sequence[Callable[[], None]], budget: float) -> list[float]:
        """Seconds of each, the best of some rounds, in which they take turns: what else the machine does meets all."""
        begin, rounds = time.perf_counter(), list[list[float]]()
        while not rounds or (len(rounds) < ROUNDS and time.perf_counter() - begin < budget):
            rounds.append([self._seconds(work) for work in works])
        return [min(taken) for taken in zip(*rounds, strict=True)]

    def _seconds(self, work: Callable[[], None]) -> float:
        """Seconds of a piece of work, as if it were alone: those that went by hang on what else the machine does."""
        begin, spent = time.perf_counter(), time.process_time()
        work()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        wall, busy = time.perf_counter() - begin, time.process_time() - spent
        # Not even one core worked: others had it. A coarse clock may read no time at all, and tells nothing then.
        held_up = self.device.type == "cpu" and 0 < 1.5 * busy < wall
        alone = busy / torch.get_num_threads() if held_up else wall
        self.passed += wall
        self.alone += alone
        return alone


class Estimate:
    """Seconds of trainings and evaluations, by a step of each method and a pass of an attack, each timed once."""

    def __init__(self, speed: Speed) -> None:
        self._step: Callable[[Recipe], float] = cache(lambda recipe: speed.steps([recipe])[0])
        self._pass: Callable[[str, str], float] = cache(speed.images_pass)

    def training(self, recipe: Recipe, done: int = 0) -> float:
        """Of a training after the epochs that are done, with its looks at validation images."""
        size = SHAPES[recipe.data][1]
        left = range(done, recipe.epochs)
        whole = sum((recipe.side_at(epoch, size) / size) ** 2 for epoch in left)  # epochs, by their pixels
        steps = math.ceil(trained_on(recipe) / recipe.batch_size)
        watched = recipe.validation_attacked * (recipe.ifgsm_steps + WATCHED)
        per_step = self._step(_timed_as(recipe)) if left else 0
        return whole * steps * per_step + len(left) * watched * self._pass(recipe.network, recipe.data)

    def evaluation(self, recipe: Recipe, attacks: str, images: int) -> float:
        """As if no image were broken; those that are leave earlier."""
        return images * sum(map(passes, attacks.split(","))) * self._pass(recipe.network, recipe.data)


def _timed_as(recipe: Recipe) -> Recipe:
    """A recipe that is the same for all whose step is: of one method, network and batch."""
    return Recipe(
        data=recipe.data,
        network=recipe.network,
        batch_size=recipe.batch_size,
        method=recipe.method,
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

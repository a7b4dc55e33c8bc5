"""The parts of AutoAttack's standard version (Croce and Hein 2020), run by the authors' own code."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from bpfc.attacks.base import Norm, Rng, Watch, check_call, check_radius
from bpfc.modes import constant_parameters, own_randomness
from bpfc.wrappers import logits_of

Part = Literal["apgd-ce", "apgd-t", "fab-t", "square"]
PARTS: tuple[Part, ...] = ("apgd-ce", "apgd-t", "fab-t", "square")
"""In the order of the standard version, in which each works on what those before it left."""


@dataclass(frozen=True)
class AutoAttackPart:
    """One part with the standard version's settings: 100 iterations, min(9, K − 1) targets, 5,000 queries of Square.

    Their warnings, about masked gradients too, are passed on as Python warnings. Their random numbers belong to the
    batch: here alone a verdict can depend on the images beside it. What they fail to break comes back as NaN. The
    targeted parts need 4 classes; with fewer they do nothing but warn.
    """

    eps: float
    part: Part
    norm: Norm = "linf"
    steps: ClassVar[None] = None
    forwards: ClassVar[None] = None

    def __post_init__(self) -> None:
        check_radius(self.norm, eps=self.eps)

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        check_call(model, images, rng)
        from pyautoattack import AutoAttack

        failed = torch.full_like(images, torch.nan)
        with torch.no_grad():
            logits = logits_of(model, images)
        classes = logits.shape[1]
        if classes < 4 and self.part in ("apgd-t", "fab-t"):
            warnings.warn(f"AutoAttack's {self.part} needs 4 classes, there are {classes}: left out", stacklevel=2)
            return failed
        # Their verdict decides on which images they work; a model that calls an image wrong already is no attack.
        right = torch.nonzero(logits.argmax(dim=1) == labels)[:, 0]
        if not len(right):
            return failed
        seed = int((rng.uniform(images[:, :1, :1, :1])[0].item() + 1) * 2**30)
        plain = torch.autocast(images.device.type, enabled=False)
        # FAB's backward would leave gradients on the parameters.
        with _warnings_passed_on(), own_randomness(images.device, seed), plain, constant_parameters(model):
            official = AutoAttack(
                model,
                norm={"linf": "Linf", "l2": "L2"}[self.norm],
                eps=self.eps,
                seed=seed,
                device=images.device,
            )
            official.version, official.attacks_to_run = "custom", [self.part]
            official.apgd_targeted.n_target_classes = official.fab.n_target_classes = min(9, classes - 1)
            chosen = images[right].contiguous()
            found, _ = official.run_standard_evaluation(chosen, labels[right], batch_size=len(chosen))
        moved = (found != chosen).flatten(1).any(dim=1)
        failed[right[moved]] = found[moved]
        return failed


@contextmanager
def _warnings_passed_on() -> Iterator[None]:
    """What their logger warns of, as Python warnings, each once."""
    heard: dict[str, None] = {}
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: heard.setdefault(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("auto-attack")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
    for message in heard:
        warnings.warn(f"AutoAttack: {message}", stacklevel=4)

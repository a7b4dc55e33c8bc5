"""The verdict: whether a perturbed image breaks a network. Attacks propose, this decides."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bpfc.attacks import Attack, Ball, Norm, Rng, ball
from bpfc.machine import float32
from bpfc.modes import own_randomness
from bpfc.wrappers import is_random

SLACK = 1e-6
"""By how much a perturbation may exceed ε: the rounding of x + ε in float32."""


def exact_logits(model: nn.Module, images: Tensor) -> Tensor:
    """Logits in float32 without gradients, whatever precision is in force around the call.

    A model that is random by declaration (EOT) draws from a fixed seed for each image by itself: its answer can be
    repeated, it is the same whatever other images travel with it, and clean and perturbed image meet the same draws.
    """
    with torch.no_grad(), float32(), torch.autocast(images.device.type, enabled=False):
        if not is_random(model) or not len(images):
            return model(images.float()).float()
        with own_randomness(images.device, seed=0):
            return torch.cat([_repeated(model, image.float()) for image in images.split(1)])


def _repeated(model: nn.Module, image: Tensor) -> Tensor:
    torch.manual_seed(0)
    return model(image).float()


def clean_logits(model: nn.Module, images: Tensor, indices: Sequence[int]) -> Tensor:
    """`exact_logits` of images as they are.

    Raises:
        ValueError: they are NaN or infinite for one of the images; the message names its index.
    """
    logits = exact_logits(model, images)
    if (silent := no_answer(logits)).any():
        index = indices[int(silent.int().argmax())]
        raise ValueError(
            f"image {index}: the model gives NaN or infinite logits on it as it is, and no figure of such a model can "
            f"be trusted; {way_out(logits)}, or take the image out"
        )
    return logits


def way_out(logits: Tensor) -> str:
    """What to do about logits some of which are NaN or infinite."""
    if not (logits.isnan() | (logits == torch.inf)).any():
        return "where classes are masked out by −∞, which losses cannot take, leave them out or take -1e4"
    return "check its weights"


def first_logits(model: nn.Module, image: Tensor) -> list[float]:
    """The first few logits of an image as it is, (1, C, H, W), rounded.

    By these a model is known again: its code may change under the same name, and its weights not.
    """
    return [float(f"{logit:.6g}") for logit in exact_logits(model, image)[0, :10].tolist()]


def no_answer(logits: Tensor) -> Tensor:
    """(N,) bool: where logits (N, classes) hold NaN or an infinite value. Its argmax is no class then."""
    return ~torch.isfinite(logits).all(dim=1)


def misclassified(logits: Tensor, labels: Tensor) -> Tensor:
    """(N,) bool: where the logits' class is not the label's, or there is no answer."""
    return (logits.argmax(dim=1) != labels) | no_answer(logits)


@dataclass
class Judge:
    """Verdicts on perturbed versions of `images`, for an attack. The model must be in eval mode.

    An image is broken by a candidate that is finite, in the box [0, 1], inside the ball (to 1e-6), and that an
    independent float32 forward does not take for the label's class. NaN or infinite logits are never an answer, so they
    are no right one: the image is broken, and `no_answer` says how. The first such candidate counts. For an attack
    without a radius (`minimum_norm` says in which norm it looks for the nearest image), the nearest misclassified
    candidate in the box is recorded as well, however far, and only one inside the ball breaks.

    Attributes:
        model: from images to logits, in eval mode.
        images: clean, float32, (N, C, H, W) in [0, 1].
        labels: (N,).
        ball: which perturbations count.
        minimum_norm: see above; None for an attack with a radius.
        restarts: how many travel in this batch: `images` are so many copies, one after the other, of the same images.
        broken: (N,) bool, so far.
        found: (N,) bool: a misclassified candidate is recorded; where there is a radius, the same as `broken`.
        step: (N,) after how many steps of the attack that was; −1 where not found, or where the attack does not tell.
        linf, l2: (N,) the distance of the recorded candidate; NaN where there is none.
        no_answer: (N,) bool: the logits of the recorded candidate are NaN or infinite.
        queries: (N,) how many forwards the attack has spent on the image; None if it does not tell.
        adversaries: like `images`, with the candidate that broke each broken image in its place.
    """

    model: nn.Module
    images: Tensor
    labels: Tensor
    ball: Ball
    minimum_norm: Norm | None = None
    restarts: int = 1
    broken: Tensor = field(init=False)
    found: Tensor = field(init=False)
    step: Tensor = field(init=False)
    linf: Tensor = field(init=False)
    l2: Tensor = field(init=False)
    no_answer: Tensor = field(init=False)
    queries: Tensor | None = field(init=False, default=None)
    adversaries: Tensor = field(init=False)

    def __post_init__(self) -> None:
        count, device = len(self.images), self.images.device
        self.broken, self.found, self.no_answer = (
            torch.zeros(count, dtype=torch.bool, device=device) for _ in range(3)
        )
        self.step = torch.full((count,), -1, device=device)
        self.linf, self.l2 = (torch.full((count,), torch.nan, device=device) for _ in range(2))
        self.adversaries = self.images.clone()

    def run(self, attack: Attack, rng: Rng, *, any_iterate: bool = True) -> None:
        """Runs the attack and judges every iterate, or (`any_iterate=False`) the last one alone, nobody dropped."""

        spent = torch.zeros_like(self.step)

        def watch(positions: Tensor, candidates: Tensor, logits: Tensor, step: int) -> Tensor:
            spent[positions] += attack.forwards or 0
            # The attack's own logits, perhaps in low precision, only say which iterates are worth a forward of ours.
            claimed = misclassified(logits, self.labels[positions])
            if claimed.any():
                self.judge(positions[claimed], candidates[claimed], step)
            return self.settled[positions] if self.minimum_norm is None else torch.zeros_like(claimed)

        perturbed = attack(self.model, self.images, self.labels, rng, watch if any_iterate else None)
        if attack.forwards is not None:
            self.queries = spent if any_iterate else spent + attack.forwards * (attack.steps or 0)
        self.judge(torch.arange(len(self.images), device=self.images.device), perturbed, attack.steps)

    @property
    def settled(self) -> Tensor:
        """(N,) bool: which copies need no more work, because this restart or an earlier one has broken the image.

        A later one's success does not end an earlier one: the outcome is that of restarts one after the other,
        whatever the number of them that travel together.
        """
        return self.broken.view(self.restarts, -1).int().cummax(dim=0).values.bool().view(-1)

    def judge(self, positions: Tensor, candidates: Tensor, step: int | None) -> None:
        """Records which of the images at `positions` are broken by the candidates, found after `step` steps."""
        delta = candidates - self.images[positions]
        within = self.ball.distances(delta) <= self.ball.eps + SLACK  # not where a candidate holds NaN
        nearer = self._nearer(positions, delta, within)
        flat = candidates.flatten(1)
        legal = (within & ~self.broken[positions] | nearer) & (flat.amin(dim=1) >= 0) & (flat.amax(dim=1) <= 1)
        if not legal.any():
            return
        wrong, silent = torch.zeros_like(legal), torch.zeros_like(legal)
        logits = exact_logits(self.model, candidates[legal])
        wrong[legal], silent[legal] = misclassified(logits, self.labels[positions[legal]]), no_answer(logits)
        breaks, recorded = wrong & within, wrong & nearer
        self.broken[positions[breaks]] = True
        self.adversaries[positions[breaks]] = candidates[breaks].float()
        hits, way = positions[recorded], delta[recorded].flatten(1).float()
        self.found[hits] = True
        self.no_answer[hits] = silent[recorded]
        self.step[hits] = -1 if step is None else step
        self.linf[hits] = way.abs().amax(dim=1)
        self.l2[hits] = way.norm(dim=1)

    def _nearer(self, positions: Tensor, delta: Tensor, within: Tensor) -> Tensor:
        """Where the candidates are to be recorded: the first inside the ball, or those nearer than what is recorded."""
        if self.minimum_norm is None:
            return within & ~self.found[positions]
        recorded = self.l2 if self.minimum_norm == "l2" else self.linf
        return ball(self.minimum_norm, 1.0).distances(delta) < recorded[positions].nan_to_num(nan=torch.inf)


def run_attack(model: nn.Module, images: Tensor, labels: Tensor, attack: Attack, rng: Rng) -> Judge:
    """One random start of an attack that has a radius, every iterate judged. The model must be in eval mode."""
    assert attack.eps is not None
    judge = Judge(model, images, labels, ball(attack.norm, attack.eps))
    judge.run(attack, rng)
    return judge

"""APGD at several classes (Croce and Hein 2020), all of an image's targets in one batch."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from bpfc.attacks.apgd import auto_ascent
from bpfc.attacks.ascent import gradient_by
from bpfc.attacks.balls import Ball, ball, finite
from bpfc.attacks.base import Norm, Rng, Watch, check_call, check_count, check_radius
from bpfc.attacks.objectives import likeliest_others, margins, targeted_dlrs
from bpfc.wrappers import logits_of

CANDIDATES = 32
"""Likeliest other classes among which targets are chosen: a backward each."""


@dataclass(frozen=True)
class TargetedAPGD:
    """APGD on the targeted DLR loss, at all targets side by side; an image leaves when one of them breaks it.

    Each target has a random start of its own, as in the authors' code: that of (seed, image, restart), and which of the
    image's targets it is.

    With more other classes than `targets`, those that a straight line through the network's gradient reaches first
    (`nearest_classes`). They are found once for an image, whatever the number of its restarts in the batch, but shown
    for each of these, so that what an image is said to have cost does not depend on the batch. What comes back is, of
    the last iterates at the targets, the one nearest to being taken for another class.
    """

    eps: float
    steps: int
    targets: int = 9
    norm: Norm = "linf"
    room: int | None = field(default=None, repr=False, compare=False)
    """Images in the largest forward; as many as are attacked, unless given. No verdict depends on it."""
    forwards: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_radius(self.norm, eps=self.eps)
        check_count(steps=self.steps, targets=self.targets, room=self.room)

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, rng: Rng, watch: Watch | None = None
    ) -> Tensor:
        return self.ascend(model, images, labels, rng, watch)

    def ascend(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        rng: Rng,
        watch: Watch | None = None,
        finalists: int | None = None,
    ) -> Tensor:
        """The attack; after half of the steps at no more than `finalists` of the targets, those that came nearest."""
        check_call(model, images, rng)
        if not len(images):
            return images.clone()
        inside, count, room = ball(self.norm, self.eps), len(images), self.room or len(images)
        firsts, same = _distinct(images, labels)
        chosen = [
            nearest_classes(model, images[some], labels[some], self.targets, inside) for some in firsts.split(room)
        ]
        found, logits = (torch.cat(column) for column in zip(*chosen, strict=True))
        left = torch.arange(count, device=images.device)
        if watch is not None:
            left = left[~watch(left, images, logits[same], 0)]
        last = images.clone()
        if len(left):
            last[left] = side_by_side(
                model,
                images[left],
                labels[left],
                found[same][left],
                rng[left],
                ball=inside,
                steps=self.steps,
                room=room,
                watch=None if watch is None else lambda rows, *seen: watch(left[rows], *seen),
                finalists=finalists,
            )
        return last


def side_by_side(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    classes: Tensor,
    rng: Rng,
    *,
    ball: Ball,
    steps: int,
    room: int,
    watch: Watch | None = None,
    draw: int = 0,
    finalists: int | None = None,
) -> Tensor:
    """APGD on the targeted DLR loss at each image's `classes` (N, targets), all in one batch.

    An image leaves when one of its targets breaks it. The first target starts from the random numbers `draw`, the next
    from the next. After half of the steps the ascent goes on at the `finalists`, if given: the targets at which the
    image came nearest to being taken for another class. What comes back is, of the last iterates at the targets, the
    one nearest to that.
    """
    count, each = classes.shape
    # Copies of the images: all for their first target, then all for their second.
    of = torch.arange(count, device=images.device).repeat(each)
    done = torch.zeros(count, dtype=torch.bool, device=images.device)
    out = torch.zeros(len(of), dtype=torch.bool, device=images.device)
    reached = images.new_full((len(of),), -torch.inf, dtype=torch.float32)

    def observe(copies: Tensor, candidates: Tensor, logits: Tensor, step: int) -> Tensor:
        if finalists is not None and step <= steps // 2:
            reached[copies] = torch.fmax(reached[copies], margins(logits, labels[of[copies]]))  # past NaN
            if step == steps // 2:
                ranks = reached.view(each, count).argsort(dim=0, descending=True, stable=True).argsort(dim=0)
                out[:] = (ranks >= finalists).flatten()
        if watch is not None:
            for turn in range(each):  # an image once in each call; also one just done, for it was asked about
                rows = torch.nonzero(copies // count == turn)[:, 0]
                if len(rows):
                    done[of[copies[rows]]] |= watch(of[copies[rows]], candidates[rows], logits[rows], step)
        return done[of[copies]] | out[copies]

    last = auto_ascent(
        model,
        images[of],
        torch.stack([labels[of], classes.T.flatten()], dim=1),
        torch.cat([ball.surface(images, rng, draw + turn) for turn in range(each)]),
        ball=ball,
        steps=steps,
        losses=targeted_dlrs,
        watch=observe,
        room=room,
    )
    nearness = images.new_full((len(of),), -torch.inf, dtype=torch.float32)
    for rows in torch.nonzero(~done[of] & ~out)[:, 0].split(room):
        with torch.no_grad():
            logits = logits_of(model, last[rows])
        nearness[rows] = margins(logits, labels[of[rows]])
        observe(rows, last[rows], logits, steps)
    best = nearness.view(each, count).argmax(dim=0) * count + of[:count]
    return last[best]


def _distinct(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Where each image stands for the first time, and for each row which of these it is."""
    rows = torch.cat([labels[:, None].to(images.dtype), images.flatten(1)], dim=1)
    _, same = torch.unique(rows, dim=0, return_inverse=True)
    places = torch.arange(len(same), device=same.device)
    firsts = places.new_full((int(same.max()) + 1,), len(same)).scatter_reduce(0, same, places, "amin")
    return firsts, same


def nearest_classes(model: nn.Module, images: Tensor, labels: Tensor, count: int, ball: Ball) -> tuple[Tensor, Tensor]:
    """The classes (N, min(count, K − 1)) other than the label that are nearest if the network were linear: the gap of
    the logits over the dual norm of its gradient (MALT, Melamed et al. 2024). Where `count` leaves out none, and
    beyond the CANDIDATES likeliest, the order is that of the logits, which come back beside them, (N, K)."""
    with torch.enable_grad():
        points = images.detach().requires_grad_()
        logits = logits_of(model, points)
        likeliest = likeliest_others(logits.detach(), labels)
        if count >= likeliest.shape[1]:
            return likeliest, logits.detach()
        likeliest = likeliest[:, : max(count, CANDIDATES)]
        gaps = logits.gather(1, labels[:, None]) - logits.gather(1, likeliest)
        dual = 1 if ball.norm == "linf" else 2
        slopes = [  # their norms alone: each is as large as the images
            finite(gradient_by(points, gaps[:, turn].sum(), retain_graph=True)).flatten(1).norm(dual, dim=1)
            for turn in range(likeliest.shape[1])
        ]
    distances = gaps.detach() / torch.stack(slopes, dim=1).clamp_min(1e-12)
    return likeliest.gather(1, distances.argsort(dim=1, stable=True)[:, :count]), logits.detach()

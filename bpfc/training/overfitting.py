"""Catastrophic overfitting (Wong et al. 2020): a network that learns to answer one-step attacks alone.

Its signs, watched on held-out images while training: FGSM accuracy rises while PGD accuracy falls to nothing, and the
input gradient at an image no longer resembles that at a point beside it (gradient alignment, Andriushchenko and
Flammarion 2020).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from bpfc.attacks import FGSM, PGD, ImageRng
from bpfc.attacks.ascent import input_gradient
from bpfc.judge import run_attack

WATCHED = 256
"""How many validation images are watched."""
FALL, SOME_PGD = 0.5, 0.15
"""Thresholds of ours: PGD accuracy below this share of its best, if that was above what guessing gives;"""
APART, SOME_FGSM = 0.1, 0.3
"""or below this share of FGSM accuracy, if there is any to speak of (a normal network has none under either);"""
ALIGNED = 0.5
"""both only where gradient alignment is below this: while a network learns, it may be weak under PGD for a while."""


def signs(model: nn.Module, images: Tensor, labels: Tensor, eps: float, rng: ImageRng) -> Tensor:
    """Sums over the images, shape (3,): still right under FGSM, under PGD-10 (steps of ε/4), and gradient alignment.

    The alignment of an image is the cosine between the gradients of the cross-entropy at x and at x + U(−ε, ε).
    """
    robust = []
    for attack in (FGSM(eps), PGD(eps, eps / 4, 10)):
        robust.append((~run_attack(model, images, labels, attack, rng).broken).sum())
    here, _ = input_gradient(model, images, labels)
    beside, _ = input_gradient(model, images + eps * rng.uniform(images, draw=1), labels)
    return torch.stack([*robust, cosine_similarity(here.flatten(1), beside.flatten(1)).sum()]).float()


def warning(log: Sequence[Mapping[str, Any]]) -> str | None:
    """What to tell whoever trains, if the last row of the training log shows the signs."""
    now = log[-1]
    fgsm, pgd = now["watched_fgsm_accuracy"], now["watched_pgd_accuracy"]
    best = max(log, key=lambda row: row["watched_pgd_accuracy"])
    height = best["watched_pgd_accuracy"]
    if now["gradient_alignment"] > ALIGNED:
        return None
    fell = height > SOME_PGD and pgd < FALL * height and fgsm > best["watched_fgsm_accuracy"]
    apart = fgsm > SOME_FGSM and pgd < APART * fgsm
    if not fell and not apart:
        return None
    return (
        f"catastrophic overfitting: epoch {now['epoch'] + 1} stands {fgsm:.1%} under FGSM but {pgd:.1%} under PGD-10 "
        f"(at best {height:.1%}, epoch {best['epoch'] + 1}); gradient alignment "
        f"{now['gradient_alignment']:.2f}. FGSM accuracy says nothing about this network"
    )

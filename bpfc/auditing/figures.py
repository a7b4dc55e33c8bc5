"""What an audit's figures show: accuracy over ε, steps and restarts; the loss along an attack; the loss surface."""

from math import isfinite
from typing import Any

import torch
from torch import Tensor

from bpfc.attacks.ascent import input_gradient
from bpfc.attacks.objectives import margin, margins
from bpfc.auditing.checks.radii import curve
from bpfc.auditing.measurements import Measurements
from bpfc.auditing.probe import Probe

SIDE, SHOWN = 13, 8
"""Points along each side of the loss surface, and how many images it is the mean of."""


def figures(m: Measurements) -> dict[str, Any]:
    """Ready for JSON; nothing is attacked anew.

    Gives:
        eps: points [ε, share that stands under PGD on the margin].
        steps: by attack, points [steps, share that stands], each on what those before it left.
        restarts: points [restarts of short PGD on what plain PGD left, share that stands].
        climb: of images that stand, the margin along an attack, highest so far: its quartiles (low, median, high) by
            step. Above 0 another class is ahead of the label's.
        surface: `loss[i][j]`, the mean margin at x + ε (gradient[i] · sign(∇) + random[j] · r), with r = ±1 at random;
            None without a gradient, or where the model gives no finite answer to some of it.
    """
    short, many = m.pgd_short, m.budget.restarts[1]
    again = m.pgd(f"pgd-{m.short}x{many}", m.short, step_size=0.25, restarts=many, on=m.plain_standing)
    return {
        "eps": [[eps, share] for eps, share in curve(m).items()],
        "steps": {
            f"pgd-{m.short}": _counted(m, m.right, short, short.step, m.short),
            f"pgd-{2 * m.budget.steps}": _counted(
                m, m.standing(short), m.pgd_long, m.pgd_long.step, 2 * m.budget.steps
            ),
        },
        "restarts": _counted(m, m.plain_standing, again, again.restart + 1, many),
        "climb": _quartiles(m.margins_along_pgd),
        "surface": _surface(m),
    }


def _counted(m: Measurements, before: Tensor, probe: Probe, count: Tensor, last: int) -> list[list[float]]:
    """[n, share that stands after n] for n = 0 … last; what is not told breaks at the last."""
    at = torch.where(count < 0, last, count)[probe.broken & before].tolist()
    standing = int(before.sum())
    return [[n, (standing - sum(each <= n for each in at)) / len(m)] for n in range(last + 1)]


def _quartiles(seen: Tensor) -> dict[str, list[float]]:
    if not seen.shape[1]:
        return {"low": [], "median": [], "high": []}
    shares = torch.tensor([0.25, 0.5, 0.75], device=seen.device)
    lines = torch.quantile(seen, shares, dim=1).tolist()
    return {
        name: [round(each, 6) for each in line] for name, line in zip(("low", "median", "high"), lines, strict=True)
    }


def _surface(m: Measurements) -> dict[str, Any] | None:
    at = m.right.nonzero()[:SHOWN, 0]
    images, labels = m.some(at)
    if not len(at):
        return None
    uphill = input_gradient(m.plain, images, labels, margin)[0].sign()
    if not uphill.any():
        return None
    coin = torch.rand(images.shape, generator=torch.Generator().manual_seed(m.seed)).to(images)
    aside = torch.where(coin < 0.5, -1.0, 1.0)
    along = torch.linspace(-1, 1, SIDE).tolist()
    loss = []
    with torch.no_grad():
        for t in along:
            row = []
            for u in along:
                moved = (images + m.eps * (t * uphill + u * aside)).clamp(0, 1)
                row.append(round(float(margins(m.plain(moved).float(), labels).mean()), 6))
            loss.append(row)
    if not all(isfinite(mean) for row in loss for mean in row):
        return None  # JSON has no NaN
    return {"gradient": along, "random": along, "loss": loss, "images": len(at)}

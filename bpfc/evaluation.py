"""Attack a network and judge it: from a model and images to ledger rows. The verb `evaluate` is this with files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bpfc.attacks import ImageRng
from bpfc.judge import Judge, exact_logits, run_attack
from bpfc.ledger import Row, summarise
from bpfc.machine import Arithmetic, autocast
from bpfc.plan import Planned, parse


@dataclass(frozen=True)
class Evaluation:
    """Rows and summary of an evaluation; see bpfc.ledger for what they hold."""

    rows: list[Row]
    summary: dict[str, Any] = field(repr=False)

    @property
    def clean(self) -> float:
        """Accuracy on the clean images, a share."""
        return float(self.summary["clean"]["accuracy"])

    @property
    def robust(self) -> float:
        """Worst-case accuracy over all attacks, a share."""
        return float(self.summary["worst_case"]["accuracy"])


def evaluate(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    attacks: str = "fgsm,pgd-100",
    eps: float,
    step: float | None = None,
    seed: int = 0,
    batch_size: int = 256,
    precision: Arithmetic = "fp32",
) -> Evaluation:
    """Clean and robust accuracy of any classifier, image by image.

    Args:
        model: from float32 images (N, C, H, W) in [0, 1] to logits (N, classes), in eval mode, on the images' device;
            normalisation, if any, inside it.
        images: float32, in [0, 1].
        labels: integers, (N,).
        attacks: comma-separated; see bpfc.plan.
        eps: ℓ∞ radius in units of [0, 1], such as 8/255.
        step: PGD's step; eps / 4 unless given.
        seed: of the random starts; an image's starts derive from it, the image's position and the restart.
        batch_size: images at a time; bounds the memory. In float32 the verdicts do not depend on it.
        precision: of the attacks' gradients; verdicts are always in float32.

    Raises:
        ValueError: the model is in train mode or gives no finite logits of shape (N, classes); images or labels are
            not as above; an attack's name or radius makes no sense.
    """
    planned = parse(attacks, eps=eps, step=eps / 4 if step is None else step)
    check_handed_in(model, images, labels)
    rows: list[Row] = []
    for indices in torch.arange(len(images)).split(batch_size):
        block = indices.to(images.device)
        rows += attack_block(
            model, images[block], labels[block], indices.tolist(), planned, seed=seed, precision=precision
        )
    return Evaluation(rows, summarise(rows, [item.name for item in planned]))


def attack_block(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    indices: Sequence[int],
    planned: Sequence[Planned],
    *,
    seed: int,
    precision: Arithmetic,
    cascade: bool = False,
    passed: Callable[[Planned], None] = lambda _: None,
) -> list[Row]:
    """The ledger rows of one block of images; `indices` are their places in the data set.

    Every attack runs on every image that is classified rightly, so that its accuracy is its own; with `cascade`, only
    on what the attacks before it left standing. `passed` hears of each attack that is done.
    """
    rows = _clean_rows(model, images, labels, indices)
    standing = [place for place, row in enumerate(rows) if row["broken_by"] is None]
    for item in planned:
        if cascade:
            standing = [place for place in standing if rows[place]["broken_by"] is None]
        remaining = torch.tensor(standing, dtype=torch.long, device=images.device)
        for restart in range(item.restarts):
            if not len(remaining):
                break
            rng = ImageRng(seed, [indices[place] for place in remaining.tolist()], restart)
            with autocast(images.device, precision):
                judge = run_attack(
                    model, images[remaining], labels[remaining], item.attack, rng, any_iterate=item.any_iterate
                )
            _record(rows, item.name, remaining, judge, restart)
            remaining = remaining[~judge.broken]
        passed(item)
    return rows


def transfer_block(
    sources: Mapping[str, nn.Module],
    targets: Mapping[str, nn.Module],
    images: Tensor,
    labels: Tensor,
    indices: Sequence[int],
    planned: Sequence[Planned],
    *,
    seed: int,
    precision: Arithmetic,
) -> dict[str, list[Row]]:
    """The ledger rows of one block of images for every target, attacked with images made on every source.

    Each source's images are made once, for all targets: on all images, to the last iterate. An attack's name in the
    rows is ATTACK@SOURCE.
    """
    rows = {name: _clean_rows(target, images, labels, indices) for name, target in targets.items()}
    for source_name, source in sources.items():
        for item in planned:
            for restart in range(item.restarts):
                with autocast(images.device, precision):
                    perturbed = item.attack(source, images, labels, ImageRng(seed, indices, restart))
                for name, target in targets.items():
                    places = [place for place, row in enumerate(rows[name]) if row["broken_by"] != "clean"]
                    at = torch.tensor(places, dtype=torch.long, device=images.device)
                    judge = Judge(target, images[at], labels[at], item.attack.eps)
                    judge.judge(torch.arange(len(at), device=at.device), perturbed[at], item.attack.steps)
                    _record(rows[name], f"{item.name}@{source_name}", at, judge, restart)
    return rows


def check_handed_in(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Raises ValueError for what would make the figures wrong in silence (see `evaluate`)."""
    if any(module.training for module in model.modules()):
        raise ValueError("the model is in train mode: its answers would depend on the batch; call model.eval() first")
    if images.ndim != 4 or images.dtype != torch.float32 or not len(images):
        raise ValueError(f"images of shape {tuple(images.shape)}, {images.dtype}: must be float32 (N, C, H, W), N ≥ 1")
    if not torch.isfinite(images).all():
        count = int((~torch.isfinite(images)).flatten(1).any(dim=1).sum())
        raise ValueError(f"{count} of {len(images)} images hold NaN or infinite values; remove or mend them")
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        raise ValueError(
            f"images lie in [{low:.4g}, {high:.4g}]: must be in [0, 1]; "
            "divide by 255, and put any normalisation into the model"
        )
    if labels.shape != (len(images),) or labels.is_floating_point():
        raise ValueError(f"labels of shape {tuple(labels.shape)}, {labels.dtype}: must be one integer for each image")
    logits = exact_logits(model, images[:2])
    if logits.ndim != 2 or logits.shape[0] != len(images[:2]) or logits.shape[1] < 2:
        raise ValueError(f"the model gives shape {tuple(logits.shape)} for 2 images: must be (2, classes), classes ≥ 2")
    if not torch.isfinite(logits).all():
        raise ValueError("the model gives NaN or infinite logits on the first images; check its weights")
    if int(labels.min()) < 0 or int(labels.max()) >= logits.shape[1]:
        raise ValueError(
            f"labels lie in {int(labels.min())} … {int(labels.max())}, but the model knows {logits.shape[1]} classes"
        )


def _clean_rows(model: nn.Module, images: Tensor, labels: Tensor, indices: Sequence[int]) -> list[Row]:
    """The rows of images that nothing has attacked yet."""
    predictions = exact_logits(model, images).argmax(dim=1).tolist()
    return [
        {
            "index": index,
            "label": label,
            "prediction": guess,
            "broken_by": None if guess == label else "clean",
            "attacks": {},
        }
        for index, label, guess in zip(indices, labels.tolist(), predictions, strict=True)
    ]


def _record(rows: list[Row], name: str, places: Tensor, judge: Judge, restart: int) -> None:
    """Enters the verdicts of one run of an attack on the images at `places`; an earlier run's success stays."""
    found = (part.tolist() for part in (places, judge.broken, judge.step, judge.linf, judge.l2))
    for place, broken, step, linf, l2 in zip(*found, strict=True):
        row = rows[place]
        if not broken:
            row["attacks"].setdefault(name, {"broken": False, "restart": None, "step": None, "linf": None, "l2": None})
        elif not row["attacks"].get(name, {}).get("broken"):
            distances = {"linf": round(linf, 7), "l2": round(l2, 6)}
            row["attacks"][name] = {"broken": True, "restart": restart, "step": step, **distances}
            row["broken_by"] = row["broken_by"] or name

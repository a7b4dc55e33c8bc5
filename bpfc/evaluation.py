"""Attack a network and judge it: from a model and images to ledger rows. The verb `evaluate` is this with files."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bpfc.attacks import ImageRng
from bpfc.judge import exact_logits, run_attack
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
    predictions = exact_logits(model, images).argmax(dim=1)
    standing = predictions == labels
    rows: list[Row] = [
        {"index": index, "label": label, "prediction": guess, "broken_by": None if guess == label else "clean"}
        | {"attacks": {}}
        for index, label, guess in zip(indices, labels.tolist(), predictions.tolist(), strict=True)
    ]
    for item in planned:
        for position, verdict in _verdicts(model, images, labels, indices, standing, item, seed, precision):
            rows[position]["attacks"][item.name] = verdict
            if verdict["broken"] and rows[position]["broken_by"] is None:
                rows[position]["broken_by"] = item.name
        if cascade:
            standing = torch.tensor([row["broken_by"] is None for row in rows], device=images.device)
        passed(item)
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


def _verdicts(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    indices: Sequence[int],
    standing: Tensor,
    item: Planned,
    seed: int,
    precision: Arithmetic,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The verdict of one attack, all restarts, on each image that stands: (position in the block, entry of its row)."""
    remaining = standing.nonzero()[:, 0]
    for restart in range(item.restarts):
        if not len(remaining):
            return
        rng = ImageRng(seed, [indices[position] for position in remaining.tolist()], restart)
        with autocast(images.device, precision):
            judge = run_attack(
                model, images[remaining], labels[remaining], item.attack, rng, any_iterate=item.any_iterate
            )
        outcome = zip(
            remaining.tolist(),
            judge.broken.tolist(),
            judge.step.tolist(),
            judge.linf.tolist(),
            judge.l2.tolist(),
            strict=True,
        )
        for position, broken, step, linf, l2 in outcome:
            if broken:
                distances = {"linf": round(linf, 7), "l2": round(l2, 6)}
                yield position, {"broken": True, "restart": restart, "step": step, **distances}
        remaining = remaining[~judge.broken]
    for position in remaining.tolist():
        yield position, {"broken": False, "restart": None, "step": None, "linf": None, "l2": None}

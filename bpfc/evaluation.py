"""Attack a network and judge it: from a model and images to ledger rows. The verb `evaluate` is this with files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bpfc.attacks import Ball, ImageRng, Norm, ball
from bpfc.judge import Judge, exact_logits
from bpfc.ledger import Row, summarise
from bpfc.machine import Arithmetic, autocast
from bpfc.plan import Planned, Setting, cascades, parse
from bpfc.wrappers import is_random


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
    norm: Norm = "linf",
    step: float | None = None,
    k: int | None = None,
    seed: int = 0,
    batch_size: int = 256,
    precision: Arithmetic = "fp32",
) -> Evaluation:
    """Clean and robust accuracy of any classifier, image by image.

    Args:
        model: from float32 images (N, C, H, W) in [0, 1] to logits (N, classes), in eval mode, on the images' device;
            normalisation, if any, inside it. One with randomness in it must be wrapped in bpfc.EOT.
        images: float32, in [0, 1].
        labels: integers, (N,).
        attacks: comma-separated names, or a suite: paper, quick, standard, worst; see bpfc.plan.
        eps: radius in units of [0, 1], such as 8/255.
        norm: in which the radius is meant, linf or l2.
        step: PGD's step; eps / 4 unless given.
        k: bit planes that a BPFC network's quantiser drops, for the attacker who knows it.
        seed: of the random starts; an image's starts derive from it, the image's position and the restart.
        batch_size: images at a time; bounds the memory. In float32 the verdicts do not depend on it.
        precision: of the attacks' gradients; verdicts are always in float32.

    Raises:
        ValueError: the model is in train mode, gives no finite logits of shape (N, classes), gives probabilities, or
            answers differently twice; images or labels are not as above; an attack's name or radius makes no sense.
    """
    inside = ball(norm, eps)
    planned = parse(attacks, Setting(inside, step=eps / 4 if step is None else step, k=k))
    check_handed_in(model, images, labels)
    rows: list[Row] = []
    for indices in blocks(0, len(images), batch_size):
        block = indices.to(images.device)
        rows += attack_block(
            model,
            images[block],
            labels[block],
            indices.tolist(),
            planned,
            inside,
            seed=seed,
            precision=precision,
            batch_size=batch_size,
            cascade=cascades(attacks),
        )
    return Evaluation(rows, summarise(rows, [item.name for item in planned], without_radius(planned)))


def without_radius(planned: Sequence[Planned]) -> dict[str, Norm]:
    """The attacks that look for the nearest misclassified image, and in which norm."""
    return {item.name: item.minimum_norm for item in planned if item.minimum_norm is not None}


def blocks(done: int, count: int, size: int) -> tuple[Tensor, ...]:
    """The places of the images still to do, `size` at a time."""
    return torch.arange(done, count).split(size) if done < count else ()  # split gives one empty part of nothing


def attack_block(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    indices: Sequence[int],
    planned: Sequence[Planned],
    inside: Ball,
    *,
    seed: int,
    precision: Arithmetic,
    batch_size: int,
    cascade: bool = False,
    passed: Callable[[Planned], None] = lambda _: None,
    adversary: Callable[[int, Tensor], None] = lambda *_: None,
) -> list[Row]:
    """The ledger rows of one block of images; `indices` are their places in the data set.

    Every attack runs on every image that is classified rightly, so that its accuracy is its own; with `cascade`, only
    on what the attacks before it left standing. `passed` hears of each attack that is done, `adversary` gets the index
    of each broken image, and the first perturbed image that breaks it.
    """
    rows = _clean_rows(model, images, labels, indices)
    standing = [place for place, row in enumerate(rows) if row["broken_by"] is None]
    for item in planned:
        if cascade:
            standing = [place for place in standing if rows[place]["broken_by"] is None]
        left, done = standing, 0
        while left and done < item.restarts:
            # All that stand, in as many runs at once as fill the batch.
            runs = min(item.restarts - done, max(1, batch_size // len(left)))
            at = torch.tensor(left * runs, device=images.device)
            restarts = [done + run for run in range(runs) for _ in left]
            rng = ImageRng(seed, [indices[place] for place in left] * runs, restarts)
            judge = Judge(model, images[at], labels[at], inside, item.minimum_norm, runs)
            with autocast(images.device, precision):
                judge.run(item.attack, rng, any_iterate=item.any_iterate)
            _record(rows, item.name, left, judge, done, lambda place, image: adversary(indices[place], image))
            left = [place for place in left if not rows[place]["attacks"][item.name]["broken"]]
            done += runs
        passed(item)
    return rows


def transfer_block(
    sources: Mapping[str, nn.Module],
    targets: Mapping[str, nn.Module],
    images: Tensor,
    labels: Tensor,
    indices: Sequence[int],
    planned: Sequence[Planned],
    inside: Ball,
    *,
    seed: int,
    precision: Arithmetic,
) -> dict[str, list[Row]]:
    """The ledger rows of one block of images for every target, attacked with images made on every source.

    Each source's images are made once, for all targets: on all images, to the last iterate. An attack's name in the
    rows is ATTACK@SOURCE.
    """
    rows = {name: _clean_rows(target, images, labels, indices) for name, target in targets.items()}
    right = {name: [i for i, row in enumerate(each) if row["broken_by"] is None] for name, each in rows.items()}
    for source_name, source in sources.items():
        for item in planned:
            for restart in range(item.restarts):
                with autocast(images.device, precision):
                    perturbed = item.attack(source, images, labels, ImageRng(seed, indices, restart))
                for name, at in right.items():
                    judge = Judge(targets[name], images[at], labels[at], inside)
                    judge.judge(torch.arange(len(at), device=images.device), perturbed[at], item.attack.steps)
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
    some = images[:32]
    logits = exact_logits(model, some)
    if logits.ndim != 2 or logits.shape[0] != len(some) or logits.shape[1] < 2:
        raise ValueError(
            f"the model gives shape {tuple(logits.shape)} for {len(some)} images: must be ({len(some)}, classes), "
            "classes ≥ 2"
        )
    if not torch.isfinite(logits).all():
        raise ValueError("the model gives NaN or infinite logits on the first images; check its weights")
    if (logits >= 0).all() and ((logits.sum(dim=1) - 1).abs() < 1e-4).all():
        raise ValueError(
            "the model gives probabilities: their gradients vanish where it is sure, and attacks fail for no merit of "
            "its own; leave out the softmax at its end"
        )
    if not is_random(model) and not torch.allclose(logits, exact_logits(model, some), rtol=1e-4, atol=1e-5):
        raise ValueError(
            "the model answers differently to the same images twice: attack its mean answer, with --eot 20 on the "
            "command line, or wrapped as bpfc.EOT(model, samples=20)"
        )
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


def _record(
    rows: list[Row],
    name: str,
    places: Sequence[int],
    judge: Judge,
    restart: int,
    adversary: Callable[[int, Tensor], None] = lambda *_: None,
) -> None:
    """Enters the verdicts of an attack's runs, from `restart` on, on the images at `places`; an earlier run's success
    stays. Of several runs in one batch, the first to break an image counts, and what came after it does not."""
    broken = judge.broken.view(judge.runs, -1).int()
    counts = torch.where(broken.any(dim=0), broken.argmax(dim=0), judge.runs - 1)
    spent = judge.queries.view(judge.runs, -1).cumsum(dim=0).gather(0, counts[None])[0]
    at = counts * len(places) + torch.arange(len(places), device=counts.device)
    columns = (counts, spent, at, judge.broken[at], judge.found[at], judge.step[at], judge.linf[at], judge.l2[at])
    for place, run, queries, copy, hit, found, step, linf, l2 in zip(
        places, *(column.tolist() for column in columns), strict=True
    ):
        row = rows[place]
        before = row["attacks"].get(name)
        if before is not None and before["broken"]:
            continue
        row["attacks"][name] = {
            "broken": hit,
            **({"found": found} if judge.minimum_norm else {}),
            "restart": restart + run if found else None,
            "step": step if found and step >= 0 else None,
            "linf": round(linf, 7) if found else None,
            "l2": round(l2, 6) if found else None,
            "queries": queries + ((before or {}).get("queries") or 0) or None,
        }
        if hit and row["broken_by"] is None:
            row["broken_by"] = name
            adversary(place, judge.adversaries[copy])

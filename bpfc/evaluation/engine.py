"""From a network, images and a plan to ledger rows: what runs in a block of images, and over all."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bpfc.answers import Answers
from bpfc.attacks import Attack, ImageRng, TargetedAPGD, aimed
from bpfc.certification import ContradictionError
from bpfc.data import AnyImages, Block, each_block
from bpfc.evaluation.gradients import blind_at_start
from bpfc.evaluation.plan import Plan
from bpfc.judge import Judge, clean_logits
from bpfc.ledger import Row, Verdict
from bpfc.machine import autocast, float32
from bpfc.modes import own_randomness
from bpfc.wrappers import is_random


class Proof(NamedTuple):
    """What is proven of an image; see bpfc.ledger.Row."""

    certified_by: str | None
    margin_lower: float | None


def run_blocks(
    model: nn.Module,
    images: AnyImages,
    parts: Iterable[list[int]],
    plan: Plan,
    *,
    channels_last: bool = False,
    **more: Any,
) -> Iterator[list[Row]]:
    """`run_block`, which `more` is for, on the images at each of the indices `parts`, as they are asked for.

    Raises:
        UserError: the model fails on some of the images, or answers in another form; the message names them.
    """
    answers = Answers(model)
    for block in each_block(images, parts, channels_last=channels_last):
        with answers.to(block.indices):
            rows = run_block(model, block, plan, **more)
        yield rows


def run_block(
    model: nn.Module,
    block: Block,
    plan: Plan,
    *,
    passed: Callable[[str, int], None] = lambda *_: None,
    adversary: Callable[[int, Tensor], None] = lambda *_: None,
    proofs: Mapping[int, Proof] | None = None,
) -> list[Row]:
    """The ledger rows of one block of images under a plan.

    Every attack runs on every image that is classified rightly, so that its accuracy is its own; in a cascade, only
    on what the attacks before it left standing. `passed` hears of each attack that is done, and of how many images the
    block is; `adversary` gets the index of each broken image, and the first perturbed image that breaks it. What is
    proven of an image, by its index, goes into its row, and one that is certified meets no attack.

    Raises:
        ContradictionError: an image is certified, but misclassified as it is.
    """
    rows, classes = clean_rows(model, block)
    _note_proofs(rows, proofs or {})
    standing = [place for place, row in enumerate(rows) if row["broken_by"] is None and row.get("certified_by") is None]
    if plan.by_gradients:
        note_blind(model, block, standing, rows, plan)
    attack_rows(model, block, rows, standing, plan, classes, passed=passed, adversary=adversary)
    return rows


def attack_rows(
    model: nn.Module,
    block: Block,
    rows: list[Row],
    standing: Sequence[int],
    plan: Plan,
    classes: int,
    *,
    passed: Callable[[str, int], None] = lambda *_: None,
    adversary: Callable[[int, Tensor], None] = lambda *_: None,
) -> None:
    """Attacks the images at the places `standing`, and enters the verdicts in their rows; see `run_block`."""
    indices, images, labels = block
    for item in plan.attacks:
        if plan.cascade:
            standing = [place for place in standing if rows[place]["broken_by"] is None]
        left, done = list(standing), 0
        while left and done < item.restarts:
            # All that stand, in as many restarts at once as fill the batch.
            together = min(item.restarts - done, max(1, plan.batch_size // len(left)))
            at = torch.tensor(left * together, device=images.device)
            restarts = [done + turn for turn in range(together) for _ in left]
            rng = ImageRng(plan.seed, [indices[place] for place in left] * together, restarts)
            judge = Judge(model, images[at], labels[at], plan.threat.ball, item.minimum_norm, together)
            drawn = own_draws(model, images.device, plan.seed, item.name, done, *(indices[place] for place in left))
            with drawn, float32(), autocast(images.device, plan.precision_of(item)):
                judge.run(fitted(item.attack, classes, plan.batch_size), rng, any_iterate=item.any_iterate)
            _record(rows, item.name, left, judge, done, lambda place, image: adversary(indices[place], image))
            left = [place for place in left if not rows[place]["attacks"][item.name]["broken"]]
            done += together
        passed(item.name, len(indices))


def own_draws(model: nn.Module, device: torch.device, *key: object) -> AbstractContextManager[None]:
    """What a random model draws while it is attacked, seeded by `key`: the same call finds the same images again.

    A batch of other images draws otherwise, and may find others; the verdict on what is found does not change.
    """
    return own_randomness(device, zlib.crc32(repr(key).encode())) if is_random(model) else nullcontext()


def fitted(attack: Attack, classes: int, batch_size: int) -> Attack:
    """The attack as the model and the batch have it: at no more targets than there are, and with the batch to fill.

    A few images fill it with several targets each.
    """
    return replace(attack, room=batch_size) if isinstance(attack, TargetedAPGD) else aimed(attack, classes)


def clean_rows(model: nn.Module, block: Block) -> tuple[list[Row], int]:
    """The rows of images that nothing has attacked yet, and the number of classes.

    Raises:
        ValueError: the model gives NaN or infinite logits on one of them.
    """
    logits = clean_logits(model, block.images, block.indices)
    places = zip(block.indices, block.labels.tolist(), logits.argmax(dim=1).tolist(), strict=True)
    rows = [
        Row(index=index, label=label, prediction=guess, broken_by=None if guess == label else "clean", attacks={})
        for index, label, guess in places
    ]
    return rows, logits.shape[1]


def _note_proofs(rows: list[Row], proofs: Mapping[int, Proof]) -> None:
    for row in rows:
        if (proof := proofs.get(row["index"])) is not None:
            row["certified_by"], row["margin_lower"] = proof
            if proof.certified_by is not None and row["broken_by"] == "clean":
                raise ContradictionError(
                    f"image {row['index']} is certified by {proof.certified_by}, but misclassified as it is: the "
                    "certificates are of another model, or wrong"
                )


def note_blind(model: nn.Module, block: Block, places: Sequence[int], rows: list[Row], plan: Plan) -> None:
    """Says in the rows of the images at `places` where gradients through the model are of no use.

    A model that lets none through at all comes here only in an audit, whose attacks go through stand-ins.
    """
    at = torch.tensor(places, dtype=torch.long, device=block.labels.device)
    try:
        blinds = blind_at_start(model, block.images[at], block.labels[at], past_curve=plan.past_curve)
    except ValueError:
        blinds = ["zero"] * len(places)
    for place, blind in zip(places, blinds, strict=True):
        if blind is not None:
            rows[place]["gradient"] = blind


def _record(
    rows: list[Row],
    name: str,
    places: Sequence[int],
    judge: Judge,
    first: int,
    adversary: Callable[[int, Tensor], None] = lambda *_: None,
) -> None:
    """Enters the verdicts on the images at `places` of an attack's restarts, from number `first` on.

    An earlier one's success stays. Of several in one batch, the first to break an image counts, and what came after it
    does not.
    """
    broken = judge.broken.view(judge.restarts, -1).int()
    counts = torch.where(broken.any(dim=0), broken.argmax(dim=0), judge.restarts - 1)
    at = counts * len(places) + torch.arange(len(places), device=counts.device)
    columns = (
        counts,
        at,
        judge.broken[at],
        judge.found[at],
        judge.step[at],
        judge.linf[at],
        judge.l2[at],
        judge.no_answer[at],
    )
    spent: Sequence[int | None] = [None] * len(places)
    if judge.queries is not None:
        spent = judge.queries.view(judge.restarts, -1).cumsum(dim=0).gather(0, counts[None])[0].tolist()
    for place, queries, turn, copy, hit, found, step, linf, l2, silent in zip(
        places, spent, *(column.tolist() for column in columns), strict=True
    ):
        row = rows[place]
        before = row["attacks"].get(name)
        if before is not None and before["broken"]:
            continue
        if before is not None and before["queries"] is not None and queries is not None:
            queries += before["queries"]
        row["attacks"][name] = verdict = Verdict(
            broken=hit,
            restart=first + turn if found else None,
            step=step if found and step >= 0 else None,
            linf=round(linf, 7) if found else None,
            l2=round(l2, 6) if found else None,
            queries=queries,
        )
        if judge.minimum_norm:
            verdict["found"] = found
        if silent:
            verdict["no_answer"] = True
        if hit and row["broken_by"] is None:
            row["broken_by"] = name
            adversary(place, judge.adversaries[copy])

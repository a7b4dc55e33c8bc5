"""A black-box evaluation in a folder: images made on sources, judged on targets. A killed one goes on where it was."""

import math
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from bpfc.answers import Answers
from bpfc.attacks import ImageRng
from bpfc.attacks.made import Made
from bpfc.checks import check
from bpfc.data import Block, blocks, to_float
from bpfc.evaluation.caveats import caveats
from bpfc.evaluation.engine import attack_rows, clean_rows, fitted, note_blind
from bpfc.evaluation.gradients import check_gradient
from bpfc.evaluation.plan import Plan, PlannedAttack
from bpfc.evaluation.subject import Subject
from bpfc.files import SUMMARY, make_writable_folder, owned, write_json
from bpfc.judge import first_logits
from bpfc.ledger import Ledger, Row, columns, summarise, transferred
from bpfc.machine import autocast, float32
from bpfc.provenance import provenance
from bpfc.resumed import FIRST


def record_transfer(
    targets: Mapping[str, Subject], sources: Mapping[str, Subject], plan: Plan, out: Path
) -> dict[str, Any]:
    """Runs the plan on every source and judges its images on every target; gives back the summary.

    Args:
        targets, sources: by name, at least one of each, all of the same images on the same device.
        plan: what to run, but as no cascade; the last iterate is judged always.
        out: folder for TARGET/evaluation.json, TARGET/ledger.jsonl and summary.json; made if need be.

    Raises:
        ValueError: no figure of a network could be trusted, or the folder holds another evaluation.
        UserError: a network fails on some of the images; the message names both.
        OSError: the folder cannot be written to, or another process is at work there.
    """
    first = next(iter(targets.values()))
    plan = replace(plan, cascade=False)
    norms = {transferred(attack, source): norm for source in sources for attack, norm in plan.minimum_norm.items()}
    settings = plan.header() | {
        "data": first.data,
        "images": len(first.images),
        "data_sha256": first.data_sha256,
        "sources_sha256": {name: source.weights_sha256 for name, source in sources.items()},
    }
    names = columns(settings)
    _check(targets, by_gradients=False)
    _check(sources, plan.by_gradients)
    make_writable_folder(out)
    with owned(out), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        labels, ledgers = first.images.labels.tolist(), {}
        for name, target in targets.items():
            make_writable_folder(out / name)
            known = [logit for each in (target, *sources.values()) for logit in _first_logits(each)]
            header = settings | {"weights_sha256": target.weights_sha256, FIRST: known}
            ledgers[name] = Ledger(out / name, header, labels, names)
        # A kill may have left one ledger ahead of another.
        missing = sorted({index for ledger in ledgers.values() for index in ledger.missing})
        layout = all(each.channels_last for each in (*targets.values(), *sources.values()))
        todo = blocks(first.images, missing, plan.batch_size, channels_last=layout)
        count = math.ceil(len(missing) / plan.batch_size)
        makers, judged = ({name: each.model for name, each in some.items()} for some in (sources, targets))
        networks = {model: name for name, model in (*makers.items(), *judged.items())}
        answers = [Answers(model, f"the network of {name}") for model, name in networks.items()]
        for block in track(todo, "transfer", count, transient=True, disable=not Console().is_terminal):
            with ExitStack() as watched:
                for each in answers:
                    watched.enter_context(each.to(block.indices))
                rows = run_transfer_block(makers, judged, block, plan)
            for name, ledger in ledgers.items():
                ledger.append(rows[name], {str(warning.message) for warning in warned})
        summary = settings | {
            "targets": {name: summarise(ledger.rows, names, norms) for name, ledger in ledgers.items()},
            "warnings": {
                name: told for name, ledger in ledgers.items() if (told := ledger.warnings + caveats(ledger.rows))
            },
            "images_resumed": len(first.images) - len(missing),
            "provenance": provenance(first.images.labels.device),
        }
        write_json(out / SUMMARY, summary)
    return summary


def run_transfer_block(
    sources: Mapping[str, nn.Module], targets: Mapping[str, nn.Module], block: Block, plan: Plan
) -> dict[str, list[Row]]:
    """The ledger rows of one block of images for every target, attacked with images made on every source.

    Each source's images are made once, for all targets: on all images, to the last iterate. An attack's name in the
    rows is that of `transferred`. No cascade: a column says what one source's images do.
    """
    known = {name: clean_rows(target, block) for name, target in targets.items()}
    rows, classes = {name: each for name, (each, _) in known.items()}, max(count for _, count in known.values())
    right = {name: [i for i, row in enumerate(each) if row["broken_by"] is None] for name, each in rows.items()}
    for source_name, source in sources.items():
        if plan.by_gradients:
            for name, places in right.items():
                note_blind(source, block, places, rows[name], plan)
        for item in plan.attacks:
            made = replace(plan, attacks=(_made(item, source_name, source, block, plan, classes),), cascade=False)
            for name, target in targets.items():
                attack_rows(target, block, rows[name], right[name], made, classes)
    return rows


def _made(item: PlannedAttack, name: str, source: nn.Module, block: Block, plan: Plan, classes: int) -> PlannedAttack:
    """The attack as its last iterates on the network of that name, on all of the block's images in each restart."""
    indices, images, labels = block
    kept: dict[int, Tensor] = {}
    fit = fitted(item.attack, classes, plan.batch_size)
    for restart in range(item.restarts):
        rng = ImageRng(plan.seed, indices, restart)
        with float32(), autocast(images.device, plan.precision_of(item)):
            perturbed = fit(source, images, labels, rng)
        kept |= zip(rng.keys.tolist(), perturbed, strict=True)
    attack = Made(item.attack.eps, item.attack.norm, fit.steps, kept)
    return PlannedAttack(transferred(item.name, name), attack, item.restarts, any_iterate=False)


def _first_logits(network: Subject) -> list[float]:
    return first_logits(network.model, to_float(network.images[:1].pixels))


def _check(networks: Mapping[str, Subject], by_gradients: bool) -> None:
    for name, network in networks.items():
        try:
            check(network.model, network.images)
            if by_gradients:
                check_gradient(network.model, network.images)
        except ValueError as error:
            raise ValueError(f"the network of {name}: {error}") from error

"""What a page does not know: attacks not run, images not attacked, seeds not repeated. It is said on the page."""

import re
from collections import defaultdict
from collections.abc import Sequence

from bpfc.data import AnyImages
from bpfc.report.page.records import Record
from bpfc.report.page.seeds import by_recipe, recipe_labels
from bpfc.report.page.tables import STANDARD
from bpfc.training.recipes import RECIPES

SIZES = {"mnist": 10_000, "fashion-mnist": 10_000, "cifar-10": 10_000, "mnist-5k": 500}
"""Test images of the data sets with a name."""


def gaps(records: Sequence[Record], images: dict[str, AnyImages | None]) -> list[str]:
    """A sentence for each thing that the files of these runs do not tell."""
    return [
        *_seeds(records),
        *_images(records, images),
        *_few(records, images),
        *_attacks(records),
        *_unseen(records),
        *_shorter(records),
        *_other_weights(records),
        *_never(records),
    ]


def _named(records: Sequence[Record], every: Sequence[Record]) -> str:
    if len(records) == len(every):
        return "any network here" if len(every) > 1 else "this network"
    return "; ".join(record.label for record in records)  # labels hold commas


def _seeds(records: Sequence[Record]) -> list[str]:
    """Trainings that differ in nothing but the seed."""
    groups = by_recipe(records)
    once = [group[0] for group in groups if len(group) == 1]
    few = [
        f"How much more than {len(group)} seeds would change the figures of {label}."
        for group, label in zip(groups, recipe_labels(groups), strict=True)
        if len(group) > 1
    ]
    told = []
    if once:
        told.append(
            f"How much another seed changes the figures of {_named(once, records)}: each was trained once (n = 1). The "
            "intervals are those of the images, not of trainings."
        )
    return told + few


def _images(records: Sequence[Record], images: dict[str, AnyImages | None]) -> list[str]:
    told = []
    for record in records:
        whole = _whole(record, images)
        audited = (int(audit.get("images", 0)) for audit in record.audits.values())
        most = max([0, *(item.images for item in record.evaluations), *audited])
        if whole and most < whole:
            told.append(f"{record.label}: {whole - most:,} of {whole:,} test images were attacked by nothing.")
        for item in record.evaluations:
            if item.images < item.planned:
                told.append(
                    f"{record.label}, {item.name}: stopped after {item.images:,} of {item.planned:,} images; the same "
                    "command goes on."
                )
    return told


def _whole(record: Record, images: dict[str, AnyImages | None]) -> int | None:
    """How many test images there are, if that is known."""
    test = images[record.data]
    return SIZES.get(record.data) or (None if test is None else len(test))


def _few(records: Sequence[Record], images: dict[str, AnyImages | None]) -> list[str]:
    """Attacks, certificates and audits that met fewer than all images; a sentence for those that met as many."""
    met: dict[tuple[str, int, int], list[str]] = defaultdict(list)
    for record in records:
        whole, most = _whole(record, images) or 0, defaultdict[str, int](int)
        for item in record.evaluations:
            for name in item.attacks:
                most[name] = max(most[name], item.images)
        for word, contents in (("certificates", record.certifications), ("the audit", record.audits)):
            if counts := [int(each["images"]) for each in contents.values() if "images" in each]:
                most[word] = max(counts)
        for name, count in most.items():
            if count < whole:
                met[name, count, whole].append(record.label)
    alike: dict[tuple[int, int, str], list[str]] = defaultdict(list)
    for (name, count, whole), labels in met.items():
        alike[count, whole, "; ".join(labels)].append(name)
    return [
        f"What the other test images would show: {', '.join(names)} met the first {count:,} of {whole:,}, of {labels}."
        for (count, whole, labels), names in alike.items()
    ]


def _unseen(records: Sequence[Record]) -> list[str]:
    """Where nothing is kept image by image."""
    told = []
    attacked = [record for record in records if record.evaluations]
    if bare := [record for record in attacked if not any(item.rows for item in record.evaluations)]:
        told.append(
            f"What became of each image of {_named(bare, records)}: no ledger of its evaluations is kept, so that it "
            "has no curve over steps and no picture here."
        )
    seen = [record for record in attacked if any(item.rows for item in record.evaluations)]
    if bare := [record for record in seen if not any(item.saved for item in record.evaluations)]:
        told.append(f"How images look that broke {_named(bare, records)}: none were kept (--save-images).")
    return told


def _attacks(records: Sequence[Record]) -> list[str]:
    def ran(record: Record) -> set[str]:
        return {name for item in record.evaluations for name in item.attacks}

    told = []
    bare = [record for record in records if not record.evaluations]
    if nothing := [record for record in bare if not record.audits]:
        told.append(f"Whether {_named(nothing, records)} can be broken: no attack was run. Run bpfc evaluate.")
    if audited := [record for record in bare if record.audits]:
        told.append(
            f"What other attacks leave of {_named(audited, records)}: an audit alone attacked it, no evaluation."
        )
    without = [record for record in records if record.evaluations and not ran(record) >= set(STANDARD)]
    if without:
        told.append(
            f"What AutoAttack leaves of {_named(without, records)}: it was not run (--attacks standard), so the "
            "figures are upper bounds by weaker attacks."
        )
    free = [record for record in records if record.evaluations and not _without_gradients(ran(record))]
    if free:
        told.append(
            f"Whether gradients mislead the attacks on {_named(free, records)}: none without gradients was run at "
            "length (square-5000, spsa-100)."
        )
    return told


def _without_gradients(names: set[str]) -> bool:
    """Whether one of them asks for answers alone, and for as many as could tell."""
    if "aa-square" in names:
        return True
    lengths = [re.fullmatch(r"(square|spsa)-(\d+)(?:x\d+)?", name) for name in names]
    return any(found and int(found[2]) >= {"square": 5_000, "spsa": 100}[found[1]] for found in lengths)


def _shorter(records: Sequence[Record]) -> list[str]:
    """Trainings that are shorter than the recipe of the paper for the same method."""
    told = []
    for record in records:
        if record.recipe is None or not record.log:
            continue
        if len(record.log) < record.recipe["epochs"]:
            told.append(f"{record.label}: trained for {len(record.log)} of {record.recipe['epochs']} epochs so far.")
        name = f"{record.data}-{record.recipe['method']['name']}"
        if name in RECIPES and record.recipe["epochs"] < (full := RECIPES[name][1].epochs):
            told.append(f"{record.label}: {record.recipe['epochs']} epochs; what {full} would give is not known.")
        if record.recipe.get("limit"):
            told.append(f"{record.label}: trained on {record.recipe['limit']:,} images only.")
    return told


def _other_weights(records: Sequence[Record]) -> list[str]:
    return [
        f"{record.label}: its evaluations are of different weights ({', '.join(sorted(record.weights))}); they do not "
        "speak of one network."
        for record in records
        if len(set(record.weights.values())) > 1
    ]


def _never(records: Sequence[Record]) -> list[str]:
    told = []
    if bare := [record for record in records if not record.certifications]:
        told.append(f"What can be proven of {_named(bare, records)}: no certificate was computed (bpfc certify).")
    if bare := [record for record in records if not record.audits]:
        told.append(f"Whether gradients of {_named(bare, records)} are masked: no audit was made (bpfc audit).")
    return told

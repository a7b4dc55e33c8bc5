"""Images with their perturbation, amplified, and what networks take them for; from what evaluations have saved."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bpfc.data import DATA_SETS, AnyImages, load, load_images, to_float
from bpfc.errors import UserError
from bpfc.judge import exact_logits
from bpfc.options import DECIDING, Reading
from bpfc.report.page.pictures import amplified, strip
from bpfc.report.page.records import Evaluated, Record
from bpfc.training.run import Run
from bpfc.training.run_data import data_of

MOST = 1_000
"""Images in the gallery."""
BYTES = 3_500_000
"""Of its pictures, so that the page stays below 5 MB."""
CLASSES = {
    "fashion-mnist": ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"),
    "cifar-10": ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}
"""Names of classes, where they are more than numbers."""


@dataclass(frozen=True)
class Card:
    """One image of one run.

    Attributes:
        run, label, outcome, attack: by which cards are filtered; the attack is "none" where none broke it.
        index: of the image in its data set.
        address, alt: of the picture: the image, and if it was broken the perturbation and the perturbed image.
        told: what became of it, in words.
    """

    run: str
    label: str
    outcome: str
    attack: str
    index: int
    address: str
    alt: str
    told: str


@dataclass
class Gallery:
    """Cards, at which radius, how many images had no room, and what to do where there is nothing to show.

    Attributes:
        others: evaluations whose pictures are not shown.
    """

    cards: list[Card] = field(default_factory=list)
    radius: str = ""
    left_out: int = 0
    others: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)

    def values(self, name: str) -> list[str]:
        """What cards can be filtered by, in the order in which it appears; classes sorted."""
        found = list(dict.fromkeys(str(getattr(card, name)) for card in self.cards))
        return sorted(found, key=lambda value: (len(value), value)) if name == "label" else found


def images_of(record: Record, data_dir: Path | None) -> AnyImages | None:
    """The test images of a run; None where they cannot be had here."""
    try:
        if record.data in DATA_SETS:
            return load(record.data, data_dir).test
        if record.recipe is not None:
            return data_of(Run(record.folder), data_dir).test
        summaries = [item.summary for item in record.evaluations]
        told: Any = next((some["reading"] for some in summaries if "reading" in some), {})
        images = load_images(Path(record.data), Reading(**{name: told.get(name) for name in DECIDING}))
        return images if images.sha256() in [some.get("data_sha256") for some in summaries] else None
    except (UserError, OSError, ValueError):
        return None


def class_name(data: str, label: int, own: Sequence[str] = ()) -> str:
    """What a class is called: by its data set, or by `own`, the names in data of somebody's own."""
    names = own or CLASSES.get(data, ())
    return names[label] if label < len(names) else str(label)


def gallery(records: Sequence[Record], images: dict[str, AnyImages | None], data_dir: Path | None = None) -> Gallery:
    """The images of each run's evaluation that has saved some; `images` are the test images by data set."""
    found, spent = Gallery(), 0
    shown = [(record, item) for record in records if (item := _with_pictures(record)) is not None]
    for record in records:
        if not any(record is other for other, _ in shown):
            found.advice.append(_advice(record))
    found.advice = list(dict.fromkeys(found.advice))
    radii = {record.label: item.radius for record, item in shown}
    at = [f"{label} at {radius}" for label, radius in radii.items()]
    found.radius = "; ".join(at if len(set(radii.values())) > 1 else dict.fromkeys(radii.values()))
    for record, item in shown:
        rest = (other for other in _pictured(record) if other is not item)
        found.others += [f"{record.label}, {other.name} at {other.radius}" for other in rest]
    each = MOST // max(1, len(shown))
    for record, item in shown:
        test = images[record.data]
        if test is None:
            way = "name their folder with --data-dir" if record.data in DATA_SETS else "put them back as they were"
            found.advice.append(f"the images of {record.data} are not to be had here: {way}")
            continue
        for number, card in enumerate(_cards(record, item, test, data_dir)):
            if number < each and spent + len(card.address) < BYTES:
                spent += len(card.address)
                found.cards.append(card)
            else:
                found.left_out += 1
    return found


def _with_pictures(record: Record) -> Evaluated | None:
    """The evaluation with the most saved images; without a ledger nothing is known of them."""
    every = _pictured(record)
    return max(every, key=lambda item: len(item.saved)) if every else None


def _pictured(record: Record) -> list[Evaluated]:
    return [item for item in record.evaluations if item.saved and item.rows]


def _advice(record: Record) -> str:
    """What to do so that there are pictures."""
    where = shlex.quote(str(record.folder)) if record.recipe else "…"
    options = "--attacks fgsm,pgd-100 --limit 100 --save-images"
    command = f"bpfc evaluate {where} {options} --out {where}/evaluation-pictures"
    if record.recipe is None or (weights := Run(record.folder).weights).is_file():
        return command
    return f"{where} holds no weights: put {weights.name} back, or train it again, and then: {command}"


def _cards(record: Record, item: Evaluated, test: AnyImages, data_dir: Path | None) -> Iterator[Card]:
    answers = _answers(record, item, data_dir)
    for row in item.rows:
        index, by = row["index"], row["broken_by"]
        image = to_float(test[index : index + 1].pixels[0])
        label, guess = (class_name(record.data, row[it], record.class_names) for it in ("label", "prediction"))
        panels, alt = [image], f"image {index}, {label}"
        if by is None:
            outcome, told = "stands", f"stands under all {len(item.attacks)} attacks"
        elif by == "clean":
            outcome, told = "misclassified", f"read as {guess} as it is"
        else:
            outcome, told = "broken", f"broken by {by}"
            if (perturbed := _saved(item, index)) is not None:
                panels += [amplified(perturbed - image, item.eps), perturbed]
                alt += ", its perturbation, and the perturbed image"
            verdict = row["attacks"][by]
            if index in answers:
                told += f", read as {class_name(record.data, answers[index], record.class_names)}"
            if verdict["linf"] is not None:
                told += f"; ℓ∞ {verdict['linf']:.3g}, ℓ2 {verdict['l2']:.3g}"
            if verdict["step"] is not None:
                told += f", step {verdict['step']}"
        attack = by if outcome == "broken" else "none"
        yield Card(record.label, label, outcome, attack, index, strip(panels), alt, told)


def _saved(item: Evaluated, index: int) -> Tensor | None:
    """The perturbed image (C, H, W).

    Raises:
        ValueError: the file is damaged.
    """
    path = item.saved.get(index)
    if path is None:
        return None
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False))
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(
            f"{path}: not an image as bpfc evaluate saves it ({error}); evaluate into another --out"
        ) from error


def _answers(record: Record, item: Evaluated, data_dir: Path | None) -> dict[int, int]:
    """What the network of the run takes the saved images for: one forward, no attack. Empty without its weights."""
    run, known = Run(record.folder), {row["index"] for row in item.rows}
    indices = [index for index in item.saved if index in known]  # a kill may have left an image without a row
    try:
        if not indices or record.recipe is None or run.digest != item.summary.get("weights_sha256"):
            return {}
        data = load(record.data, data_dir) if record.data in DATA_SETS else data_of(run, data_dir)
        model = run.model(data)
    except (UserError, ValueError):
        return {}
    stack = torch.stack([image for index in indices if (image := _saved(item, index)) is not None])
    guesses = [guess for block in stack.split(256) for guess in exact_logits(model, block).argmax(dim=1).tolist()]
    return dict(zip(indices, guesses, strict=True))

"""Images → rows that say what is proven: the cheapest method first, the dearer on what it leaves open."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor, nn

from bpfc.answers import Answers
from bpfc.attacks.base import check_count, check_radius
from bpfc.bounds import FLOAT32, propagate, trace
from bpfc.certification.base import Certifier, ContradictionError
from bpfc.certification.crown_ibp import CrownIBP
from bpfc.certification.interval import IntervalBounds
from bpfc.checks import answers_vary, check_form, check_mode, handed_in
from bpfc.data import AnyImages, Images, blocks, to_float
from bpfc.judge import clean_logits
from bpfc.ledger import wilson_interval
from bpfc.models import state_sha256
from bpfc.wrappers import with_hooks

CERTIFIERS: dict[str, Certifier] = {each.name: each for each in (IntervalBounds(), CrownIBP())}
"""By name, the cheapest first."""

DIGITS = 1e9
"""Margins are rounded down to its inverse: beyond, they hang on the batch that an image travels in."""


class CertificateRow(TypedDict):
    """What is proven of one image.

    Keys:
        index, label, prediction: of the image; the clean prediction, float32.
        certified_by: the first method that proves that no perturbation changes the prediction, which is the label; null
            where none does.
        margin_lower: the best proven lower bound of logit_label − the largest other logit; null where the clean
            prediction is wrong, or nothing is proven.
        radius: an ε for which it is certified; where that was asked for.
    """

    index: int
    label: int
    prediction: int
    certified_by: str | None
    margin_lower: float | None
    radius: NotRequired[float]


@dataclass(frozen=True)
class Certification:
    """What is proven of images.

    Attributes:
        eps: radius in ℓ∞, in units of [0, 1].
        methods: names, in the order they ran.
        rows: one for each image.
        subject: `fingerprint` of network, images and labels; None of what lies in a folder, whose header names them.
    """

    eps: float
    methods: tuple[str, ...]
    rows: list[CertificateRow]
    subject: str | None = None

    @property
    def certified(self) -> float:
        """Share of the images that no perturbation breaks, proven."""
        return sum(row["certified_by"] is not None for row in self.rows) / len(self.rows)

    @property
    def summary(self) -> dict[str, Any]:
        """Shares of all images with their 95 % intervals: clean, certified, and certified first by each method."""
        total = len(self.rows)

        def share(count: int) -> dict[str, Any]:
            low, high = wilson_interval(count, total)
            return {"accuracy": count / total, "interval_95": [round(low, 6), round(high, 6)]}

        by = [row["certified_by"] for row in self.rows]
        return {
            "images": total,
            "norm": "linf",
            "eps": self.eps,
            "clean": share(sum(row["label"] == row["prediction"] for row in self.rows)),
            "certified": share(sum(name is not None for name in by)),
            "methods": {name: share(by.count(name)) for name in self.methods},
        }


def certify(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    methods: str = "interval,crown-ibp",
    batch_size: int = 256,
    indices: Sequence[int] | None = None,
) -> Certification:
    """Proves of as many images as it can that no perturbation of at most ε in ℓ∞ changes a right prediction.

    A proof holds for the network as a forward in float32 computes it, whatever the order of its sums, and for every
    perturbed image that `bpfc.evaluate` would let count. It does not hold where float32 is something else under its
    name, as TF32 on a GPU, which this switches off for its own forwards. An image without a proof is open, not broken.

    Args:
        model: in eval mode, made of what `bpfc.bounds.trace` knows.
        images: uint8, or float32 in [0, 1], (N, C, H, W), on the model's device.
        labels: integers, (N,).
        eps: radius in units of [0, 1].
        methods: comma-separated names of CERTIFIERS; they run in that order, each on what is open.
        batch_size: images at a time; less are taken where the memory asks for it.
        indices: of the images in their data set; 0 … N − 1 unless given.

    Raises:
        ValueError: an argument is not as above, or the model holds a layer without known bounds.
        UserError: the model fails on one of the later images, or answers in another form.
        ContradictionError: the model does not compute what was read off its forward.
    """
    model = with_hooks(model)
    certifiers = parse_methods(methods)
    check_count(batch_size=batch_size)
    stored = handed_in(images, labels)
    check(model, stored, eps)
    check_reading(model, stored)
    names = range(len(images)) if indices is None else [int(index) for index in indices]
    if len(names) != len(images):
        raise ValueError(f"{len(names)} indices for {len(images)} images: must be one for each")
    answers, rows = Answers(model), list[CertificateRow]()
    for block in blocks(stored, range(len(images)), batch_size):
        places = [names[at] for at in block.indices]
        with answers.to(places):
            rows += certify_block(model, block.images, block.labels, places, certifiers, eps)
    return Certification(eps, tuple(each.name for each in certifiers), rows, fingerprint(model, stored))


def fingerprint(model: nn.Module, images: Images) -> str:
    """Of the network's layers and values, and of images as it sees them with their labels: what certificates are of.

    Layers count by what they print, because a tone curve's ends, say, are no values that a state holds. Images are
    taken a part at a time, because they may lie in memory in a smaller type.
    """
    told = f"{model} {state_sha256(model)} {tuple(images.shape)} {images.labels.tolist()}"
    hashed = hashlib.sha256(told.encode())
    for part in images.pixels.split(256):
        hashed.update(to_float(part).detach().cpu().contiguous().numpy().data)
    return hashed.hexdigest()


def parse_methods(methods: str) -> tuple[Certifier, ...]:
    """Certifiers by their names, separated by commas.

    Raises:
        ValueError: there is none of a name.
    """
    if not isinstance(methods, str):
        raise ValueError(f"methods={methods!r}: must be one text, names separated by commas, such as 'interval'")
    names = [name.strip() for name in methods.split(",")]
    for name in names:
        if name not in CERTIFIERS:
            raise ValueError(f"methods={methods!r}: {name!r} must be one of {', '.join(CERTIFIERS)}")
    return tuple(CERTIFIERS[name] for name in names)


def certify_block(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    indices: Sequence[int],
    certifiers: Sequence[Certifier],
    eps: float,
) -> list[CertificateRow]:
    """The rows of a block of float images, as `certify` gives them."""
    predictions = clean_logits(model, images, indices).argmax(dim=1)
    best = torch.full((len(images),), -torch.inf, dtype=torch.float64, device=images.device)
    by: list[str | None] = [None] * len(images)
    left = torch.nonzero(predictions == labels).flatten()
    for certifier in certifiers:
        if len(left):
            margins = certifier(model, images[left], labels[left], eps)
            best[left] = torch.maximum(best[left], margins)
            for place in left[margins > 0].tolist():
                by[place] = certifier.name
            left = left[~(margins > 0)]
    return [
        {
            "index": index,
            "label": label,
            "prediction": prediction,
            "certified_by": name,
            "margin_lower": math.floor(margin * DIGITS) / DIGITS if math.isfinite(margin) else None,
        }
        for index, label, prediction, name, margin in zip(
            indices, labels.tolist(), predictions.tolist(), by, best.tolist(), strict=True
        )
    ]


def check(model: nn.Module, images: AnyImages, eps: float) -> None:
    """Raises for what would make a certificate wrong or meaningless (see `certify`)."""
    check_radius(eps=eps)
    strange = [name for name, weights in model.named_parameters() if weights.dtype != torch.float32]
    if strange:
        raise ValueError(f"parameter {strange[0]}: must be float32, in which the verdict on an image is made")
    check_mode(model)
    check_form(model, images)
    if answers_vary(model, images):
        raise ValueError("the model answers differently to the same images twice: nothing can be proven of it")


def check_reading(model: nn.Module, images: AnyImages) -> None:
    """Raises unless the bounds of a few images alone hold their logits."""
    some = to_float(images[:8].pixels)
    with torch.no_grad():
        bounds = propagate(trace(model, some.shape[1:]), some.double(), some.double(), unit=FLOAT32)[-1]
    logits = clean_logits(model, some, range(len(some)))
    if bounds.lower.shape != logits.shape:
        raise ValueError(
            f"the network gives {bounds.lower.shape[1]} logit an image, of which bpfc.Logits makes {logits.shape[1]}: "
            "bounds are known for logits as the network gives them; let it give one for each class"
        )
    if bool(((logits < bounds.lower) | (logits > bounds.upper)).any()):
        raise ContradictionError(
            "the model's logits lie outside of their bounds: either its forward is not what torch.fx reads in it, or "
            "float32 is not float32 here"
        )

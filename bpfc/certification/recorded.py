"""A certification in a folder: rows as they are made. A killed one goes on where it was."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from bpfc.answers import Answers
from bpfc.certification.base import Certifier
from bpfc.certification.engine import CertificateRow, Certification, certify_block, check, check_reading
from bpfc.certification.radii import certified_radii
from bpfc.data import Images, to_float
from bpfc.resumed import Kind, Resumed, read_rows

SCHEMA = 1
"""Version of certification.json and of the rows beside it."""


def record(
    model: nn.Module,
    images: Images,
    folder: Path,
    header: dict[str, Any],
    *,
    eps: float,
    certifiers: Sequence[Certifier],
    radii: bool = False,
    batch_size: int = 256,
) -> Certification:
    """`certify`, from what the folder holds on, into certificates.jsonl beside certification.json.

    Args:
        model, images: as `certify` takes them, on one device.
        folder: it must be there, and be owned by this process.
        header: of the subject, ready for JSON.
        eps, certifiers, batch_size: as `certify` takes them.
        radii: find the radius of each image, too (certified_radii).

    Raises:
        ValueError: as `certify` does, or the folder holds other certificates.
        ContradictionError: the model does not compute what was read off its forward.
    """
    check(model, images.pixels, images.labels, eps)
    check_reading(model, images.pixels, images.labels)
    names = tuple(each.name for each in certifiers)
    decides = {"norm": "linf", "eps": eps, "methods": names, "radii": radii}
    kind = Kind(
        "certificates", "certification.json", "certificates.jsonl", SCHEMA, CertificateRow, _Check(names, radii)
    )
    rows = Resumed(folder, header | decides, images.labels.tolist(), kind)
    answers, missing = Answers(model), rows.missing
    for begin in range(0, len(missing), batch_size):
        block = missing[begin : begin + batch_size]
        some, labels = to_float(images.pixels[block]), images.labels[block]
        with answers.to(block):
            made = certify_block(model, some, labels, block, certifiers, eps)
            if radii:
                found = certified_radii(model, some, labels, methods=",".join(names)).tolist()
                made = [{**row, "radius": radius} for row, radius in zip(made, found, strict=True)]
        rows.append(made)
    return Certification(eps, names, rows.rows)


def read_certificates(
    folder: Path, labels: Sequence[int], methods: Sequence[str], *, radii: bool
) -> list[CertificateRow]:
    """The rows of a folder's certificates.jsonl.

    Args:
        labels: of all images, by their index.
        methods, radii: as its certification.json says.

    Raises:
        ValueError: a row disagrees with the data, with the other rows or with itself; the message names its line.
    """
    return read_rows(folder / "certificates.jsonl", labels, CertificateRow, _Check(methods, radii))


class _Check:
    """Raises ValueError for a row that disagrees with itself or with what was asked for."""

    def __init__(self, methods: Sequence[str], radii: bool) -> None:
        self.methods, self.radii = methods, radii

    def __call__(self, row: CertificateRow) -> None:
        by, margin, radius = row["certified_by"], row["margin_lower"], row.get("radius")
        if type(row["prediction"]) is not int or by not in (None, *self.methods):
            raise ValueError(f"predicts {row['prediction']!r} and is certified by {by!r}")
        if margin is not None and not (type(margin) is float and math.isfinite(margin)):
            raise ValueError(f"margin_lower {margin!r}, must be a number")
        if row["prediction"] != row["label"] and (by, margin) != (None, None):
            raise ValueError("something proven of a prediction that is wrong")
        if by is not None and (margin is None or margin < 0):
            raise ValueError(f"certified by {by} with a margin of {margin}")
        if (radius is not None) != self.radii or not 0 <= (radius or 0) <= 1:
            raise ValueError(f"radius {radius!r}, must be {'from 0 to 1' if self.radii else 'none'}")

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
from bpfc.data import AnyImages, each_block, to_float
from bpfc.judge import first_logits
from bpfc.resumed import FIRST, Kind, Resumed, read_rows
from bpfc.shared import Shared
from bpfc.team import Team, team

SCHEMA = 1
"""Version of header and rows."""
HEADER, ROWS = "certification.json", "certificates.jsonl"
"""Their files in the folder."""


def record(
    model: nn.Module,
    images: AnyImages,
    folder: Path,
    header: dict[str, Any],
    *,
    eps: float,
    certifiers: Sequence[Certifier],
    radii: bool = False,
    batch_size: int = 256,
    crew: Team | None = None,
) -> Certification | None:
    """`certify`, from what the folder holds on, into certificates.jsonl beside certification.json.

    Under torchrun the processes share the images out; see bpfc.shared. In any but the first it gives back None.

    Args:
        model, images: as `certify` takes them, on one device.
        folder: it must be there, and be owned by the first process.
        header: of the subject, ready for JSON.
        eps, certifiers, batch_size: as `certify` takes them.
        radii: find the radius of each image, too (certified_radii).
        crew: the processes; torchrun's unless given.

    Raises:
        ValueError: as `certify` does, or the folder holds other certificates.
        ContradictionError: the model does not compute what was read off its forward.
    """
    crew = crew or team()
    check(model, images, eps)
    check_reading(model, images)
    names = tuple(each.name for each in certifiers)
    decides = {"norm": "linf", "eps": eps, "methods": names, "radii": radii}
    kind = Kind("certificates", HEADER, ROWS, SCHEMA, CertificateRow, _Check(names, radii))
    settings, known = header | decides, images.labels.tolist()
    whole = settings | {FIRST: first_logits(model, to_float(images[:1].pixels))}
    shared = Shared(folder, settings, lambda path: Resumed(path, whole, known, kind), crew)
    answers = Answers(model)
    for places, some, labels in each_block(images, shared.parts(batch_size)):
        with answers.to(places):
            made = certify_block(model, some, labels, places, certifiers, eps)
            if radii:
                found = certified_radii(model, some, labels, methods=",".join(names)).tolist()
                made = [{**row, "radius": radius} for row, radius in zip(made, found, strict=True)]
        shared.append(made)
    rows = shared.finished()
    return None if rows is None else Certification(eps, names, rows.rows)


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
    return read_rows(folder / ROWS, labels, CertificateRow, _Check(methods, radii))


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

"""What other verbs found of the same network, images and ε, to be set beside: attacks by proofs, proofs by attacks."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from bpfc.evaluation.recorded import Proven
    from bpfc.evaluation.subject import Subject


def attacked(folder: Path, subject: "Subject", eps: float, limit: int | None) -> list[dict[str, Any]]:
    """The rows of an evaluation of the same model, images and threat.

    Raises:
        ValueError: it is of something else, or lacks an image.
    """
    from bpfc.ledger import HEADER, ROWS, columns, read_ledger

    header = folder / HEADER
    settings = _settings("--evaluation", header, subject, eps)
    try:
        attacks = columns(settings)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{header}: names no attacks; put it back, or name another --evaluation") from error
    labels = subject.images.labels.tolist()
    rows = {row["index"]: row for row in read_ledger(folder / ROWS, labels, attacks)}
    lacking = [index for index in range(min(limit or len(labels), len(labels))) if index not in rows]
    if lacking:
        raise ValueError(
            f"--evaluation {folder}: lacks {len(lacking)} images, the first of them {lacking[0]}; let it come "
            "to its end, or certify with the --limit that it has"
        )
    return [dict(rows[index]) for index in sorted(rows)]


def proven(folder: Path, subject: "Subject", eps: float, limit: int | None) -> "Proven":
    """The certificates of the same model, images and threat.

    Raises:
        ValueError: they are of something else, or lack an image.
    """
    from bpfc.certification import read_certificates
    from bpfc.evaluation.engine import Proof
    from bpfc.evaluation.recorded import Proven

    settings = _settings("--certificates", folder / "certification.json", subject, eps)
    methods, labels = settings.get("methods"), subject.images.labels.tolist()
    if not isinstance(methods, list):
        raise ValueError(f"{folder / 'certification.json'}: names no methods; put it back, or certify anew")
    rows = read_certificates(folder, labels, methods, radii=bool(settings.get("radii")))
    proofs = {row["index"]: Proof(row["certified_by"], row["margin_lower"]) for row in rows}
    lacking = [index for index in range(min(limit or len(labels), len(labels))) if index not in proofs]
    if lacking:
        raise ValueError(
            f"--certificates {folder}: lack {len(lacking)} images, the first of them {lacking[0]}; let bpfc certify "
            "come to its end, or take the --limit that it has"
        )
    return Proven(methods, proofs)


def certified(folder: Path, subject: "Subject", eps: float, limit: int | None) -> "Tensor":
    """(N,) bool: which of the images are certified, as `proven` reads it."""
    import torch

    proofs = proven(folder, subject, eps, limit).proofs
    count = min(limit or len(subject.images), len(subject.images))
    return torch.tensor([proofs[index].certified_by is not None for index in range(count)])


def _settings(option: str, header: Path, subject: "Subject", eps: float) -> dict[str, Any]:
    """What a verb said that its rows are rows of."""
    from bpfc.data import to_float
    from bpfc.files import read_json
    from bpfc.judge import first_logits
    from bpfc.resumed import FIRST, near

    if not header.exists():
        raise ValueError(f"{option} {header.parent}: holds no {header.stem} (there is no {header.name})")
    settings: dict[str, Any] = read_json(header)
    mine = {name: list(value) if isinstance(value, tuple) else value for name, value in subject.header().items()}
    # Other numbers of images and of samples are no other subject.
    same = {name: settings.get(name) for name in ("images", "eot")}
    asked = {"reading": None} | mine | {"norm": "linf", "eps": eps} | same
    other = [name for name, value in asked.items() if settings.get(name) != value]
    told = "; ".join(f"{name} was {settings.get(name)!r}, is {asked[name]!r}" for name in other)
    known, before = first_logits(subject.model, to_float(subject.images[:1].pixels)), settings.get(FIRST)
    if isinstance(before, list) and "sources_sha256" in settings:
        before = before[: len(known)]  # a transfer's sources come after the target
    if not other and not near(before, known):
        told = "its logits of the first image were others, so the code of the model is another"
    if told:
        raise ValueError(f"{option} {header.parent}: is of something else ({told})")
    return settings

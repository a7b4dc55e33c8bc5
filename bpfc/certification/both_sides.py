"""Proofs beside attacks: the true robust accuracy lies between what is certified and what is not broken."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bpfc.certification.base import ContradictionError
from bpfc.certification.engine import CertificateRow


def join(rows: Sequence[Mapping[str, Any]], certificates: Iterable[CertificateRow]) -> list[dict[str, Any]]:
    """An evaluation's rows with `certified_by` and `margin_lower` of the same images, proven for the same ε in ℓ∞.

    Args:
        rows: with index, label and broken_by.
        certificates: in any order; may be of more images.

    Raises:
        ValueError: an image has no certificate row, or another label there.
        ContradictionError: an image is certified and broken.
    """
    known = {certificate["index"]: certificate for certificate in certificates}
    joined = []
    for row in rows:
        index = row["index"]
        if index not in known:
            raise ValueError(f"image {index}: was attacked, but there is no certificate row of it; certify it too")
        proven = known[index]
        if proven["label"] != row["label"]:
            raise ValueError(
                f"image {index}: its label is {row['label']} for the attacks, {proven['label']} for the certificates; "
                "they are not of the same data"
            )
        if proven["certified_by"] is not None and row["broken_by"] is not None:
            raise ContradictionError(
                f"image {index} is certified by {proven['certified_by']} and broken by {row['broken_by']}: one of the "
                "two is wrong, if both are of one model and one ε"
            )
        joined.append(
            {**row, "certified_by": proven["certified_by"], "margin_lower": proven["margin_lower"]},
        )
    return joined

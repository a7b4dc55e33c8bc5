"""A certification in a folder: blocks of images shared out among processes, their rows on disk as they come, merged."""

import json
import shutil
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from bpfc.certification.engine import CertificateRow, Certification, certify_block, check, check_reading, parse_methods
from bpfc.data import AnyImages, in_parts, to_float
from bpfc.files import append_lines, read_json, read_jsonl, write_json, write_jsonl
from bpfc.team import Team, team

SHARDS = "shards"
"""The folder of the rows while processes are at work, with what they are rows of."""


def record(
    model: nn.Module,
    images: AnyImages,
    header: dict[str, Any],
    out: Path,
    *,
    eps: float,
    methods: str,
    batch_size: int = 256,
    crew: Team | None = None,
) -> Certification | None:
    """`certify`, with OUT/certificates.jsonl at its end; from what a kill left on, in one process or many.

    Args:
        model, eps, methods, batch_size: see `certify`.
        images: on the model's device.
        header: what else decides a row, ready for JSON.
        out: the folder.
        crew: the processes; torchrun's unless given.

    Returns:
        None in any process but the first.

    Raises:
        ValueError, ContradictionError: see `certify`; or another process has something else to certify.
    """
    crew, certifiers = crew or team(), parse_methods(methods)
    first = images[:batch_size]
    check(model, to_float(first.pixels), first.labels, eps)
    check_reading(model, to_float(images[:8].pixels), images.labels)
    settings = json.loads(json.dumps(header | {"eps": eps, "methods": methods, "images": len(images)}))
    if crew.told("settings", settings) != settings:
        raise ValueError(f"process {crew.rank} would certify something else than the first; give all the same")
    shards = out / SHARDS
    if crew.first:
        _begin(shards, settings)
        done = {row["index"] for row in _rows(shards)}
        missing = crew.told("missing", [index for index in range(len(images)) if index not in done])
    else:
        missing = crew.told("missing")
    parts = [missing[begin : begin + batch_size] for begin in range(0, len(missing), batch_size)]
    asked: deque[list[int]] = deque()

    def places() -> Iterator[Tensor]:
        for number in crew.handed_out("blocks", len(parts)):
            asked.append(parts[number])
            yield torch.tensor(parts[number], device=images.labels.device)

    for some in in_parts(images, places()):
        rows = certify_block(model, to_float(some.pixels), some.labels, asked.popleft(), certifiers, eps)
        append_lines(shards / f"{crew.rank:04d}.jsonl", [dict(row) for row in rows])
    crew.wait("certified")
    if not crew.first:
        return None
    found = sorted(_rows(shards), key=lambda row: row["index"])
    write_jsonl(out / "certificates.jsonl", [dict(row) for row in found])
    shutil.rmtree(shards)
    return Certification(eps, tuple(each.name for each in certifiers), found)


def _begin(shards: Path, settings: dict[str, Any]) -> None:
    """Clears what was left of other settings; of the same, cuts off lines that a kill cut short."""
    header = shards / "certification.json"
    if not header.exists() or read_json(header) != settings:
        shutil.rmtree(shards, ignore_errors=True)
        shards.mkdir(parents=True)
        write_json(header, settings)
    for path in shards.glob("*.jsonl"):
        content = path.read_bytes()
        path.write_bytes(content[: content.rfind(b"\n") + 1])


def _rows(shards: Path) -> list[CertificateRow]:
    return [cast(CertificateRow, row) for path in sorted(shards.glob("*.jsonl")) for row in read_jsonl(path)]

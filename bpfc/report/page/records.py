"""What the folder of a run holds, read for a page: its training, evaluations, certificates and audits."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bpfc.errors import UserError
from bpfc.files import read_json, read_jsonl, without_checksum
from bpfc.ledger import summarise
from bpfc.report.figures import Results


class NothingToReportError(UserError):
    """A folder holds nothing that a page could show."""


@dataclass(frozen=True)
class Evaluated:
    """An evaluation that stands in a folder.

    Attributes:
        name: of the folder.
        summary: as the evaluation wrote it; made of the ledger where that knows more images, or nothing else is there.
        rows: of the ledger, by index; none where only the summary was kept.
        planned: how many images were asked for.
        saved: the perturbed images that were kept, by index.
    """

    name: str
    summary: dict[str, Any]
    rows: list[Any] = field(repr=False)
    planned: int
    saved: dict[int, Path] = field(repr=False)

    @property
    def attacks(self) -> dict[str, dict[str, Any]]:
        """By name: accuracy and interval, of the summary."""
        found: dict[str, dict[str, Any]] = self.summary["attacks"]
        return found

    @property
    def images(self) -> int:
        return int(self.summary["images"])

    @property
    def eps(self) -> float:
        return float(self.summary["eps"])

    @property
    def norm(self) -> str:
        return str(self.summary.get("norm", "linf"))

    @property
    def cascade(self) -> bool:
        return bool(self.summary.get("cascade", False))


@dataclass(frozen=True)
class Record:
    """A run as its folder tells of it.

    Attributes:
        folder: as it was named.
        label: for people.
        recipe: of the training; None for a model that was handed in.
        log: a row an epoch.
        starts: the provenance of each start of the training.
        evaluations: in the order of their names.
        certifications: summaries by folder, with the rows under `rows`.
        audits: by folder.
        weights: SHA-256 by evaluation, certification or audit.
    """

    folder: Path
    label: str
    recipe: dict[str, Any] | None
    log: list[dict[str, Any]] = field(repr=False)
    starts: list[dict[str, Any]] = field(repr=False)
    evaluations: list[Evaluated]
    certifications: dict[str, dict[str, Any]] = field(repr=False)
    audits: dict[str, dict[str, Any]] = field(repr=False)

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def data(self) -> str:
        """Name of the data set, or where the images came from."""
        if self.recipe is not None:
            return str(self.recipe["data"])
        return str(self.evaluations[0].summary["data"]) if self.evaluations else "unknown"

    @property
    def weights(self) -> dict[str, str]:
        """SHA-256 of the weights that each evaluation, certification and audit speaks of."""
        found = {item.name: item.summary.get("weights_sha256") for item in self.evaluations}
        for name, content in (self.certifications | self.audits).items():
            found[name] = content.get("weights_sha256")
        return {name: digest for name, digest in found.items() if digest}


def read_run(folder: Path) -> Record:
    """What stands in the folder of a run, or of an evaluation of a model that was handed in.

    Raises:
        NothingToReportError: neither is there.
        ValueError: a file is damaged, or a ledger and its summary disagree; the message names it.
    """
    recipe = _sound(folder / "recipe.json") if (folder / "recipe.json").is_file() else None
    starts = read_json(folder / "provenance.json", list) if (folder / "provenance.json").is_file() else []
    inside = [folder, *sorted(path for path in folder.glob("*") if path.is_dir() and not path.name.startswith("."))]
    evaluations = [found for path in inside if (found := _evaluated(path)) is not None]
    certifications = {path.name: proven for path in inside if (proven := _certified(path)) is not None}
    audits = {path.name: read_json(path / "audit.json") for path in inside if (path / "audit.json").is_file()}
    if recipe is None and not evaluations:
        raise NothingToReportError(
            f"{folder}: holds neither a run nor an evaluation; name a folder that bpfc train or bpfc evaluate wrote"
        )
    label = Results(folder.resolve().parent).label(folder.resolve().name) if recipe else folder.resolve().name
    log = read_jsonl(folder / "log.jsonl")
    return Record(folder, label, recipe, log, starts, evaluations, certifications, audits)


def _evaluated(folder: Path) -> Evaluated | None:
    """The evaluation in a folder, if there is one: finished, killed, or of an earlier version."""
    ledger, header = folder / "ledger.jsonl", folder / "evaluation.json"
    content = read_json(folder / "summary.json") if (folder / "summary.json").is_file() else {}
    summary: dict[str, Any] | None = content if {"worst_case", "attacks", "clean"} <= content.keys() else None
    if not header.is_file():
        return None if summary is None else Evaluated(folder.name, summary, [], summary["images"], {})
    settings = read_json(header)
    rows = _rows(ledger)
    if rows:
        summary = _agreed(ledger, settings, rows, summary)
    if summary is None:
        return None
    saved = {int(path.stem): path for path in sorted((folder / "adversarial").glob("*.npy"))}
    return Evaluated(folder.name, summary, rows, int(settings["images"]), saved)


def _sound(path: Path) -> dict[str, Any]:
    """A JSON object without its checksum. Raises ValueError, naming the file, if it is not as it was written."""
    try:
        return without_checksum(read_json(path))
    except ValueError as error:
        told = error if str(path) in str(error) else f"{path}: {error}; put it back as it was"
        raise ValueError(told) from error


def _rows(ledger: Path) -> list[Any]:
    """The rows of a ledger by index. Raises ValueError, naming file and line, for one that is not as it was written."""
    rows = []
    for number, line in enumerate(read_jsonl(ledger), start=1):
        try:
            rows.append(without_checksum(line))
        except ValueError as error:
            raise ValueError(f"{ledger}, line {number}: {error}; put the file back as it was") from error
    return sorted(rows, key=lambda row: row["index"])


def _agreed(ledger: Path, settings: dict[str, Any], rows: list[Any], summary: dict[str, Any] | None) -> dict[str, Any]:
    """The summary, if it is that of these rows; one made of the rows, if it is of others or not there yet."""
    attacks = settings["plan"] if "plan" in settings else settings["attacks"]  # as versions before 3 called them
    try:
        made = settings | {"warnings": []} | summarise(rows, attacks)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{ledger}: holds what is no row ({error!r}); put the file back as it was") from error
    if summary is None or summary["images"] != len(rows):
        return made
    for name, share in {"clean": made["clean"], "worst_case": made["worst_case"]}.items():
        if abs(share["accuracy"] - summary[name]["accuracy"]) > 1e-9:
            raise ValueError(
                f"{ledger}: its rows give {share['accuracy']:.1%} {name}, but summary.json beside it says "
                f"{summary[name]['accuracy']:.1%}; run the evaluation again, or put the files back as they were"
            )
    return summary


def _certified(folder: Path) -> dict[str, Any] | None:
    """Summary and rows of the certification in a folder, if there is one."""
    if not (folder / "certificates.jsonl").is_file() or not (folder / "summary.json").is_file():
        return None
    summary: dict[str, Any] = read_json(folder / "summary.json")
    return summary | {"rows": read_jsonl(folder / "certificates.jsonl")}

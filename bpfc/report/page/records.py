"""What the folder of a run holds, read for a page: its training, evaluations, certificates and audits."""

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from bpfc.errors import UserError
from bpfc.evaluation.plan import SHOWN_NORMS
from bpfc.files import read_json, read_jsonl
from bpfc.ledger import columns, summarise
from bpfc.methods.classes import STANDINGS
from bpfc.report.figures import Results
from bpfc.training.run import Run
from bpfc.training.run_data import class_names

WRITTEN = "a folder that bpfc train, evaluate, certify or audit wrote"


class NothingToReportError(UserError):
    """A folder holds nothing that a page could show."""


def radius(content: dict[str, Any]) -> str:
    """Norm and ε of an evaluation or certification, for people."""
    return f"{SHOWN_NORMS[content.get('norm', 'linf')]} ε {content['eps']:.4g}"


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
    def radius(self) -> str:
        return radius(self.summary)

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
        certifications: summaries by folder, with the rows under `rows`, if they were kept.
        audits: by folder.
        class_names: of data of somebody's own.
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
    class_names: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def number(self) -> int | None:
        """The class of its method (bpfc.methods.classes); None for a model that was handed in."""
        standing = STANDINGS.get(self.recipe["method"]["name"]) if self.recipe is not None else None
        return None if standing is None else standing.number

    @property
    def titled(self) -> str:
        """The label, with the class of its method."""
        return self.label if self.number is None else f"{self.label}, class {self.number}"

    @property
    def data(self) -> str:
        """Name of the data set, or where the images came from."""
        if self.recipe is not None:
            return str(self.recipe["data"])
        return next((str(content["data"]) for _, content in self.contents if "data" in content), "unknown")

    @property
    def contents(self) -> list[tuple[str, dict[str, Any]]]:
        """What each evaluation, certification and audit says, after its name."""
        proven_and_audited = [*self.certifications.items(), *self.audits.items()]
        return [*((item.name, item.summary) for item in self.evaluations), *proven_and_audited]

    def other_radii(self, shown: str) -> list[str]:
        """At which radii it was attacked or certified besides the one that is shown."""
        every = [*(item.summary for item in self.evaluations), *self.certifications.values()]
        return [each for each in dict.fromkeys(map(radius, every)) if each != shown]

    @property
    def weights(self) -> dict[str, str]:
        """SHA-256 of the weights that each evaluation, certification and audit speaks of."""
        return {name: digest for name, content in self.contents if (digest := content.get("weights_sha256"))}


def read_run(folder: Path) -> Record:
    """What stands in the folder of a run, or of an evaluation, certification or audit of a model that was handed in.

    Raises:
        NothingToReportError: none of them is there.
        ValueError: a file is damaged, or a ledger and its summary disagree; the message names it.
    """
    if not folder.is_dir():
        fault = "is no folder" if folder.exists() else "does not exist"
        raise NothingToReportError(f"{folder}: {fault}; name {WRITTEN}")
    recipe = _object(folder / "recipe.json", "data", "network", "method", "epochs")
    starts = read_json(folder / "provenance.json", list) if (folder / "provenance.json").is_file() else []
    _have(folder / "provenance.json", starts, "command", "commit", "time", "versions", "hardware")
    inside = [folder, *sorted(path for path in folder.glob("*") if path.is_dir() and not path.name.startswith("."))]
    evaluations = [found for path in inside if (found := _evaluated(path)) is not None]
    certifications = {path.name: proven for path in inside if (proven := _certified(path)) is not None}
    audits = {
        path.name: audited
        for path in inside
        if (audited := _object(path / "audit.json", "verdict", "sentence", "findings")) is not None
    }
    if recipe is None and not (evaluations or certifications or audits):
        raise NothingToReportError(
            f"{folder}: holds neither a run nor an evaluation, certificates or an audit; name {WRITTEN}"
        )
    label = Results(folder.resolve().parent).label(folder.resolve().name) if recipe else folder.resolve().name
    log = _lines(folder / "log.jsonl", "epoch")
    for number, row in enumerate(log, start=1):
        if not all(isinstance(value, int | float | None) for value in row.values()):
            raise ValueError(f"{folder / 'log.jsonl'}: line {number} holds what is no number; put the file back")
    names = class_names(Run(folder))
    return Record(folder, label, recipe, log, starts, evaluations, certifications, audits, names)


def _evaluated(folder: Path) -> Evaluated | None:
    """The evaluation in a folder, if there is one: finished, killed, or of an earlier version."""
    ledger, header = folder / "ledger.jsonl", folder / "evaluation.json"
    content = _object(folder / "summary.json") or {}
    summary: dict[str, Any] | None = content if {"worst_case", "attacks", "clean"} <= content.keys() else None
    if not header.is_file():
        return None if summary is None else Evaluated(folder.name, summary, [], summary["images"], {})
    settings = _object(header, "images") or {}
    rows = sorted(_lines(ledger, "index", "label", "prediction", "broken_by", "attacks"), key=lambda row: row["index"])
    if doubled := [row["index"] for row, after in pairwise(rows) if row["index"] == after["index"]]:
        raise ValueError(f"{ledger}: a second row of image {doubled[0]}; put the file back as it was")
    if rows:
        summary = _agreed(ledger, settings, rows, summary)
    if summary is None:
        return None
    saved = {int(path.stem): path for path in sorted((folder / "adversarial").glob("*.npy"))}
    return Evaluated(folder.name, summary, rows, int(settings["images"]), saved)


def _object(path: Path, *names: str) -> dict[str, Any] | None:
    """What a JSON file holds, if it is there. Raises ValueError, naming the file, if it is damaged or lacks a name."""
    if not path.is_file():
        return None
    content: dict[str, Any] = read_json(path)
    _have(path, [content], *names)
    return content


def _lines(path: Path, *names: str) -> list[dict[str, Any]]:
    """The rows of a file, likewise; none if it is not there."""
    rows = read_jsonl(path)
    _have(path, rows, *names)
    return rows


def _have(path: Path, contents: list[Any], *names: str) -> None:
    """Raises ValueError, naming the file, unless each is an object with these entries."""
    for number, content in enumerate(contents, start=1):
        if not isinstance(content, dict) or not set(names) <= content.keys():
            raise ValueError(f"{path}: entry {number} is not as it was written ({', '.join(names)}); put the file back")


def _agreed(ledger: Path, settings: dict[str, Any], rows: list[Any], summary: dict[str, Any] | None) -> dict[str, Any]:
    """The summary, if it is that of these rows; one made of the rows, if it is of others or not there yet."""
    try:
        made = settings | {"warnings": []} | summarise(rows, columns(settings))
    except (KeyError, TypeError, ValueError) as error:
        fault = str(error) if type(error) is ValueError else f"holds what is no row ({error!r})"
        raise ValueError(f"{ledger}: {fault}; put the file back as it was") from error
    if summary is not None and summary["images"] > len(rows):
        raise ValueError(
            f"{ledger}: holds {len(rows)} rows, but summary.json beside it is of {summary['images']}; run the "
            "evaluation again, or put the files back as they were"
        )
    if summary is None or summary["images"] < len(rows):
        return made
    told = {"clean": summary["clean"], "worst_case": summary["worst_case"], **summary["attacks"]}
    for name, share in {"clean": made["clean"], "worst_case": made["worst_case"], **made["attacks"]}.items():
        if name not in told or abs(share["accuracy"] - told[name]["accuracy"]) > 1e-9:
            says = f"{told[name]['accuracy']:.1%}" if name in told else "nothing of it"
            raise ValueError(
                f"{ledger}: its rows give {share['accuracy']:.1%} {name}, but summary.json beside it says {says}; "
                "run the evaluation again, or put the files back as they were"
            )
    return summary


def _certified(folder: Path) -> dict[str, Any] | None:
    """Summary and rows of the certification in a folder, if there is one; no rows where only the summary was kept."""
    summary = _object(folder / "summary.json")
    if summary is None:
        return None
    if not (folder / "certificates.jsonl").is_file():
        alone = {"images", "eps", "clean", "certified"} <= summary.keys() and "attacks" not in summary
        return summary | {"rows": []} if alone else None
    _have(folder / "summary.json", [summary], "images", "eps", "clean", "certified")
    rows = _lines(folder / "certificates.jsonl", "index", "label", "certified_by", "margin_lower")
    rows = [row for row in rows if row["index"] < summary["images"]]  # what goes on to more images may be half-way
    proven = sum(row["certified_by"] is not None for row in rows)
    if len(rows) != summary["images"] or proven != round(summary["certified"]["accuracy"] * len(rows)):
        raise ValueError(
            f"{folder / 'certificates.jsonl'}: its {len(rows)} rows, {proven} of them certified, are not those of "
            "summary.json beside it; certify again, or put the files back as they were"
        )
    return summary | {"rows": rows}

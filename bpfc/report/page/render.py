"""The page: what stands in the folders of runs, put into the template."""

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import torch
from markupsafe import Markup

from bpfc.data import AnyImages, to_float
from bpfc.report.figures import DATA
from bpfc.report.page import planes
from bpfc.report.page.apart import apart, check_images
from bpfc.report.page.audits import drawings
from bpfc.report.page.curves import Figure, empty_bounds, over_eps, over_restarts, over_steps, training, training_legend
from bpfc.report.page.gallery import class_name, gallery, images_of
from bpfc.report.page.gaps import gaps
from bpfc.report.page.glance import glances
from bpfc.report.page.glossary import glossary
from bpfc.report.page.names import told_apart
from bpfc.report.page.outcomes import accuracy_dots, left_out, outcome_bars, outcomes
from bpfc.report.page.proofs import certificate_tables
from bpfc.report.page.records import Record, read_run
from bpfc.report.page.seeds import seed_tables
from bpfc.report.page.svg import legend
from bpfc.report.page.tables import CLASS, attack_tables, cascade_tables, trained

PICTURED = 5
"""Images whose bit planes are shown."""
AT_FIRST = 24
"""Images of the gallery; the rest is behind a word, so that what comes after is not a long way off on a phone."""


def render_page(folders: Sequence[Path], out: Path, data_dir: Path | None = None) -> str:
    """One page about these runs, as HTML that needs nothing else. Nothing is attacked or trained.

    Args:
        folders: that bpfc train or bpfc evaluate wrote.
        out: the file that it is meant for; the page tells the command that makes it again.
        data_dir: where the data files are; without them the page has no pictures.

    Raises:
        NothingToReportError: a folder holds nothing to show.
        ValueError: a file is damaged, or a ledger and its summary disagree.
        UserError: data of one name are of different images.
        ContradictionError: an image is certified and broken.
    """
    _check_once(folders)
    records = told_apart([record for folder in folders for record in apart(read_run(folder))])
    check_images(records)
    images = {record.data: images_of(record, data_dir) for record in records}
    glimpses = glances(records)
    bars = outcomes(records)
    data = ["--data-dir", str(data_dir)] if data_dir is not None else []
    content: dict[str, Any] = {
        "title": _title(records),
        "records": records,
        "about": "; ".join(item.about for item in glimpses),
        "attacked": any(record.evaluations for record in records),
        "class_told": CLASS,
        "dots": [(item, accuracy_dots(item.rows, f"glance{n}")) for n, item in enumerate(glimpses)],
        "seeds": seed_tables(records),
        "tables": attack_tables(records),
        "cascades": cascade_tables(records),
        "proven": certificate_tables(records),
        "bars": outcome_bars(bars) if bars else None,
        "bars_leave_out": left_out(bars),
        "bars_by": [outcome for outcome in bars if outcome.by],
        "over": [*over_eps(records), *over_steps(records), *over_restarts(records)],
        "over_note": empty_bounds(records),
        "glossary": glossary(records),
        "audited": [(record, _audits(record, n)) for n, record in enumerate(records) if record.audits],
        "trained": [(record, trained(record), training(record, str(n))) for n, record in enumerate(records)],
        "training_legend": training_legend(records),
        "planes": _planes(records, images),
        "at_first": AT_FIRST,
        "gallery": gallery(records, images, data_dir),
        "gaps": gaps(records, images),
        "provenance": [(record, _provenance(record)) for record in records],
        "command": shlex.join(["bpfc", "report", *map(str, folders), "--out", str(out), *data]),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "style": Markup(_template_file("style.css")),
        "script": Markup(_template_file("filter.js")),
    }
    return _template().render(content)


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template_file),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.1f}"
    return environment.get_template("page.html")


def _template_file(name: str) -> str:
    return (files("bpfc.report.page") / "templates" / name).read_text(encoding="utf-8")


def _title(records: Sequence[Record]) -> str:
    data = ", ".join(dict.fromkeys(DATA.get(record.data, record.data) for record in records))
    what = records[0].label if len(records) == 1 else f"{len(records)} networks"
    under = " under attack" if any(record.evaluations for record in records) else ""
    return f"{data}: {what}{under}"


def _check_once(folders: Sequence[Path]) -> None:
    """Raises ValueError where two of the folders are the same."""
    resolved = [folder.resolve() for folder in folders]
    for folder in resolved:
        if resolved.count(folder) > 1:
            raise ValueError(f"{folder.name}: is named twice; name each run once")


def _planes(records: Sequence[Record], images: dict[str, AnyImages | None]) -> list[dict[str, Any]]:
    """For each data set and k of a network here: the quantiser, and what it keeps of the first test images."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for record in records:
        method, test = (record.recipe or {"method": {}})["method"], images[record.data]
        k, bits = method.get("k"), method.get("bits", 8)
        if k is None or test is None or (record.data, k) in found:
            continue
        first = {int(label): place for place, label in reversed(list(enumerate(test.labels[:200].tolist())))}
        chosen = sorted(first.values())[:PICTURED]
        some = to_float(test[torch.tensor(chosen)].pixels)
        labels = [class_name(record.data, int(test.labels[place]), record.class_names) for place in chosen]
        found[record.data, k] = {
            "k": k,
            "bits": bits,
            "data": DATA.get(record.data, record.data),
            "staircase": planes.staircase(k, bits),
            "kept": planes.kept(some, k, bits),
            "rows": planes.rows(some, labels, k, bits),
        }
    return list(found.values())


def _audits(record: Record, number: int) -> list[tuple[str, dict[str, Any], list[Figure]]]:
    """Each audit of a run with its figures, which those of schema 1 have none of."""
    found = []
    for place, (name, content) in enumerate(record.audits.items()):
        every = drawings(content["figures"], f"audit{number}-{place}") if "figures" in content else ()
        found.append(
            (
                name,
                content,
                [Figure(item.drawn + (legend(item.names) if item.names else Markup()), item.told) for item in every],
            )
        )
    return found


def _provenance(record: Record) -> list[dict[str, Any]]:
    """What made each thing: training, evaluations, certificates, audits."""
    every: list[tuple[str, Any]] = [
        (f"training, start {number + 1}", start) for number, start in enumerate(record.starts)
    ]
    every += [(name, content.get("provenance")) for name, content in record.contents]
    return [{"what": what, **made} for what, made in every if made]

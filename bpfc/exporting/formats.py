"""A run as others list it: a Hugging Face folder with its model card, and an entry for RobustBench."""

import shlex
from collections.abc import Mapping
from math import isclose
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from torch import nn

from bpfc.errors import UserError
from bpfc.evaluation.names import STANDARD
from bpfc.files import make_writable_folder, read_json, write_file, write_plain_json
from bpfc.models import is_code, kept_as
from bpfc.models.cost import parameters
from bpfc.models.saved import write_config
from bpfc.report.figures import with_interval
from bpfc.report.page.records import Evaluated, Record
from bpfc.training.run import Run

LIBRARY = "bpfc"
"""As config.json names it: by that an export knows a folder of an earlier one."""
ROBUSTBENCH = ("mnist", "cifar-10")
"""Data sets known by name whose names differ there by a hyphen only."""


def export_hub(record: Record, shape: Mapping[str, int], class_names: tuple[str, ...], folder: Path) -> list[str]:
    """A folder that huggingface-cli upload takes as it is, and that is a run still: bpfc evaluate takes it too.

    model.safetensors, config.json (see bpfc.models.saved), README.md, the model card with the table of the evaluations,
    the audit's verdict and the provenance; and the run's recipe, log and provenance.

    Args:
        record: of the run.
        shape: channels, classes, size.
        class_names: empty if they are not known.
        folder: made if need be; an export that is there is replaced.

    Returns:
        What is missing in the card, and how to get it.

    Raises:
        UserError: the folder holds files of the same names that no export made.
    """
    assert record.recipe is not None
    _check_free(folder, record.folder)
    make_writable_folder(folder)
    recipe = record.recipe
    network = kept_as(recipe["network"])
    config = {"network": network, **shape, "class_names": list(class_names)}
    write_config(folder, config | {"method": recipe["method"]["name"], "eps": recipe["eps"], "library": LIBRARY})
    Run(record.folder).copy(folder)
    tables = [_table(item) for item in record.evaluations]
    templates = Environment(
        loader=PackageLoader("bpfc.exporting"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    card = templates.get_template("card.md").render(
        run=record.name,
        recipe=recipe,
        config=config,
        trusted=network if is_code(network) else None,
        tables=tables,
        audits=record.audits,
        starts=record.starts,
    )
    write_file(folder / "README.md", (card.strip() + "\n").encode())
    lacking, word = [], shlex.quote(str(record.folder))
    if not tables:
        lacking.append(f"no evaluation: bpfc evaluate {word} --attacks standard")
    if not record.audits:
        lacking.append(f"no audit: bpfc audit {word}")
    return lacking


def _check_free(folder: Path, run: Path) -> None:
    """Raises where an export would write over what no export made; a run's own files it leaves as they are."""
    names = ["README.md", "config.json"]
    if folder.resolve() != run.resolve():
        names += ["recipe.json", "model.safetensors"]
    taken = [name for name in names if (folder / name).exists()]
    config = folder / "config.json"
    if taken and not (config.is_file() and read_json(config).get("library") == LIBRARY):
        raise UserError(f"{folder}: holds {taken[0]}, which no export wrote; choose another --out")


def _table(item: Evaluated) -> dict[str, Any]:
    rows = {"clean": item.summary["clean"], **item.attacks, "worst case": item.summary["worst_case"]}
    return {
        "images": item.images,
        "eps": item.eps,
        "norm": {"linf": "ℓ∞", "l2": "ℓ2"}[item.norm],
        "cascade": item.cascade,
        "rows": {name: with_interval(entry) for name, entry in rows.items()},
        "commit": item.summary.get("provenance", {}).get("commit", "unknown"),
    }


def export_robustbench(record: Record, model: nn.Module, folder: Path, names: Mapping[str, str]) -> Path:
    """The entry NAME.json with RobustBench's keys, and NAME.pt, the state dict.

    Args:
        record: of the run, with an evaluation by AutoAttack's standard version, in ℓ∞ at the recipe's ε.
        model: its network.
        folder: made if need be.
        names: what else the entry says: name, authors, link, venue.

    Returns:
        The path of the JSON.

    Raises:
        UserError: AutoAttack has not been run, or only in part.
    """
    assert record.recipe is not None
    eps, parts = float(record.recipe["eps"]), STANDARD.split(",")
    done = [item for item in record.evaluations if item.norm == "linf" and isclose(item.eps, eps, rel_tol=1e-6)]
    done = [item for item in done if set(parts) <= item.attacks.keys() and _worst(item, parts) is not None]
    if not done:
        word, out = (shlex.quote(str(path)) for path in (record.folder, record.folder / "evaluation-standard"))
        raise UserError(
            f"{record.folder}: has no evaluation by AutoAttack in ℓ∞ at ε {_fraction(eps)}, which RobustBench lists; "
            f"bpfc evaluate {word} --attacks standard --out {out}"
        )
    best = max(done, key=lambda item: item.images)
    worst = _worst(best, parts)
    assert worst is not None
    data = record.recipe["data"]
    entry = {
        "link": names["link"],
        "name": names["name"],
        "authors": names["authors"],
        "additional_data": False,
        "number_forward_passes": 1,
        "dataset": data.replace("-", "") if data in ROBUSTBENCH else Path(data).name,
        "venue": names["venue"],
        "architecture": kept_as(record.recipe["network"]),
        "eps": _fraction(best.eps),
        "clean_acc": _percent(best.summary["clean"]),
        "reported": None,
        "autoattack_acc": _percent(worst),
        "external": None,
        "unreliable": False,
        "footnote": f"{best.images} images; {parameters(model):,} parameters; evaluated by bpfc, commit "
        f"{best.summary.get('provenance', {}).get('commit', 'unknown')}",
    }
    make_writable_folder(folder)
    torch.save(model.state_dict(), folder / f"{record.name}.pt")
    write_plain_json(folder / f"{record.name}.json", entry)
    return folder / f"{record.name}.json"


def _worst(item: Evaluated, parts: list[str]) -> dict[str, Any] | None:
    """Accuracy under the worst of the parts; None where the other attacks cannot be told from them any more."""
    if item.cascade:  # each figure counts what fell before, and any part may have run last
        names = list(item.attacks)
        if any(name not in parts for name in names[: max(map(names.index, parts))]):
            return None
        return min((item.attacks[part] for part in parts), key=lambda entry: entry["accuracy"])
    if item.rows:
        standing = sum(
            row["label"] == row["prediction"]
            and not any(row["attacks"][part]["broken"] for part in parts if part in row["attacks"])  # none if certified
            for row in item.rows
        )
        return {"accuracy": standing / len(item.rows)}
    worst: dict[str, Any] = item.summary["worst_case"]
    return worst if set(parts) == item.attacks.keys() else None


def _percent(entry: Mapping[str, Any]) -> str:
    return f"{100 * entry['accuracy']:.2f}"


def _fraction(eps: float) -> str:
    """As RobustBench writes it: 8/255, or a decimal."""
    return f"{round(eps * 255)}/255" if abs(eps * 255 - round(eps * 255)) < 1e-6 else f"{eps:.4g}"

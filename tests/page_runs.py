"""A run for the tests of the page about runs, what may be done to it, and certificates beside it."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import small_network

from bpfc.cli import evaluate
from bpfc.data import DataSet
from bpfc.files import read_jsonl, without_checksum, write_json, write_jsonl
from bpfc.ledger import wilson_interval
from bpfc.methods import BPFC
from bpfc.models import NETWORKS
from bpfc.report.page import gallery as gallery_module
from bpfc.training.recipes import RECIPES
from bpfc.training.start import train

ROOT = Path(__file__).parent.parent
LIMIT = 12


@pytest.fixture(scope="module", autouse=True)
def _quick(digits: DataSet) -> Iterator[None]:
    """A small network under the name of a real one, and digits that are read once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bpfc.data.load", lambda *_: digits)
        patch.setattr(gallery_module, "load", lambda *_: digits)
        patch.setitem(NETWORKS, "m-lenet", lambda *_: small_network())
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs, attacked on twelve images, with pictures."""
    folder = tmp_path_factory.mktemp("page") / "digits"
    recipe = replace(
        RECIPES["mnist-5k-bpfc"][1],
        epochs=2,
        limit=1200,
        validation=20,
        validation_attacked=20,
        ifgsm_steps=2,
        batch_size=25,
        lr=0.05,
        clip_norm=1.0,
        method=BPFC(k=7, weight=1.0),
        select="last",
    )
    train(recipe, folder, device="cpu", precision="fp32")
    attacks = "fgsm,pgd-5,pgd-3x2,deepfool"
    options = evaluate.Evaluate(
        folder, attacks=attacks, eps=0.1, step_size=0.025, limit=LIMIT, device="cpu", precision="fp32"
    )
    evaluate.run(replace(options, save_images=True))
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """The same, to do harm to."""
    return Path(shutil.copytree(made, tmp_path / "digits"))


def rows_of(run: Path) -> list[dict[str, Any]]:
    return read_jsonl(run / "evaluation" / "ledger.jsonl")


def change(path: Path, **changes: Any) -> None:
    write_json(path, without_checksum(json.loads(path.read_text())) | changes)


def certify(run: Path, proves: Callable[[dict[str, Any]], bool]) -> None:
    """Puts certificates beside the evaluation, as bpfc certify writes them."""
    summary = json.loads((run / "evaluation" / "summary.json").read_text())
    (run / "certification").mkdir()
    rows = [
        {
            **{name: row[name] for name in ("index", "label", "prediction")},
            "certified_by": "interval" if proves(row) else None,
            "margin_lower": 0.1 if proves(row) else -1.0,
        }
        for row in rows_of(run)
    ]
    write_jsonl(run / "certification" / "certificates.jsonl", rows)
    kept = {name: summary[name] for name in ("images", "clean", "eps", "weights_sha256", "data", "provenance")}
    proven = sum(row["certified_by"] is not None for row in rows)
    kept["certified"] = {"accuracy": proven / len(rows), "interval_95": wilson_interval(proven, len(rows))}
    kept["methods"] = {"interval": kept["certified"]}
    kept["curve"] = {"eps": [0.001, 0.1], "certified": [0.5, 0.25]}
    write_json(run / "certification" / "summary.json", kept | {"radius": {"median": 0.00047, "largest": 0.0012}})

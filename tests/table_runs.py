"""What tests of the paper's tables share: small networks, two epochs, a dozen images."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import small_network

from bpfc.cli import reproduce
from bpfc.cli.reproduce import Reproduce
from bpfc.data import DataSet
from bpfc.models import NETWORKS
from bpfc.report.budgets import BUDGETS, Budget
from bpfc.report.experiments import source_trained_by, trained_by
from bpfc.report.reproduction import compared
from bpfc.report.shelf import shelf
from bpfc.report.task import Task
from bpfc.training.recipe import Recipe

TINY = Budget("a test's schedule", 0.04, 100, 10, 12, 3, 2)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, digits: DataSet) -> None:
    """Small networks under the names of real ones, two epochs, a dozen images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(BUDGETS, "quick", TINY)
    for name in ("m-lenet", "net-a"):
        monkeypatch.setitem(NETWORKS, name, lambda *_: small_network())
    for maker in (trained_by, source_trained_by):

        def short(*words: object, maker: Callable[..., Recipe] = maker) -> Recipe:
            return replace(maker(*words), ifgsm_steps=2, validation=20)

        monkeypatch.setattr(f"bpfc.report.task.{maker.__name__}", short)
    monkeypatch.setattr("bpfc.data.load", lambda *_: digits)  # read once for all tests
    monkeypatch.setattr("bpfc.machine._seconds", lambda _: 1.0)  # `auto` is float32, without timing it


def options(table: str = "table2", **changes: object) -> Reproduce:
    asked = {"data": ("mnist-5k",), "methods": ("normal", "bpfc"), "device": "cpu"} | changes
    return Reproduce(table, **asked)  # type: ignore[arg-type]


def run(capsys: pytest.CaptureFixture[str], table: str = "table2", **changes: object) -> str:
    """What the verb prints."""
    reproduce.main(options(table, **changes))
    said = capsys.readouterr()
    return said.err + said.out


def figures(folder: Path = Path("runs")) -> list[list[str]]:
    """The rows of Table 2, normal training's and BPFC's."""
    task = Task("table2", "mnist-5k", TINY, None, 1, ("normal", "bpfc"))
    return compared(task, shelf([folder]))[1]

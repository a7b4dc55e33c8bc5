"""What stands in results/, and in the paper, ready to be shown."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from bpfc.files import SUMMARY
from bpfc.methods import IBP
from bpfc.methods.classes import STANDINGS
from bpfc.training.recipes import PAPER
from bpfc.training.run import Run

METHODS = {
    "normal": "normal",
    "bpfc": "BPFC",
    "bpfc-simple-quantisation": "BPFC, A1 (simple quantisation)",
    "bpfc-uniform-noise": "BPFC, A2 (uniform noise)",
    "bpfc-l1": "BPFC, A3 (ℓ1)",
    "mixup": "Mixup",
    "fgsm-at": "FGSM-AT",
    "rss-at": "RSS-AT",
    "pgd-at": "PGD-AT",
}
"""Methods as people call them, by their names in recipes, in the order of the tables."""
OWN = {
    "ibp": "IBP",
    "bpfc-ibp": "BPFC with IBP",
    "box-consistency": "box consistency",
    "margin": "margin penalty",
}
"""Methods beyond the paper as people call them, by their names in recipes."""
DATA = {"mnist-5k": "mnist-5k", "mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "cifar-10": "CIFAR-10"}
"""Data sets as people call them."""
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16"}


def percent(share: float | None) -> str:
    """A share as a percentage with one decimal, without the sign."""
    return "not run" if share is None else f"{100 * share:.1f}"


def signed(points: float) -> str:
    """A difference in points with its sign and one decimal."""
    return "0.0" if round(points, 1) == 0 else f"{points:+.1f}".replace("-", "−")


def without(entry: dict[str, Any] | None) -> str:
    """An accuracy of a summary, in %."""
    return percent(entry["accuracy"] if entry else None)


def with_interval(entry: dict[str, Any] | None) -> str:
    """An accuracy of a summary with its 95 % interval, in %."""
    if entry is None:
        return percent(None)
    low, high = entry["interval_95"]
    return f"{without(entry)} ({percent(low)} … {percent(high)})"


def paper(data: str, method: str, what: str) -> str:
    """A figure of the paper's tables in %, or "no row".

    Args:
        data: a data set by its name.
        method: by its name in recipes.
        what: clean, pgd-1000 (Tables 1 and 2); fgsm, ifgsm-7, pgd-7, pgd-20 (Table 1); pgd-500, pgd-500x100 (its
            footnote); from-net-a, from-m-lenet, from-vgg-19, from-resnet-18 (Table 3).
    """
    clean_and_pgd = dict(zip(("clean", "pgd-1000"), PAPER.get(data, {}).get(method, ()), strict=False))
    row = _paper().get(data, {}).get(method, {}) | clean_and_pgd
    if what not in row:
        return "no row"
    return f"{row[what]:.2f}" if what.startswith("from-") else f"{row[what]:.1f}"


@cache
def _paper() -> dict[str, dict[str, dict[str, float]]]:
    found: dict[str, dict[str, dict[str, float]]] = json.loads((files("bpfc.report") / "paper.json").read_text())
    return found


@dataclass(frozen=True)
class Results:
    """A folder of runs, as the programs wrote them. Each is named by its folder."""

    folder: Path

    def summary(self, name: str) -> dict[str, Any]:
        """The summary in a folder below, such as mnist-bpfc/evaluation-10000.

        Raises:
            ValueError: there is none.
        """
        path = self.folder / name / SUMMARY
        if not path.is_file():
            raise ValueError(f"{path}: no such file; the tables are made from the summaries of real runs")
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def has(self, name: str) -> bool:
        """Whether there is a summary in the folder of that name."""
        return (self.folder / name / SUMMARY).is_file()

    def recipe(self, run: str) -> dict[str, Any]:
        """The effective recipe of a training."""
        return Run(self.folder / run).settings()

    def log(self, run: str) -> list[dict[str, Any]]:
        """A row an epoch."""
        return Run(self.folder / run).log

    def method(self, run: str) -> str:
        """The method of a training, by its name among the paper's rows."""
        settings = self.recipe(run)["method"]
        if settings["name"] == "bpfc":
            if settings["distance"] == "l1":
                return "bpfc-l1"
            if settings["coarse"] == "uniform-noise":
                return "bpfc-uniform-noise"
            if not settings["noise"]:
                return "bpfc-simple-quantisation"
        return str(settings["name"])

    def class_of(self, run: str) -> str:
        """Which class a training's method is of (bpfc.methods.classes)."""
        return f"{STANDINGS[self.recipe(run)['method']['name']].number}"

    def label(self, run: str) -> str:
        """A training as a table's first column names it."""
        method, settings = self.method(run), self.recipe(run)["method"]
        symbol, usual = {"bpfc-l1": ("λ", None), "ibp": ("κ", IBP.weight)}.get(method, ("", None))
        weight = f", {symbol} {settings['weight']:g}" if symbol and settings["weight"] != usual else ""
        network = self.recipe(run)["network"]
        shown = ", Net-A" if network == "net-a" else ", BatchNorm" if "batchnorm" in network else ""
        curve = ", tone curve" if "@" in network else ""
        return {**METHODS, **OWN}.get(method, method) + weight + shown + curve

"""The tables of README and docs, made of results/ and the paper's figures; nothing in them is typed by hand.

    python -m bpfc.report.tables README.md docs/*.md

writes every table anew that stands between markers in these files (bpfc/report/markdown.py), and the pictures of
PICTURES that they show. A table has one denominator: the same images in every row, said below it.
"""

import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import tyro

from bpfc.files import write_file
from bpfc.report.accuracy import accuracies, black_box, demo, headline
from bpfc.report.audits import audit, confusion
from bpfc.report.both_sides import beyond, both_sides, reach
from bpfc.report.classes import classes
from bpfc.report.figures import Results
from bpfc.report.goals import GOALS, goals
from bpfc.report.logs import benchmark, fast, flat_pixels, overfitting
from bpfc.report.markdown import fill
from bpfc.report.own import own
from bpfc.report.reproduction import reproduced
from bpfc.report.scale import imagenet, scale
from bpfc.report.short import averaging, curves, pace, short, short_picture, weights
from bpfc.report.stability import paper_recipes, stability
from bpfc.report.suites import cascade, costs, fast_on_all, suites
from bpfc.report.torture import torture
from bpfc.report.trade_off import RUNS, trade_off
from bpfc.report.trade_off_picture import picture
from bpfc.report.tried import tried

_ABLATIONS = ("bpfc-simple-quantisation", "bpfc-uniform-noise", "bpfc-l1")
_GREY = ("bpfc", "normal", "mixup", "fgsm-at")
_SHORT = ("bpfc-4-epochs", "bpfc-simple-quantisation-4-epochs", "bpfc-uniform-noise-4-epochs", "fgsm-at-6-epochs")
_SUITES = ("fashion-mnist-bpfc", "fashion-mnist-normal")
_WATCHED = (
    *("fashion-mnist-fgsm-at", "fashion-mnist-rss-at", "mnist-fgsm-at", "mnist-bpfc", "mnist-5k-fgsm-at"),
    *("cifar-10-fgsm-at-fast", "cifar-10-rss-at-fast"),
)
_WHITE_BOX = ("fgsm", "ifgsm-40", "pgd-100")
_CIFAR_10 = ("fgsm", "ifgsm-7", "pgd-7-last", "pgd-20-last", "pgd-100")
_PGD_1000 = ("pgd-1000", "pgd-1000-last")
_BEST = {
    data: ("evaluation-fast", tuple(f"{run}{seed}" for seed in ("", "-seed1", "-seed2")))
    for data, run in (
        ("fashion-mnist", "fashion-mnist-ibp-curve-20-epochs"),
        ("mnist", "mnist-ibp-batchnorm-curve"),
    )
}
"""By data set, by what the best recipe was attacked, and its trainings."""
OURS: dict[str, list[tuple[str, tuple[str, ...]]]] = {
    "fashion-mnist": [
        _BEST["fashion-mnist"],
        ("evaluation-fast", ("fashion-mnist-ibp-curve-weight-0.15-40-epochs",)),
    ],
    "mnist": [_BEST["mnist"]],
    "cifar-10": [("evaluation-fast", ("cifar-10-bpfc",))],
}
"""What stands beside the goals."""
_BENCHMARKS = (
    "methods",
    "attacks",
    "attacks-100",
    "training",
    "training-epyc",
    "training-amx",
    "pgd",
    "pgd-epyc",
    "pgd-amx",
    "bounds",
    "bounds-start",
    "bounds-idle",
    "page",
    "first-command",
    "make-test",
)


def _accuracies(
    data: str, evaluation: str, runs: Sequence[str], attacks: Sequence[str], against: str | None = None
) -> Callable[[Results], str]:
    names = [f"{data}-{run}/{evaluation}" for run in runs]
    return partial(accuracies, evaluations=names, attacks=attacks, against=against)


def _grey_black_box(data: str) -> Callable[[Results], str]:
    sources = [(f"{data}-net-a", "net-a"), (f"{data}-normal", "m-lenet")]
    return partial(black_box, data=data, sources=sources, white_box="evaluation-10000", attacks=("fgsm", "pgd-100"))


TABLES: dict[str, Callable[[Results], str]] = {
    "headline": headline,
    "demo": demo,
    "stability": stability,
    "paper-recipes": paper_recipes,
    "torture": torture,
    "cifar-10-table-1": partial(reproduced, name="table1", data="cifar-10", seeds=3, images=1_000, short=True),
    "cifar-10-table-1-fast": partial(reproduced, name="table1", data="cifar-10", seeds=3, budget="fast"),
    "cifar-10-l1-restarts": _accuracies(
        "cifar-10", "evaluation-restarts", ("bpfc-l1-fast",), ("pgd-100", "pgd-100x10")
    ),
    "cifar-10-white-box": _accuracies("cifar-10", "evaluation-10000", ("bpfc",), _CIFAR_10, "clean"),
    "fashion-mnist-table-2": partial(reproduced, name="table2", data="fashion-mnist", seeds=3),
    "mnist-table-2": partial(reproduced, name="table2", data="mnist", seeds=3),
    "fashion-mnist-white-box": _accuracies(
        "fashion-mnist", "evaluation-10000", (*_GREY, "rss-at", "pgd-at-6-epochs", *_ABLATIONS), _WHITE_BOX, "clean"
    ),
    "fashion-mnist-pgd-1000": _accuracies("fashion-mnist", "evaluation-pgd-1000", _GREY, _PGD_1000, "pgd-1000"),
    "fashion-mnist-pgd-1000-first-1000": _accuracies(
        "fashion-mnist", "evaluation-pgd-1000", ("rss-at", "pgd-at-6-epochs", *_ABLATIONS), _PGD_1000[:1], "pgd-1000"
    ),
    "fashion-mnist-short": _accuracies("fashion-mnist", "evaluation-1000", _SHORT, _WHITE_BOX),
    "fashion-mnist-l1-stronger": _accuracies(
        "fashion-mnist", "evaluation-stronger", ("bpfc-l1",), ("mt-pgd-20", "pgd-50x5", "square-500")
    ),
    "mnist-white-box": _accuracies("mnist", "evaluation-10000", _GREY, _WHITE_BOX, "clean"),
    "mnist-pgd-1000": _accuracies("mnist", "evaluation-pgd-1000", _GREY, _PGD_1000, "pgd-1000"),
    "mnist-bpfc-pgd-1000": partial(
        accuracies,
        evaluations=["mnist-bpfc/evaluation-pgd-1000", "mnist-bpfc/evaluation-pgd-1000-fp32"],
        attacks=_PGD_1000,
        against="pgd-1000",
    ),
    "mnist-bpfc-10000": partial(
        accuracies,
        evaluations=[
            "mnist-bpfc/evaluation-10000",
            "mnist-bpfc/evaluation-pgd-1000-10000",
            "mnist-bpfc-seed1/evaluation-pgd-1000-10000",
            "mnist-bpfc-seed2/evaluation-pgd-1000-10000",
        ],
        attacks=("pgd-100", "pgd-1000"),
        against="pgd-1000",
    ),
    "fashion-mnist-black-box": _grey_black_box("fashion-mnist"),
    "mnist-black-box": _grey_black_box("mnist"),
    "cifar-10-black-box": partial(
        black_box,
        data="cifar-10",
        sources=[("cifar-10-normal-vgg19-fast", "vgg-19")],
        white_box="evaluation-1000",
        attacks=("fgsm", "pgd-20-last"),
    ),
    "suites": partial(suites, runs=_SUITES),
    "suite-costs": partial(costs, runs=_SUITES),
    "worst-by-attack": partial(cascade, name="fashion-mnist-bpfc/evaluation-worst"),
    "mnist-best-autoattack": partial(cascade, name="mnist-ibp-batchnorm-curve/evaluation-standard-1000"),
    "both-ways-second-goal": partial(
        cascade, name="fashion-mnist-ibp-curve-weight-0.15-40-epochs/evaluation-both-ways-1000"
    ),
    "both-ways-fashion-mnist": partial(cascade, name="fashion-mnist-ibp-curve-20-epochs/evaluation-both-ways-1000"),
    "both-ways-mnist": partial(cascade, name="mnist-ibp-batchnorm-curve/evaluation-both-ways-1000"),
    "mnist-bpfc-fast": partial(cascade, name="mnist-bpfc/evaluation-fast-1000"),
    "cifar-10-fast": partial(cascade, name="cifar-10-bpfc/evaluation-fast"),
    "fast": partial(fast, name="fast-500"),
    "fast-held": partial(fast, name="fast-held"),
    "fast-full-width": partial(fast, name="fast"),
    "fast-on-all": partial(fast_on_all, runs=("mnist-ibp-curve-half", "fashion-mnist-ibp-curve-20-epochs")),
    "scale": scale,
    "classes": classes,
    "own-recipes": own,
    "imagenet": imagenet,
    "confusion": confusion,
    "both-sides": partial(
        both_sides,
        evaluations=["mnist-ibp-curve-half/evaluation-standard", "mnist-ibp-batchnorm-curve/evaluation-fast"],
    ),
    "both-sides-fashion-mnist": partial(
        both_sides, evaluations=["fashion-mnist-ibp-curve-20-epochs/evaluation-standard"]
    ),
    "beyond": partial(beyond, families=list(_BEST.values())),
    "goals": partial(goals, ours=OURS),
    **{f"tried-{data}": partial(tried, data=data) for data in GOALS},
    "certified-curve": partial(reach, runs=["fashion-mnist-bpfc", "fashion-mnist-normal"]),
    "audit-fashion-mnist-bpfc": partial(audit, name="fashion-mnist-bpfc/audit-quick"),
    "audit-fashion-mnist-best": partial(audit, name="fashion-mnist-ibp-curve-20-epochs/audit-quick"),
    "audit-second-goal": partial(audit, name="fashion-mnist-ibp-curve-weight-0.15-40-epochs/audit-quick"),
    "audit-mnist-best": partial(audit, name="mnist-ibp-batchnorm-curve/audit-quick"),
    "audit-mnist-bpfc": partial(audit, name="mnist-bpfc/audit-quick"),
    "audit-demo": partial(audit, name="demo/audit-quick"),
    **{f"trade-off-{data}": partial(trade_off, data=data) for data in RUNS},
    "short-fashion-mnist": partial(short, data="fashion-mnist"),
    "short-mnist": partial(short, data="mnist"),
    "short-weights-fashion-mnist": partial(weights, data="fashion-mnist", recipe="bpfc-fast"),
    "short-kappa-fashion-mnist": partial(weights, data="fashion-mnist", recipe="ibp-curve"),
    "short-curves-fashion-mnist": partial(curves, data="fashion-mnist"),
    "short-averaging-fashion-mnist": partial(averaging, data="fashion-mnist"),
    "pace": partial(pace, data="fashion-mnist"),
    "flat-pixels": flat_pixels,
    "overfitting": partial(overfitting, runs=_WATCHED),
    **{f"benchmark-{name}": partial(benchmark, name=name) for name in _BENCHMARKS},
}
"""By the name that stands in the marker."""
PICTURES: dict[str, Callable[[Results], str]] = {
    **{f"trade-off-{data}.svg": partial(picture, data=data) for data in RUNS},
    "short-fashion-mnist.svg": partial(short_picture, data="fashion-mnist"),
}
"""By the name of the file, wherever a page shows it."""


def render(text: str, results: Results) -> str:
    """Markdown with its tables made anew.

    Raises:
        ValueError: a marker names no table, or a table's summaries do not fit together.
    """

    def make(name: str) -> str:
        if name not in TABLES:
            raise ValueError(f"<!-- table: {name} -->: no such table; there are {', '.join(TABLES)}")
        return TABLES[name](results)

    return fill(text, make)


def drawn(page: Path, results: Results) -> dict[Path, str]:
    """The pictures of PICTURES that a page of markdown shows, made anew, by the files that they belong in.

    Raises:
        ValueError: a picture's summaries do not fit together.
    """
    shown = [page.parent / link for link in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", page.read_text())]
    return {path: PICTURES[path.name](results) for path in shown if path.name in PICTURES}


def write_tables(files: tyro.conf.Positional[tuple[Path, ...]], results: Path = Path("results")) -> None:
    """Write the tables of these markdown files anew, and the pictures that they show of results.

    Args:
        files: markdown with tables between markers.
        results: folder of the runs.
    """
    for page in files:
        try:
            made = {page: render(page.read_text(), Results(results)), **drawn(page, Results(results))}
        except ValueError as error:
            raise ValueError(f"{page}: {error}") from error
        for path, content in made.items():
            if not path.exists() or path.read_text() != content:
                write_file(path, content.encode())
                print(f"{path}: written")


if __name__ == "__main__":
    try:
        tyro.cli(write_tables, prog="python -m bpfc.report.tables")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")

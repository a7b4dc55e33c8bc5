"""Certificates: between which shares they and attacks leave the robust accuracy, and how far they reach."""

import statistics
from collections.abc import Sequence
from typing import Any

from bpfc.methods.classes import standing
from bpfc.report.captions import captioned, check_same, shown_images, shown_sources
from bpfc.report.figures import DATA, Results, percent, without
from bpfc.report.trade_off import lowest
from bpfc.training.run import Run


def both_sides(results: Results, evaluations: Sequence[str]) -> str:
    """A row an evaluation that was given certificates, in %.

    Args:
        evaluations: folders such as mnist-ibp/evaluation-worst, of the same images.
    """
    summaries = {name: results.summary(name) for name in evaluations}
    check_same(summaries, "images", "data", "eps")
    rows = []
    for name, summary in summaries.items():
        sides = summary["between"]
        shares = [percent(sides[what]) for what in ("certified", "not_broken", "open")]
        run = name.split("/")[0]
        rows.append([run, results.class_of(run), without(summary["clean"]), *shares])
    first = next(iter(summaries.values()))
    told = (
        f"{shown_images(first)}, ε {first['eps']:g}, {len(first['attacks'])} attacks on what is not certified. In %; "
    )
    told += f"the last column is their difference. {shown_sources(evaluations)}"
    return captioned(["", "class", "clean", "certified", "not broken", "open"], rows, told)


def beyond(results: Results, families: Sequence[tuple[str, Sequence[str]]]) -> str:
    """The best recipes, in %: clean, under attack, and certified, over seeds.

    Args:
        families: evaluations such as evaluation-fast, given certificates and of the same number of images, each with
            the trainings of one recipe; those that are not there are left out.
    """
    rows: list[list[str]] = []
    summaries: dict[str, dict[str, Any]] = {}
    for evaluation, runs in families:
        found, cells = over_seeds(results, evaluation, runs)
        if not found:
            continue
        summaries |= found
        there = [name.split("/")[0] for name in found]
        recipe, first = Run(results.folder / there[0]).recipe(), next(iter(found.values()))
        number, cost = standing(recipe.method)
        name = f"{DATA[first['data']]}, ε {first['eps']:g}: {results.label(there[0])}"
        clean, stands, certified = cells
        training = [f"{number}", f"{cost}", f"{recipe.epochs}"]
        rows.append([name, *training, clean, stands, lowest(first)[1], certified, f"{len(there)}"])
    check_same(summaries, "images")
    told = (
        f"Accuracy in %. {shown_images(next(iter(summaries.values())))}. Cost: of a training step, a normal one being "
        f"1. ± is the standard deviation over seeds; without it, one seed. {shown_sources(list(summaries))}"
    )
    header = ["", "class", "cost", "epochs", "clean", "stands", "under", "certified", "seeds"]
    return captioned(header, rows, told)


def over_seeds(
    results: Results, evaluation: str, runs: Sequence[str]
) -> tuple[dict[str, dict[str, Any]], tuple[str, str, str]]:
    """Of the evaluations that are there the summaries by folder; and what is clean, stands and is certified, in %.

    Raises:
        ValueError: they are of different images or ε, or some were given certificates and others not.
    """
    there = [name for run in runs if results.has(name := f"{run}/{evaluation}")]
    found = {name: results.summary(name) for name in there}
    check_same(found, "data", "eps", "images")
    proven = [summary["between"]["certified"] for summary in found.values() if "between" in summary]
    if proven and len(proven) < len(found):
        lacking = [name for name, summary in found.items() if "between" not in summary]
        raise ValueError(f"{', '.join(lacking)}: without certificates, which the other seeds have")
    clean, stands = ([summary[what]["accuracy"] for summary in found.values()] for what in ("clean", "worst_case"))
    return found, (spread(clean), spread(stands), spread(proven) if proven else "–")


def spread(shares: Sequence[float]) -> str:
    """The mean in %, ± the deviation where there are several; "not run" where there is none."""
    if not shares:
        return percent(None)
    shown = percent(statistics.fmean(shares))
    return shown if len(shares) == 1 else f"{shown} ± {percent(statistics.stdev(shares))}"


def reach(results: Results, runs: Sequence[str]) -> str:
    """A row a run: the share that is certified at each ε, in %, and the radii.

    Args:
        runs: whose certification has a curve, of the same images.
    """
    names = [f"{run}/certification" for run in runs]
    summaries = {name: results.summary(name) for name in names}
    check_same(summaries, "images", "data")
    first = next(iter(summaries.values()))
    header = ["certified at ε =", "class", *(f"{eps:g}" for eps in first["curve"]["eps"]), "median radius", "largest"]
    rows = []
    for run, summary in zip(runs, summaries.values(), strict=True):
        radii = [f"{summary['radius'][name]:.2g}" for name in ("median", "largest")]
        rows.append([run, results.class_of(run), *map(percent, summary["curve"]["certified"]), *radii])
    told = f"{shown_images(first)}, ℓ∞, by {' and '.join(first['methods'])}. In %; radii in units of [0, 1]. "
    return captioned(header, rows, told + shown_sources(names))

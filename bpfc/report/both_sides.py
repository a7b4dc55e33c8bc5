"""Certificates: between which shares they and attacks leave the robust accuracy, and how far they reach."""

from collections.abc import Sequence

from bpfc.report.captions import captioned, check_same, shown_images, shown_seeds, shown_sources
from bpfc.report.figures import DATA, Results, percent, with_interval, without


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


def beyond(results: Results, evaluations: Sequence[str]) -> str:
    """README's table of the best recipes, in %: clean, under AutoAttack, and certified.

    Args:
        evaluations: folders such as mnist-ibp/evaluation-standard with certificates, of the same number of images.
    """
    summaries = {name: results.summary(name) for name in evaluations}
    check_same(summaries, "images")
    runs = [name.split("/")[0] for name in evaluations]
    rows = []
    for run, summary in zip(runs, summaries.values(), strict=True):
        certified = percent(summary["between"]["certified"])
        name = f"{DATA[summary['data']]}, ε {summary['eps']:g}: {results.label(run)}"
        rows.append(
            [name, results.class_of(run), without(summary["clean"]), with_interval(summary["worst_case"]), certified]
        )
    told = (
        f"Accuracy in %. {shown_images(next(iter(summaries.values())))}. In brackets: 95 % interval. "
        f"{shown_seeds(results, runs)} {shown_sources(evaluations)}"
    )
    return captioned(["", "class", "clean", "AutoAttack, standard", "certified"], rows, told)


def reach(results: Results, runs: Sequence[str]) -> str:
    """A row a run: the share that is certified at each ε, in %, and the radii.

    Args:
        runs: whose certification has a curve, of the same images.
    """
    names = [f"{run}/certification" for run in runs]
    summaries = {name: results.summary(name) for name in names}
    check_same(summaries, "images", "data")
    first = next(iter(summaries.values()))
    header = ["certified at ε =", *(f"{eps:g}" for eps in first["curve"]["eps"]), "median radius", "largest"]
    rows = []
    for run, summary in zip(runs, summaries.values(), strict=True):
        radii = [f"{summary['radius'][name]:.2g}" for name in ("median", "largest")]
        rows.append([run, *map(percent, summary["curve"]["certified"]), *radii])
    told = f"{shown_images(first)}, ℓ∞, by {' and '.join(first['methods'])}. In %; radii in units of [0, 1]. "
    return captioned(header, rows, told + shown_sources(names))

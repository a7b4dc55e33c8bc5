"""Certificates beside attacks: between which shares the robust accuracy of a network lies."""

from collections.abc import Sequence

from bpfc.report.captions import captioned, check_same, shown_images, shown_sources
from bpfc.report.figures import Results, percent, without


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
        rows.append([name.split("/")[0], without(summary["clean"]), *shares])
    first = next(iter(summaries.values()))
    told = (
        f"{shown_images(first)}, ε {first['eps']:g}, {len(first['attacks'])} attacks on what is not certified. In %; "
    )
    told += f"the last column is their difference. {shown_sources(evaluations)}"
    return captioned(["", "clean", "certified", "not broken", "open"], rows, told)

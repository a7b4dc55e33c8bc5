"""Tables of how trainings end over seeds, threads and ways of rounding."""

from bpfc.report.captions import captioned, shown_sources
from bpfc.report.figures import Results, percent


def stability(results: Results) -> str:
    """The demo's trainings over seeds, threads and ways of rounding: minimum, median and maximum."""
    if not results.has("stability"):
        return "Not run."
    summary = results.summary("stability")
    header = ["", "runs", "diverged", "collapsed", "normal: clean", "PGD-100", "BPFC: clean", "PGD-100"]
    rows = []
    for setting in summary["settings"]:
        spans = [
            " / ".join(map(percent, setting[what].get(network, [])))
            for network in ("normal", "bpfc")
            for what in ("clean", "pgd_100")
        ]
        rows.append([setting["name"], *(f"{setting[name]}" for name in ("runs", "diverged", "collapsed")), *spans])
    return captioned(header, rows, f"Minimum / median / maximum over the runs, in %. {shown_sources(['stability'])}")

"""What became of runs that were killed, met a full disk or were damaged, and of odd models (benchmarks/torture)."""

from bpfc.report.captions import captioned, shown_sources
from bpfc.report.figures import Results

ENDS = ("tried", "right", "told", "wrong", "lost", "traceback")


def torture(results: Results) -> str:
    """A row for each thing that befell a verb, a file or a model; a column for each way it can end; their sum last."""
    if not results.has("torture"):
        return "Not run."
    summary = results.summary("torture")
    rows = [[name, *(str(row.get(end, 0)) for end in ENDS)] for name, row in summary["rows"].items()]
    total = [str(sum(row.get(end, 0) for row in summary["rows"].values())) for end in ENDS]
    told = f"Trials. Of {summary['attempted_kills']} kills in them {summary['kills']} struck before the verb's end."
    return captioned(["", *ENDS], [*rows, ["all", *total]], f"{told} {shown_sources(['torture'])}")

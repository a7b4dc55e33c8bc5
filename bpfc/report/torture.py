"""What became of runs that were killed, and of files that were damaged (benchmarks/torture.py)."""

from bpfc.report.captions import captioned, shown_sources
from bpfc.report.figures import Results

ENDS = ("tried", "right", "told", "detail", "wrong", "lost", "traceback")


def torture(results: Results) -> str:
    """A row for each verb that was killed and each way of damaging a file; a column for each way it can end."""
    if not results.has("torture"):
        return "Not run."
    summary = results.summary("torture")
    rows = [[name, *(str(row.get(end, 0)) for end in ENDS)] for name, row in summary["rows"].items()]
    known = summary["kills"]
    came = "how many of them came before the end was not counted" if known is None else f"{known} came before the end"
    told = f"Trials. Kills attempted in them: {summary['attempted_kills']}; {came}."
    return captioned(["", *ENDS], rows, f"{told} {shown_sources(['torture'])}")

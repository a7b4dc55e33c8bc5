"""What an audit said, and how often the audit was right (benchmarks/confusion.py)."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from bpfc.files import AUDIT, read_json
from bpfc.report.captions import shown_images, shown_machine, shown_sources
from bpfc.report.figures import DATA, Results, percent
from bpfc.report.markdown import WIDTH, prose, table


def audit(results: Results, name: str) -> str:
    """An audit as its verb prints it: the checks, then the verdict.

    Args:
        results: where the audits are.
        name: of the audit's folder, such as fashion-mnist-bpfc/audit-quick.
    """
    found = read_json(results.folder / name / AUDIT)
    made = found["provenance"]
    *begun, last = textwrap.wrap(f"$ {made['command']}", WIDTH - 2, subsequent_indent="    ", break_on_hyphens=False)
    lines = [*(f"{part} \\" for part in begun), last]
    for each in found["findings"]:
        begin = f"{each['id']:3} {each['title']:25} {_outcome(each):14} "
        lines += textwrap.wrap(each["measured"], WIDTH, initial_indent=begin, subsequent_indent=" " * len(begin))
    lines += textwrap.wrap(found["sentence"], WIDTH)
    told = f"{shown_images(found)}. Exit status {found['exit_status']}, after {found['seconds'] / 60:.1f} minutes on "
    told += f"{shown_machine(made['hardware'])}. {shown_sources([name])}"
    return "\n".join(["```text", *lines, "```", "", prose(told)])


def _outcome(finding: Mapping[str, Any]) -> str:
    settled = finding.get("settled")
    return f"{finding['outcome']}, {settled}" if settled else str(finding["outcome"])


def confusion(results: Results, name: str = "confusion") -> str:
    """A table a data set, with a row a control and a value for each seed, in %."""
    if not results.has(name):
        return "Not run yet."
    summary = results.summary(name)
    told = [
        f"{summary['images']} images each, `--quick`; one value a seed, seeds "
        f"{', '.join(map(str, sorted({row['seed'] for row in summary['rows']})))}, of which the thresholds saw 0.",
        "Clean, claimed and what stands under the audit and under an attacker who knows the defence, in %.",
        _counted(summary["rows"], honest=False),
        _counted(summary["rows"], honest=True),
        shown_sources([name]),
    ]
    sets = list(dict.fromkeys(row["data"] for row in summary["rows"]))
    tables = [_cases([row for row in summary["rows"] if row["data"] == data], DATA[data]) for data in sets]
    return "\n\n".join([*tables, prose(" ".join(told))])


def _cases(found: Sequence[Mapping[str, Any]], data: str) -> str:
    cases: dict[str, list[Mapping[str, Any]]] = {}
    for row in found:
        cases.setdefault(row["case"], []).append(row)
    shown = []
    for case, rows in cases.items():
        hides = ", ".join(dict.fromkeys("no" if row["honest"] else "yes" for row in rows))
        flags = set.intersection(*(set(row["flags"]) for row in rows))
        right = f"{sum(row['right'] for row in rows)}/{len(rows)}"
        figures = [_each(rows, what) for what in ("clean", "claim", "robust", "known")]
        verdicts = [row["verdict"] for row in rows]
        verdict = verdicts[0] if len(set(verdicts)) == 1 else ", ".join(verdicts)
        shown.append([case, hides, verdict, *figures, ", ".join(sorted(flags, key=_number)), right])
    header = [data, "hides", "verdict", "clean", "claimed", "the audit", "who knows", "flags in every seed", "right"]
    return table(header, shown)


def _each(rows: Sequence[Mapping[str, Any]], what: str) -> str:
    return ", ".join(percent(row[what]).removesuffix(".0") for row in rows)


def _number(flag: str) -> int:
    return int(flag[1:])


def _counted(rows: Sequence[Mapping[str, Any]], honest: bool) -> str:
    mine = [row for row in rows if row["honest"] is honest]
    right = sum(row["right"] for row in mine)
    if honest:
        return f"Of {len(mine)} that hide nothing, {len(mine) - right} are called otherwise."
    missed = sum(row["verdict"] not in ("masked", "falls") for row in mine)
    return (
        f"Of {len(mine)} that hide gradients, {missed} are missed, and {len(mine) - right - missed} are called so with "
        "a figure more than two points above that of who knows."
    )

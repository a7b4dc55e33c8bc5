"""The paper's tables with ours beside them: what is known, and what is not run."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

from bpfc.methods.classes import standing
from bpfc.report.budgets import BUDGETS, BudgetName, ExperimentName
from bpfc.report.captions import captioned, shown_last
from bpfc.report.experiments import EXPERIMENTS, IMAGES, Column, trained_on
from bpfc.report.figures import DATA, METHODS, Results, paper, signed
from bpfc.report.shelf import Known, Shelf, shelf
from bpfc.report.task import Figure, Row, Task

SIDE_BY_SIDE = 2
"""Columns of a table at most whose three figures stand beside each other; of a wider one, below each other."""


def compared(task: Task, on: Shelf) -> tuple[list[str], list[list[str]], str]:
    """Header, rows and caption: for each figure the paper's, ours ± the deviation over seeds, and the difference.

    The second column is of the method's class, the last of the minutes that a training took.
    """
    stacked = len(task.columns) > SIDE_BY_SIDE
    header = ["", "class", "seeds"]
    for column in task.columns:
        header += _headed(column, stacked)
    header.append("minutes")
    body, shown, mixed = [], dict[str, list[Row]](), []
    for method in task.methods:
        every = [task.row(on, method, seed) for seed in range(task.seeds)]
        there = [row for row in every if any(figure is not None for figure in row.figures)]
        number = standing(task.recipe(method, 0).method).number
        name = [METHODS.get(method, method), f"{number}", f"{len(there)}" if there else "not run"]
        figures = []
        for place, column in enumerate(task.columns):
            told = paper(task.data, method, column.paper)
            found = [figure for row in there if (figure := row.figures[place]) is not None]
            ours = [100 * figure.share for figure in found]
            shown_ours = _spread(ours, len(there)) + _other_images(found, task.counted)
            figures.append((told, shown_ours, "" if column.beside else _difference(ours, told)))
        took = _minutes(_used(there))
        if stacked:
            theirs, mine, apart = (list(each) for each in zip(*figures, strict=True))
            body += [[*name, *mine, took], ["– the paper", "", "", *theirs, ""]]
            if any(apart):
                body.append(["– difference", "", "", *apart, ""])
        else:
            body.append([*name, *chain.from_iterable(figures), took])
        shown[name[0]] = there
        if len(_validated(_used(there))) > 1:
            mixed.append(name[0])
    return header, body, _caption(task, shown, mixed)


def reproduced(
    results: Results,
    name: ExperimentName,
    data: str,
    seeds: int,
    images: int | None = None,
    budget: BudgetName = "paper",
    short: bool = False,
) -> str:
    """The table as markdown, of what stands in results/ alone: for README and docs.

    Args:
        short: methods that were not run are named below the table, without the paper's figures of them.
    """
    task, absent = Task(name, data, BUDGETS[budget], images, seeds, EXPERIMENTS[name].methods), []
    on = shelf([results.folder])
    if short:
        there = [each for each in task.methods if any(on.of(task.recipe(each, seed)) for seed in range(seeds))]
        absent = [METHODS.get(each, each) for each in task.methods if each not in there]
        task = replace(task, methods=tuple(there))
    header, rows, told = compared(task, on)
    if absent:
        told += f" Not run: {'; '.join(absent)}."
    return captioned(header, rows, told)


def _headed(column: Column, stacked: bool) -> list[str]:
    """Above a column's figures: of what they are, and the paper's where these are of another attack."""
    if stacked:
        return [f"{column.shown} (paper: {column.beside})" if column.beside else column.shown]
    theirs = f"paper ({column.beside})" if column.beside else "paper"
    return [f"{column.shown}: {theirs}", "ours", "difference"]


def _spread(ours: Sequence[float], seeds: int) -> str:
    """Mean ± deviation; with the number of seeds, if it is not that which stands before the row."""
    if not ours:
        return "not run"
    shown = f"{statistics.fmean(ours):.1f}"
    if len(ours) > 1:
        shown += f" ± {statistics.stdev(ours):.1f}"
    return shown if len(ours) == seeds else f"{shown} (n = {len(ours)})"


def _other_images(found: Sequence[Figure], counted: int) -> str:
    """How many images a cell's figures count, where that is not the table's number."""
    counts = sorted({figure.images for figure in found})
    return f" ({' or '.join(f'{count:,}' for count in counts)} images)" if set(counts) - {counted} else ""


def _difference(ours: Sequence[float], told: str) -> str:
    if not ours or told == "no row":
        return ""
    return signed(statistics.fmean(ours) - float(told))


def _validated(used: Sequence[Known]) -> list[int]:
    """On how many validation images epochs were chosen."""
    return sorted({known.recipe.validation_attacked for known in used if known.recipe.select == "ifgsm"})


def _used(rows: Sequence[Row]) -> list[Known]:
    return [row.known for row in rows if row.known is not None]


def _last(task: Task, rows: Sequence[Row]) -> list[str]:
    """The columns of PGD's last iterate."""
    told = []
    for place, column in enumerate(task.columns):
        last = [figure.last for row in rows if (figure := row.figures[place]) is not None]
        if any(last):
            told.append(column.shown if all(last) else f"{column.shown} (in part)")
    return told


def _caption(task: Task, by_method: Mapping[str, Sequence[Row]], mixed: Sequence[str]) -> str:
    rows = list(chain.from_iterable(by_method.values()))
    used = _used(rows)
    whole = task.counted == IMAGES[task.data][1]
    images = f"all {task.counted:,} test images" if whole else f"the first {task.counted:,} test images"
    seen = f" on {trained_on(task.recipe(task.methods[0], 0)):,} images" if task.budget.training else ""
    told = (
        f"Accuracy in %, {DATA[task.data]}, {images}. {shown_last(_last(task, rows))}Trained by "
        f"{task.budget.told}{seen}. ± is the standard deviation over seeds; without it, one seed."
    )
    if any(figure and figure.images != task.counted for row in rows for figure in row.figures):
        told += " Of a run whose weights are not kept, figures of another number of images count, which stands by them."
    if validated := _validated(used):
        told += f" Epochs were chosen on {' or '.join(f'{count:,}' for count in validated)} validation images"
        told += f"; in the row {', '.join(mixed)} ± holds that difference too." if mixed else "."
    arithmetic = sorted({known.run.precision or "unknown" for known in used})
    if arithmetic:
        told += f" Trained in {' or '.join(arithmetic)}."
    if used:
        networks = sorted({f"`{known.recipe.network}`" for known in used})
        epochs = sorted({known.recipe.epochs for known in used})
        told += f" Network: {' or '.join(networks)}, {' or '.join(map(str, epochs))} epochs."
        told += _machines(by_method)
        told += f" From {', '.join(f'`{known.run.folder.parent.name}/{known.run.name}`' for known in used)}."
    return told


def _minutes(used: Sequence[Known]) -> str:
    """How long a training took: of several, from the shortest to the longest; "–" where no log tells."""
    minutes = [round(sum(row["train_seconds"] for row in known.run.log) / 60) for known in used if _timed(known)]
    return " to ".join(f"{each:,}" for each in sorted({min(minutes), max(minutes)})) if minutes else "–"


def _timed(known: Known) -> bool:
    return all("train_seconds" in row for row in known.run.log)


def _machines(by_method: Mapping[str, Sequence[Row]]) -> str:
    """What the column of minutes is of, as a sentence; nothing where there are none."""
    on: dict[str, list[str]] = {}
    for method, rows in by_method.items():
        if timed := [known for known in _used(rows) if _timed(known)]:
            devices = {" and ".join(sorted(known.run.devices)) for known in timed} - {""}  # none: not known
            on.setdefault(" or ".join(sorted(devices)), []).append(method)
    if not on:
        return ""
    usual = max(on, key=lambda device: len(on[device]))
    told = f" Minutes are of a training{f', on {usual}' if usual else ''}"
    others = [
        f"; of {', '.join(methods)} on {device or 'what is not known'}"
        for device, methods in on.items()
        if device != usual
    ]
    return f"{told}{''.join(others)}."

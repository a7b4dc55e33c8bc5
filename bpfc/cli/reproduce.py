"""Verb `reproduce`: a table of the paper -> the trainings and attacks that it lacks -> the table, ours beside it."""

import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from bpfc.options import DataFolder, Device, read_words
from bpfc.report.budgets import BUDGETS, BudgetName, ExperimentName

if TYPE_CHECKING:
    from rich.console import Console

    from bpfc.report.shelf import Shelf
    from bpfc.report.task import Task

RESULTS = Path("results")
Names = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME …")]


@dataclass(frozen=True)
class Reproduce:
    """Train and attack what a table of the paper lacks here; print ours beside it."""

    table: tyro.conf.Positional[ExperimentName]
    """table1 and table2 are white box, table3 is black box; cost is timed and trains nothing."""
    data: Names = ()
    """Data sets; those of the paper's table unless given."""
    methods: Names = ()
    """Rows, by the names in bpfc recipes; the paper's unless given."""
    seeds: int = 1
    """How many trainings a row, with the seeds 0, 1, …"""
    budget: Annotated[
        BudgetName,
        tyro.conf.arg(
            help="quick: a fifth of the epochs on 5,000 images. cpu: a fifth, on all images. fast: our recipes of 15 "
            "epochs for CIFAR-10; fast-half: the same, at half width. paper: all."
        ),
    ] = "quick"
    limit: int | None = None
    """Attack the first N test images only; the budget's number unless given."""
    dry_run: bool = False
    """Print what would be done, how long it takes here, and the table as far as it is done."""
    jobs: int = 1
    """How many trainings at once, each in a process of its own; on several GPUs each takes its turn."""
    markdown: bool = False
    """Print the tables as markdown."""
    device: Device = "auto"
    data_dir: DataFolder = None
    reuse: tuple[Path, ...] = (RESULTS,)
    """Folders of runs that are taken as they are, where their recipe is the same."""
    out: Path = Path("runs")
    """Folder for what is trained. What a kill left there goes on."""


def parse(arguments: list[str]) -> Reproduce:
    return read_words(Reproduce, "bpfc reproduce", arguments)


COSTS = ("data", "methods", "markdown", "device")
"""Options that `cost` takes."""


def main(options: Reproduce) -> None:
    """The verb: do what is missing, then print the tables.

    Raises:
        ValueError, DataError, RunError, OSError: something that was asked for can't be had, before any long work; or a
            training or an evaluation failed, after all others and the tables.
    """
    from rich.console import Console

    console = Console()
    if options.table == "cost":
        from bpfc.cli.step_costs import print_costs

        _check_costs(options)
        print_costs(options.data, options.methods, options.device, options.markdown, console)
        return
    failed = run(options, console)
    if failed:
        raise ValueError("; ".join(failed))


def run(options: Reproduce, console: "Console") -> list[str]:
    """Does what is missing and prints the tables; gives back what went wrong on the way, a line each."""
    from rich.console import Console

    from bpfc.cli.jobs import missing
    from bpfc.cli.side_by_side import do
    from bpfc.cli.work_list import print_there, print_work
    from bpfc.report.shelf import shelf

    tasks = _tasks(options)
    # Markdown is for a file, in which the tables stand alone.
    beside = Console(stderr=True) if options.markdown else console
    _check_folders(options, beside)
    on = shelf([*options.reuse, options.out])
    jobs = [job for task in tasks for job in missing(task, on, options.out)]
    failed = []
    if options.dry_run:
        print_there(tasks, on, beside)
        print_work(jobs, options.jobs, options.device, beside)
    else:
        with redirect_stdout(sys.stderr) if options.markdown else nullcontext():
            failed = do(jobs, options.jobs, options.device, options.data_dir, beside)
    on = shelf([*options.reuse, options.out])
    for task in tasks:
        _print_table(task, on, options.markdown, console)
    return failed


def _check_costs(options: Reproduce) -> None:
    """Raises ValueError for an option that `cost` would pass over without a word."""
    *more, last = (f"--{name}" for name in COSTS)
    for field in fields(options):
        if field.name not in ("table", *COSTS) and getattr(options, field.name) != field.default:
            name = field.name.replace("_", "-")
            raise ValueError(f"--{name}: cost trains and attacks nothing, and takes {', '.join(more)} and {last}")


def _check_folders(options: Reproduce, console: "Console") -> None:
    """Raises ValueError for a folder that was named and is not there; says so of the one that nobody named."""
    if options.data_dir is not None and not options.data_dir.is_dir():
        raise ValueError(f"--data-dir {options.data_dir}: no such folder")
    for folder in options.reuse:
        if not folder.is_dir() and folder != RESULTS:
            raise ValueError(f"--reuse {folder}: no such folder")
        if not folder.is_dir():
            console.print(
                f"No folder {RESULTS} here, as a clone of bpfc has it: nothing is reused but what is in {options.out}. "
                "--reuse names another.",
                highlight=False,
            )


def _tasks(options: Reproduce) -> "list[Task]":
    """A table for each data set.

    Raises:
        ValueError: a data set or a method has no recipe, or a number makes no sense.
    """
    from bpfc.attacks.base import check_count
    from bpfc.report.experiments import EXPERIMENTS, IMAGES
    from bpfc.report.task import Task

    check_count(seeds=options.seeds, jobs=options.jobs, limit=options.limit)
    experiment, tasks = EXPERIMENTS[options.table], []
    for data in dict.fromkeys(options.data or experiment.data):
        if data not in IMAGES:
            raise ValueError(f"--data {data}: must be of {', '.join(IMAGES)}")
        if options.limit is not None and options.limit > (count := IMAGES[data][1]):
            raise ValueError(f"--limit {options.limit}: {data} has {count:,} test images")
        methods = tuple(dict.fromkeys(options.methods or experiment.methods))
        task = Task(options.table, data, BUDGETS[options.budget], options.limit, options.seeds, methods)
        for method in methods:
            task.recipe(method, seed=0)  # raises where there is none
        tasks.append(task)
    return tasks


def _print_table(task: "Task", on: "Shelf", markdown: bool, console: "Console") -> None:
    from bpfc.cli.narrow import narrow
    from bpfc.report.captions import captioned
    from bpfc.report.experiments import EXPERIMENTS
    from bpfc.report.figures import DATA
    from bpfc.report.reproduction import compared

    header, rows, told = compared(task, on)
    if markdown:
        print(captioned(header, rows, told), end="\n\n")
        return
    console.print(narrow(f"{EXPERIMENTS[task.name].title}, {DATA[task.data]}", header, rows, console.width))
    console.print(f"{told} –: not run here, or no figure in the paper.", highlight=False)

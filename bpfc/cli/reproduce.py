"""Verb `reproduce`: a table of the paper -> the trainings and attacks that it lacks -> the table, ours beside it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from bpfc.options import DataFolder, Device, read_words
from bpfc.report.budgets import BUDGETS, BudgetName, ExperimentName

if TYPE_CHECKING:
    from rich.console import Console

    from bpfc.cli.jobs import BlackBox, Job
    from bpfc.report.reproduction import Task
    from bpfc.report.shelf import Shelf

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
    reuse: tuple[Path, ...] = (Path("results"),)
    """Folders of runs that are taken as they are, where their recipe is the same."""
    out: Path = Path("runs")
    """Folder for what is trained. What a kill left there goes on."""


def parse(arguments: list[str]) -> Reproduce:
    return read_words(Reproduce, "bpfc reproduce", arguments)


def main(options: Reproduce) -> None:
    """The verb: do what is missing, then print the tables.

    Raises:
        ValueError, DataError, RunError, OSError: something that was asked for can't be had, before any long work; or a
            training or an evaluation failed, after all others and the tables.
    """
    from rich.console import Console

    console = Console()
    if options.table == "cost":
        _print_costs(options, console)
        return
    failed = run(options, console)
    if failed:
        raise ValueError("; ".join(failed))


def run(options: Reproduce, console: "Console") -> list[str]:
    """Does what is missing and prints the tables; gives back what went wrong on the way, a line each."""
    from bpfc.cli.jobs import missing
    from bpfc.cli.side_by_side import do
    from bpfc.report.shelf import shelf

    tasks = _tasks(options)
    on = shelf([*options.reuse, options.out])
    jobs = [job for task in tasks for job in missing(task, on, options.out)]
    failed = []
    if options.dry_run:
        _print_work(jobs, tasks, on, options, console)
    else:
        failed = do(jobs, options.jobs, options.device, options.data_dir, console)
    on = shelf([*options.reuse, options.out])
    for task in tasks:
        _print_table(task, on, options.markdown, console)
    return failed


def _tasks(options: Reproduce) -> "list[Task]":
    """A table for each data set.

    Raises:
        ValueError: a data set or a method has no recipe, or a number makes no sense.
    """
    from bpfc.attacks.base import check_count
    from bpfc.report.experiments import EXPERIMENTS, IMAGES
    from bpfc.report.reproduction import Task

    check_count(seeds=options.seeds, jobs=options.jobs, limit=options.limit)
    experiment, tasks = EXPERIMENTS[options.table], []
    for data in options.data or experiment.data:
        if data not in IMAGES:
            raise ValueError(f"--data {data}: must be of {', '.join(IMAGES)}")
        methods = options.methods or experiment.methods
        task = Task(options.table, data, BUDGETS[options.budget], options.limit, options.seeds, tuple(methods))
        for method in methods:
            task.recipe(method, seed=0)  # raises where there is none
        tasks.append(task)
    return tasks


def _print_table(task: "Task", on: "Shelf", markdown: bool, console: "Console") -> None:
    from rich.table import Table

    from bpfc.report.captions import captioned
    from bpfc.report.experiments import EXPERIMENTS
    from bpfc.report.figures import DATA
    from bpfc.report.reproduction import compared

    header, rows, told = compared(task, on)
    if markdown:
        print(captioned(header, rows, told), end="\n\n")
        return
    # A terminal of 80 columns broke words: hence no edges, and short ones.
    table = Table(title=f"{EXPERIMENTS[task.name].title}, {DATA[task.data]}", show_edge=False, pad_edge=False)
    for name in header:
        shown = {"difference": "diff", "minutes": "min"}.get(name, name.replace(": ", "\n"))
        table.add_column(shown, justify="right" if name else "left", overflow="fold")
    for row in rows:
        table.add_row(row[0].replace("difference", "diff"), *row[1:])
    console.print(table)
    console.print(told, highlight=False)


def _print_work(
    jobs: "list[Job | BlackBox]", tasks: "list[Task]", on: "Shelf", options: Reproduce, console: "Console"
) -> None:
    """What is there, what is missing, and how long that takes, by a step and a pass timed now."""
    from datetime import timedelta

    import torch

    from bpfc.cli.speed import Estimate, Speed
    from bpfc.machine import pick_device, resolve

    for task in tasks:
        for seed in range(task.seeds):
            for method in task.methods:
                row = task.row(on, method, seed)
                if row.known is not None and None not in row.figures:
                    console.print(
                        f"there    {task.data}-{method}, seed {seed}: {row.known.run.folder}",
                        markup=False,
                        highlight=False,
                        soft_wrap=True,
                    )
    device = pick_device(options.device)
    speed = Speed(device, resolve("auto", device))
    estimate = Estimate(speed)
    total = 0.0
    for job in jobs:
        seconds = job.seconds(estimate)
        total += seconds
        console.print(f"{job.told}: {timedelta(seconds=round(seconds))}", highlight=False, soft_wrap=True)
    # Processes share the cores, all of which the timing had, and a GPU; only several GPUs make several as fast as one.
    total /= max(1, min(options.jobs, torch.cuda.device_count() if device.type == "cuda" else 1))
    told = f"{len(jobs)} pieces of work, about {timedelta(seconds=round(total))} here with --jobs {options.jobs}."
    if speed.got < 1:
        told += (
            f" Other work holds this machine up: what was timed had {speed.got:.0%} of its cores; alone it would take "
            f"{timedelta(seconds=round(total * speed.got))} at best."
        )
    console.print(told, highlight=False)


def _print_costs(options: Reproduce, console: "Console") -> None:
    """What a step of each method costs here, beside the passes that it makes."""
    from rich.table import Table

    from bpfc.cli.speed import Speed
    from bpfc.machine import pick_device, resolve
    from bpfc.methods.classes import standing
    from bpfc.report.captions import captioned
    from bpfc.report.experiments import EXPERIMENTS
    from bpfc.report.figures import METHODS, PRECISIONS
    from bpfc.training.recipes import RECIPES

    device = pick_device(options.device)
    speed = Speed(device, resolve("auto", device))
    for data in options.data or ("fashion-mnist",):
        rows, normal = [], None
        for method in dict.fromkeys(("normal", *(options.methods or EXPERIMENTS["table2"].methods))):
            if f"{data}-{method}" not in RECIPES:
                raise ValueError(f"{data}-{method}: no such recipe; bpfc recipes lists them")
            recipe = RECIPES[f"{data}-{method}"][1]
            seconds = speed.step(recipe, recipe.method)
            normal = normal or seconds
            passes = f"{standing(recipe.method).cost}"
            rows.append([METHODS.get(method, method), passes, f"{1000 * seconds:.1f}", f"{seconds / normal:.2f}"])
        header = ["", "passes", "milliseconds a step", "normal training is 1"]
        told = (
            f"{data}, batch {recipe.batch_size}, {recipe.network}, in {PRECISIONS[speed.precision]} on {device.type}. "
            "The paper says that BPFC is faster than RSS-AT and PGD-AT, without a figure."
        )
        if options.markdown:
            print(captioned(header, rows, told), end="\n\n")
            continue
        table = Table(title="What a training step costs")
        for name in header:
            table.add_column(name, justify="left" if not name else "right")
        for row in rows:
            table.add_row(*row)
        console.print(table)
        console.print(told, highlight=False)

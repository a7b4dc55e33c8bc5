"""What stands below a table: which images, how many trainings, and the files that it is made from."""

from collections.abc import Sequence
from typing import Any

from bpfc.report.figures import Results
from bpfc.report.markdown import prose, table


def captioned(header: Sequence[str], rows: Sequence[Sequence[str]], told: str) -> str:
    """A table with a paragraph below it."""
    return table(header, rows) + "\n\n" + prose(told)


def shown_images(summary: dict[str, Any]) -> str:
    """Which of the test images a summary counts."""
    images = summary["images"]
    whole = images == 10_000 and summary["data"] in ("mnist", "fashion-mnist", "cifar-10")
    return f"All {images:,} test images" if whole else f"The first {images:,} test images"


def shown_last(columns: Sequence[str]) -> str:
    """Which columns count PGD's last iterate alone, where others count any, as a sentence; nothing where none does."""
    verb = "judges" if len(columns) == 1 else "judge"
    return f"{' and '.join(columns)} {verb} the last iterate alone. " if columns else ""


def shown_seeds(results: Results, runs: Sequence[str]) -> str:
    """How many trainings stand behind a row, and their seeds."""
    seeds = sorted({results.recipe(run)["seed"] for run in runs})
    return f"One training a row, n = 1, seed {', '.join(map(str, seeds))}."


def shown_sources(names: Sequence[str]) -> str:
    """The folders that a table is made from, by their names in results/."""
    return f"From {', '.join(f'`results/{name}`' for name in names)}."


def shown_machine(hardware: dict[str, Any]) -> str:
    """Threads and processor, from a summary's provenance."""
    threads = f"{hardware['threads']} thread{'s' * (hardware['threads'] != 1)}"
    return f"{threads} of {hardware['device'].replace('(R)', '')}"


def check_same(summaries: dict[str, dict[str, Any]], *fields: str) -> None:
    """Raises ValueError, naming the field, if the rows of one table differ in it."""
    for field in fields:
        found = {name: summary[field] for name, summary in summaries.items()}
        if any(value != next(iter(found.values())) for value in found.values()):
            raise ValueError(f"one table with different {field}: {found}; make two tables of it")

"""Verb `report`: the files of runs -> one page."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from bpfc.options import DataFolder, read_words


@dataclass(frozen=True)
class Report:
    """Make one HTML page about runs, of what they left; no attack is run again."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders that bpfc train wrote, or bpfc evaluate, certify or audit for a model that was handed in."""
    out: Path = Path("report.html")
    """The page. It needs nothing else, and asks nothing of any other machine."""
    data_dir: DataFolder = None


def parse(arguments: list[str]) -> Report:
    return read_words(Report, "bpfc report", arguments)


def main(options: Report) -> None:
    """The verb: make the page, and say where it is.

    Raises:
        NothingToReportError, ValueError: a run holds nothing to show, or a damaged file.
        OSError: the page cannot be written.
    """
    from bpfc.files import make_writable_folder, write_file
    from bpfc.report.page import render_page

    if not options.runs:
        raise ValueError("no run: name at least one folder that bpfc train or bpfc evaluate wrote")
    if options.out.is_dir():
        raise ValueError(
            f"--out {options.out}: is a folder; name the file of the page, such as {options.out}/report.html"
        )
    make_writable_folder(options.out.parent)
    page = render_page(options.runs, options.out, options.data_dir)
    write_file(options.out, page.encode())
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB")

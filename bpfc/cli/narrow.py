"""A table of figures that 80 columns show without a break inside a word."""

from collections.abc import Sequence

from rich import box
from rich.table import Table

SHORT = {"difference": "diff", "– difference": "– diff", "minutes": "min", "not run": "–", "no row": "–"}
"""What a caption explains, or everybody understands."""


def narrow(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> Table:
    """Cells break between words alone: a deviation stands below its mean where there is no room beside it.

    Left to itself, rich takes the room of the longest cells, and breaks whatever word does not fit any more.
    """
    columns = [[_short(cell) for cell in column] for column in zip(header, *rows, strict=True)]
    columns = [[column[0].replace(": ", "\n"), *column[1:]] for column in columns]
    widths = [max(len(word) for cell in column for word in cell.split() or [""]) for column in columns]
    room -= sum(widths) + len(widths) - 1
    for place, column in enumerate(columns):
        more = max(len(line) for cell in column for line in cell.splitlines() or [""]) - widths[place]
        if more <= room:
            widths[place], room = widths[place] + more, room - more
    # Two blanks between columns are too many for the paper's widest table.
    table = Table(title=title, box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    for place, (column, width) in enumerate(zip(columns, widths, strict=True)):
        table.add_column(column[0], justify="right" if place else "left", width=width)
    for row in zip(*(column[1:] for column in columns), strict=True):
        table.add_row(*row)
    return table


def _short(cell: str) -> str:
    return SHORT.get(cell, cell).replace("± ", "±").replace("(n = ", "(n=")

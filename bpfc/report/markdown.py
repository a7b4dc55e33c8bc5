"""Markdown with generated parts, and a table as text.

A generated part stands between two lines, which a rendered page does not show:

    <!-- table: NAME -->
    <!-- end -->
"""

import re
import textwrap
from collections.abc import Callable, Sequence

WIDTH = 120
"""No line of prose is longer."""

_BLOCK = re.compile(r"^<!-- table: (\S+) -->\n(.*?)^<!-- end -->$", re.DOTALL | re.MULTILINE)
_MARKER = re.compile(r"^<!-- (?:table:.*|end) -->$", re.MULTILINE)


def fill(text: str, make: Callable[[str], str]) -> str:
    """The text with every generated part made anew.

    Args:
        text: markdown.
        make: what stands in a part, by its name.

    Raises:
        ValueError: a part does not end, or `make` knows no such name.
    """
    _check_markers(text)
    return _BLOCK.sub(lambda found: f"<!-- table: {found[1]} -->\n{make(found[1])}\n<!-- end -->", text)


def names(text: str) -> list[str]:
    """The names of the generated parts, in order."""
    return [found[1] for found in _BLOCK.finditer(text)]


def outside(text: str) -> str:
    """The text without its generated parts: what somebody typed."""
    _check_markers(text)
    return _BLOCK.sub("", text)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, words: bool = False) -> str:
    """A markdown table. The first column is flush left, the others flush right, for numbers, or left, for words."""
    lines = [header, ["---", *["---" if words else "--:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


def prose(text: str) -> str:
    """Text in lines no longer than WIDTH; words with hyphens stay whole."""
    return textwrap.fill(text, WIDTH, break_on_hyphens=False, break_long_words=False)


def _check_markers(text: str) -> None:
    markers = _MARKER.findall(text)
    for opening, closing in zip(markers[::2], [*markers[1::2], "nothing"], strict=False):
        if not _BLOCK.fullmatch(f"{opening}\n{closing}"):
            raise ValueError(f"{opening} is followed by {closing}: must be followed by <!-- end -->")

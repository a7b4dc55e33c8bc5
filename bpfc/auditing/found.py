"""What attacks find in an audit: each is made once, by one process or by several, and kept in the audit's folder.

Under torchrun all processes go through the same audit and ask for the same attacks in the same order. The images of an
attack are handed out in blocks, and what was found is passed on to all, so that all come to the same verdict.
"""

import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bpfc.auditing.kept import keep, open_kept
from bpfc.resumed import FIRST
from bpfc.team import Team


class Found:
    """By attack, a line: which images it broke, in which restart and step; see bpfc.auditing.kept."""

    def __init__(self, folder: Path | None, decides: Mapping[str, Any], crew: Team) -> None:
        """Opens what an earlier audit of the same has left.

        Args:
            folder: where lines are kept, by the first process; None keeps nothing.
            decides: what decides a line, ready for JSON.
            crew: the processes.

        Raises:
            ValueError: another process would audit something else, or the folder holds the audit of something else.
        """
        self._folder, self._crew, self._asked = folder if crew.first else None, crew, 0
        crew.agree("audit", {name: value for name, value in decides.items() if name != FIRST})
        self._kept = {} if self._folder is None else open_kept(self._folder, decides)

    def by(
        self,
        name: str,
        settings: str,
        eps: float | None,
        places: list[int],
        size: int,
        run: Callable[[Iterator[list[int]]], Iterable[list[int | None]]],
    ) -> tuple[dict[str, Any], bool]:
        """The attack's line, and whether it was made now.

        Args:
            name: of the attack.
            settings: what makes it; a kept line of other settings does not count.
            eps: its radius.
            places: indices of the images that it is to run on.
            size: of a block.
            run: attacks blocks of these indices; gives back index, restart and step of what it breaks, and a 1 where
                by NaN or infinite logits.

        Raises:
            ValueError: the first process asks for another attack, or on other images.
        """
        images = zlib.crc32(repr(places).encode())
        at = self._next(attack=settings, name=name, images=images)
        line = self._kept.get(name)
        same = line is not None and (line["settings"], line.get("images", images)) == (settings, images)
        line = self._crew.told(f"{at}, kept", line if same else None)
        if line is not None:
            return line, False
        started = time.perf_counter()
        parts = [places[begin : begin + size] for begin in range(0, len(places), size)]
        mine = (parts[number] for number in self._crew.handed_out(f"{at}, blocks", len(parts)))
        found = sorted(self._crew.gathered(f"{at}, found", list(run(mine))))
        seconds = round(time.perf_counter() - started, 2)
        line = {"probe": name, "settings": settings, "images": images, "eps": eps, "found": found, "seconds": seconds}
        if self._folder is not None:
            keep(self._folder, line)
        return line, True

    def end(self) -> None:
        """After the last attack.

        Raises:
            ValueError: the first process asks for another one.
        """
        self._next(attack="none")

    def _next(self, **asked: Any) -> str:
        self._asked += 1
        at = f"attack {self._asked}"
        self._crew.agree(at, asked)
        return at

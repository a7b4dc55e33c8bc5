"""Rows of images in a folder, made by one process or by several under torchrun: the same bytes in the end.

Blocks of images are handed out by a counter. Each of several processes writes the rows of its blocks into a shard,
FOLDER/shards/RANK, which is a folder of rows like the whole; when all are done the first merges them by index. Shards
that a kill left are merged at the next start, be it of one process or of many: only open blocks are lost.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from bpfc.resumed import Resumed
from bpfc.team import Team

SHARDS = "shards"
R = TypeVar("R", bound=Mapping[str, Any])


class Shared(Generic[R]):
    """The rows of a folder while a team makes them.

    Attributes:
        missing: the indices that had no row at the start.
        before: the rows that there were, in the first process; none in the others.
    """

    def __init__(
        self, folder: Path, settings: dict[str, Any], opened: Callable[[Path], Resumed[R]], crew: Team
    ) -> None:
        """Opens the folder; what is there goes on.

        Args:
            folder: in which the first process has the rows; it must be there.
            settings: what decides a row, ready for JSON; the same in all processes.
            opened: opens the rows in a folder.
            crew: the processes.

        Raises:
            ValueError: another process would make other rows, or the folder holds other ones (see Resumed).
        """
        self._shards, self._opened, self._crew = folder / SHARDS, opened, crew
        crew.agree("settings", settings)
        self._whole: Resumed[R] | None = None
        if crew.first:
            self._whole = opened(folder)
            self._whole.absorb([opened(shard) for shard in self._left()])
        self.before: list[R] = self._whole.rows if self._whole else []
        self.missing: list[int] = crew.told("missing", self._whole.missing if self._whole else None)
        if crew.size == 1 and self._whole is not None:
            self._mine = self._whole
        else:
            mine = self._shards / f"{crew.rank:04d}"
            mine.mkdir(parents=True, exist_ok=True)
            self._mine = opened(mine)

    def parts(self, size: int) -> Iterator[list[int]]:
        """Blocks of so many of the missing indices, as they fall to this process."""
        begins = range(0, len(self.missing), size)
        return (self.missing[begins[at] : begins[at] + size] for at in self._crew.handed_out("blocks", len(begins)))

    def append(self, rows: Iterable[R], warnings: Iterable[str] = ()) -> None:
        """Adds rows of this process; on disk before this returns."""
        self._mine.append(rows, warnings)

    def finished(self) -> Resumed[R] | None:
        """Waits for all; then the whole, in the first process, and None in the others."""
        self._crew.wait("finished")
        if self._whole is not None and self._whole is not self._mine:
            self._whole.absorb([self._opened(shard) for shard in self._left()])
        return self._whole

    def _left(self) -> list[Path]:
        return sorted(path for path in self._shards.glob("*") if path.is_dir())

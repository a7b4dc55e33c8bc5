"""The processes of a piece of work under torchrun, on one machine or several; without it, the one process.

They share nothing but torchrun's own store, which outlives a worker: it hands out work by a counter, so that a fast
machine takes more of it, and passes on what one of them has found out. No process group is formed. A process takes
part in one piece of work.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

from torch.distributed import HashStore, Store, rendezvous  # type: ignore[attr-defined]

FOREVER = timedelta(days=365)
"""How long to wait for the others: torchrun ends us where one of them has died."""


@dataclass(frozen=True)
class Team:
    """Who we are.

    Attributes:
        rank: of this process, from 0.
        size: how many processes there are.
    """

    rank: int
    size: int

    @property
    def first(self) -> bool:
        """Whether this is the one that writes for all, and speaks."""
        return self.rank == 0

    @cached_property
    def _store(self) -> Store:
        if self.size == 1:
            return HashStore()
        store, _, _ = next(rendezvous("env://"))
        store.set_timeout(FOREVER)
        return store

    def handed_out(self, what: str, count: int) -> Iterator[int]:
        """Numbers below `count`, each to one process only, when it asks for the next."""
        while (number := self.add(what, 1) - 1) < count:
            yield number

    def add(self, what: str, amount: int) -> int:
        """Adds to a number that is everybody's; gives back what it is now."""
        return self._store.add(what, amount)

    def told(self, what: str, content: Any = None) -> Any:
        """The first process's content, ready for JSON, for all; the others wait for it."""
        if self.first:
            self._store.set(what, json.dumps(content))
        return json.loads(self._store.get(what))

    def gathered(self, what: str, rows: list[Any]) -> list[Any]:
        """The rows of all processes, ready for JSON, those of the first first; all wait for all."""
        self._store.set(f"{what}: {self.rank}", json.dumps(rows))
        return [row for rank in range(self.size) for row in json.loads(self._store.get(f"{what}: {rank}"))]

    def agree(self, what: str, content: dict[str, Any]) -> None:
        """Raises ValueError in a process whose content, ready for JSON, is not that of the first."""
        mine = json.loads(json.dumps(content))
        first = self.told(what, mine)
        if other := [name for name in mine if first.get(name) != mine[name]]:
            told = "; ".join(f"{name} is {mine[name]!r}, there {first.get(name)!r}" for name in other)
            raise ValueError(
                f"process {self.rank} would work on something else than the first ({told}); make them alike"
            )

    def wait(self, what: str) -> None:
        """Until all are here."""
        if self.add(what, 1) == self.size:
            self._store.set(f"{what}: all", "")
        self._store.wait([f"{what}: all"])


def team() -> Team:
    """That of this process."""
    return Team(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

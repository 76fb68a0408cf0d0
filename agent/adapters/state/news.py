"""Events of the journal, for consumers that must neither delay nor fail what is done.

    recording ─▶ journal: action + event ─▶ tell        consumer: after(cursor) ─▶ what came since
                 (one transaction)            └──────────────▲

A consumer reads from its own cursor, in its own time, with a connection that is opened for the
first of them and shared by all: reading waits for no writer, and no writer for a reader. What
another process has written (``commitd undo``) is found by a look now and then.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from agent.adapters.state.actions import Event
from agent.adapters.state.journal import Journal

AT_ONCE = 50
"""Events that one read returns at most."""
_LOOK_S = 1.0

_Result = TypeVar("_Result")


class News:
    """Of the journal at ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._journal: Journal | None = None
        self._turn = anyio.CapacityLimiter(1)
        self._told: anyio.Event | None = None

    def tell(self) -> None:
        """An event was written. Costs nothing where nobody waits for one."""
        if self._told:
            self._told.set()
            self._told = None

    async def after(self, seq: int, limit: int | None = None) -> list[Event]:
        """The events after number ``seq``, oldest first; waits for the first of them.

        No more than ``limit`` (:data:`AT_ONCE`): ask again after the last. Raises
        :class:`CommitdError`.
        """
        while True:
            told = self._told = self._told or anyio.Event()
            found = await self.read(partial(Journal.events, after=seq, limit=limit or AT_ONCE))
            if found:
                return found
            with anyio.move_on_after(_LOOK_S):
                await told.wait()

    async def newest(self) -> int:
        """The number of the last event so far. Raises :class:`CommitdError`."""
        return await self.read(Journal.newest_event)

    def close(self) -> None:
        """Nobody reads any more. Blocks."""
        if self._journal:
            self._journal.close()

    async def read(self, look: Callable[[Journal], _Result]) -> _Result:
        """What ``look`` finds, beside those who write. Raises :class:`CommitdError`."""

        def read() -> _Result:
            if self._journal is None:
                self._journal = Journal(self._path, read_only=True, upgrade=False)
            return look(self._journal)

        return await anyio.to_thread.run_sync(read, limiter=self._turn)

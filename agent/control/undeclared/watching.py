"""Reading the engine's event stream for ever, and having all listed after each connect."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from agent.adapters.engine.engine import Engine
from agent.adapters.engine.events import Event
from agent.adapters.guard import Guard
from agent.adapters.tasks import task_group
from agent.control.undeclared.protection import Protection

log = logging.getLogger("commitd.watcher")

MOST_PENDING = 1000
"""IDs that are noted at a time; more than so many changes are left to the cycle."""
_RECONNECT_S = 5.0
"""The longest wait before the stream is opened again."""


class Listening(Protocol):
    """Who looks at what runs, and has to know whether events tell of changes."""

    def listen(self, *, on: bool) -> None:
        """From now on they do, or do not."""


class Watching(ABC):
    """``wake`` asks for a cycle, which lists everything anew.

    A stream can fall silent without ending, so it is opened anew every ``resync_s``. ``filters``
    are those of the events that are asked for.
    """

    def __init__(
        self,
        engine: Engine,
        protection: Protection,
        observer: Listening,
        wake: Callable[[str], None],
        *,
        resync_s: float,
        filters: Mapping[str, list[str]],
    ) -> None:
        self._engine = engine
        self._protection = protection
        self._listening = observer
        self._wake = wake
        self._resync_s = resync_s
        self._filters = filters
        self._guard = Guard("watching the engine", log, longest_s=_RECONNECT_S)

    async def run(self) -> None:
        """Watch, reconnect, and have everything listed after each connect."""
        async with task_group() as group:
            await self._guard.forever(partial(self._watch, group))

    async def _watch(self, group: TaskGroup) -> None:
        try:
            with anyio.move_on_after(self._resync_s):
                await self._engine.watch(
                    lambda event: self._handle(event, group), self._begin, filters=self._filters
                )
        except Exception:
            self._listening.listen(on=False)
            raise

    def _begin(self) -> None:
        self._guard.recovered()
        self._listening.listen(on=True)
        self._look("the event stream was opened")

    def _look(self, why: str, project: str | None = None) -> None:
        """Ask for a look at everything, above all at this project."""
        self._protection.disturbed.add(project or "")
        self._wake(why)

    @abstractmethod
    def _handle(self, event: Event, group: TaskGroup) -> None:
        """Never waits: a slow reader would lose events and slow the engine down."""

"""What the engine tells of the projects whose releases are started and waited for: one stream for
all of them, open for as long as anybody listens.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import anyio
from anyio.abc import TaskGroup

from agent.adapters.engine.engine import Engine
from agent.adapters.engine.events import Event
from agent.adapters.guard import Guard
from agent.domain.container import PROJECT

log = logging.getLogger("commitd.gate")

_RECONNECT_S = 1.0


class Activity:
    """What happens to one project, heard of ``since`` then, in seconds since the epoch.

    ``stopped`` are the IDs of containers that somebody told to end, and did not start again.
    ``made`` are those that were made meanwhile. It was ``undone`` when one of these was told to
    end: Compose ends older ones. ``number`` grows with each event. Its containers have it as the
    value of ``label``.
    """

    def __init__(self, project: str, since: float, label: str = PROJECT) -> None:
        self.project = project
        self.since = since
        self._label = label
        self.stopped: set[str] = set()
        self.undone = False
        self.made: set[str] = set()
        self.number = 0
        self._touched: dict[str, int] = {}
        self._came_or_went = self._lost = 0
        self._changed = anyio.Event()

    def touched(self, number: int) -> set[str]:
        """The IDs of containers to which something happened after that event."""
        return {each for each, last in self._touched.items() if last > number}

    def came_or_went(self, number: int) -> bool:
        """Whether there are other containers, or others' names, than after that event."""
        return self._came_or_went > number

    def lost(self, number: int) -> bool:
        """Whether events may have been missed after that one."""
        return self._lost > number

    def note(self, event: Event) -> None:
        """This has happened; once more, if the stream was opened again: it ends the same.

        Then it may also be older than this, for somebody who has listened for longer: what stopped
        before is no doing of anybody now.
        """
        if event.labels.get(self._label) != self.project:
            return
        self.number += 1
        self._touched[event.id] = self.number
        if event.action in {"create", "destroy", "rename"}:
            self._came_or_went = self.number
        if event.at >= self.since:  # if not, that it was touched is enough: a clock may be set
            self._take(event)
        self.wake()

    def _take(self, event: Event) -> None:
        if event.action == "create":
            self.made.add(event.id)
        elif event.stops:
            self.stopped.add(event.id)
            self.undone = self.undone or event.id in self.made
        elif event.action in {"start", "destroy"}:
            self.stopped.discard(event.id)

    def miss(self) -> None:
        """Events were lost: a look at all containers has to follow."""
        self.number += 1
        self._lost = self.number
        self.wake()

    def quiet(self) -> None:
        """What happens from now on ends the next wait."""
        self._changed = anyio.Event()

    def wake(self) -> None:
        """Something has happened."""
        self._changed.set()

    async def wait(self, timeout_s: float) -> None:
        """Until something has happened since it was :meth:`quiet`."""
        with anyio.move_on_after(timeout_s):
            await self._changed.wait()


class Listener:
    """The stream runs in ``group``; without it all takes a little longer.

    ``label`` is by which containers say of which project they are.
    """

    def __init__(self, engine: Engine, group: TaskGroup, label: str = PROJECT) -> None:
        self._engine = engine
        self._group = group
        self._label = label
        self._activities: list[Activity] = []
        self._scope: anyio.CancelScope | None = None

    @asynccontextmanager
    async def hear(self, project: str) -> AsyncIterator[Activity]:
        """What happens to the project from now on, for as long as the block lasts."""
        activity = Activity(project, time.time(), self._label)
        self._activities.append(activity)
        if self._scope is None:
            self._scope = anyio.CancelScope()
            self._group.start_soon(self._listen, self._scope)
        try:
            yield activity
        finally:
            self._activities.remove(activity)
            if self._scope is not None and not self._activities:
                self._scope.cancel()
                self._scope = None

    async def _listen(self, scope: anyio.CancelScope) -> None:
        guard = Guard("watching what is deployed", log, longest_s=_RECONNECT_S)
        with scope:
            await guard.forever(partial(self._watch, guard))

    async def _watch(self, guard: Guard) -> None:
        try:
            since = min((each.since for each in self._activities), default=time.time())
            await self._engine.watch(self._note, guard.recovered, since=since)
        finally:
            for activity in self._activities:
                activity.miss()

    def _note(self, event: Event) -> None:
        for activity in self._activities:
            activity.note(event)

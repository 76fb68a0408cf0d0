"""What the engine tells of one project while its release is started and waited for."""

from __future__ import annotations

import logging
import time
from functools import partial

import anyio

from agent.adapters.engine.engine import Engine, Event
from agent.adapters.guard import Guard

log = logging.getLogger("commitd.gate")

_RECONNECT_S = 1.0


class Activity:
    """``stopped`` are the IDs of containers that somebody told to end, and did not start again.

    ``made`` are those that were made meanwhile. It was ``undone`` when one of these was told to
    end: Compose ends older ones.
    """

    def __init__(self) -> None:
        self.stopped: set[str] = set()
        self.undone = False
        self.made: set[str] = set()
        self._changed = anyio.Event()

    async def listen(self, engine: Engine, project: str) -> None:
        """For ever; without the engine's stream all takes a little longer.

        A stream that is opened again tells all of it once more: it ends the same.
        """
        guard = Guard(f"watching {project}", log, longest_s=_RECONNECT_S)
        watch = partial(engine.watch, self._note, guard.recovered, project, since=time.time())
        await guard.forever(watch)

    def _note(self, event: Event) -> None:
        if event.action.startswith("exec_"):
            return  # of health checks: what comes of one is an event of its own
        if event.action == "create":
            self.made.add(event.id)
        elif event.stops:
            self.stopped.add(event.id)
            self.undone = self.undone or event.id in self.made
        elif event.action in {"start", "destroy"}:
            self.stopped.discard(event.id)
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

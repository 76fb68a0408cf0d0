"""Watch the engine's events: evict undeclared containers at once, wake a cycle for the rest."""

from __future__ import annotations

from collections.abc import Callable

from anyio.abc import TaskGroup

from agent.adapters.engine import events
from agent.adapters.engine.engine import Engine
from agent.adapters.engine.events import Event
from agent.adapters.guard import Guard
from agent.control.reconcile.listing import Observer
from agent.control.undeclared.evict import Evictor
from agent.control.undeclared.protection import Protection
from agent.control.undeclared.watching import MOST_PENDING, Watching, log
from agent.domain.container import PROJECT


class Watcher(Watching):
    """Of one engine's containers.

    Until the protection set is ready it is unknown what is declared: everything is left to the
    cycle.
    """

    def __init__(
        self,
        engine: Engine,
        evictor: Evictor,
        protection: Protection,
        observer: Observer,
        wake: Callable[[str], None],
        *,
        resync_s: float,
    ) -> None:
        super().__init__(engine, protection, observer, wake, resync_s=resync_s, filters=events.ALL)
        self._evictor = evictor
        self._observer = observer
        self._pending: set[str] = set()

    def _handle(self, event: Event, group: TaskGroup) -> None:
        """Never waits: a slow reader would lose events and slow the engine down."""
        if self._engine.helpers.knows(event.id):
            return  # or a cycle that decrypts would wake the next one
        stopped = self._protection.stopped
        if event.action == "kill":
            if event.stops and len(stopped) < MOST_PENDING:
                stopped.add(event.id)
            return
        self._observer.forget(event.id)
        if event.action in {"die", "pause"}:
            self._observer.ended(event.id)
        if event.network is not None:
            if project := self._observer.declared.get(event.id):
                self._look(f"{event.id[:12]}: {event.action} {event.network}", project)
            return
        if event.action in {"start", "destroy"}:
            stopped.discard(event.id)
        if event.action == "start":
            self._started(event, group)
        elif not self._evictor.suspects(event.container()):
            self._look(f"{event.name}: {event.action}", event.labels.get(PROJECT))

    def _started(self, event: Event, group: TaskGroup) -> None:
        if not self._protection.ready:
            # The first cycle may have listed the containers before this one was there.
            self._look(f"{event.name}: started before the first look was done")
        elif not (self._evictor.suspects(event.container()) or self._unknown(event)):
            if event.id in self._observer.owners:
                self._look(f"{event.name}: started, and others share its namespaces")
        elif event.id not in self._pending:
            if len(self._pending) >= MOST_PENDING:
                self._look("more starts than can be looked at one by one")
            else:
                self._pending.add(event.id)
                group.start_soon(self._evict, event)

    async def _evict(self, event: Event) -> None:
        try:
            await self._evictor.evict(event.id)
        except Exception as err:  # noqa: BLE001  the cycle evicts it, or says why not
            Guard(f"evicting {event.name}", log).note(err, "; the next cycle tries again")
            self._look("an eviction failed")
        finally:
            self._pending.discard(event.id)
            if self._unknown(event):  # one that took another's place is drift
                project = event.labels.get(PROJECT)
                self._look(f"{event.name}: started, and no deploy made it", project)

    def _unknown(self, event: Event) -> bool:
        return self._evictor.unknown(event.container())

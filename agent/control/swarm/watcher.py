"""Watch a Swarm's events: evict undeclared services at once, wake a cycle for the rest.

Each manager hears of all services and nodes; what the one that does not lead starts for it comes to
nothing (:class:`ServiceEvictor`).
"""

from __future__ import annotations

from collections.abc import Callable

from anyio.abc import TaskGroup

from agent.adapters.engine import events
from agent.adapters.engine.engine import Engine
from agent.adapters.engine.events import Event
from agent.adapters.guard import Guard
from agent.control.swarm.evict import ServiceEvictor
from agent.control.undeclared.protection import Protection
from agent.control.undeclared.watching import MOST_PENDING, Listening, Watching, log


class ServiceWatcher(Watching):
    """An event tells a service's name alone: whose it is, only a look at it does."""

    def __init__(
        self,
        engine: Engine,
        evictor: ServiceEvictor,
        protection: Protection,
        observer: Listening,
        wake: Callable[[str], None],
        *,
        resync_s: float,
    ) -> None:
        super().__init__(
            engine, protection, observer, wake, resync_s=resync_s, filters=events.OF_SWARM
        )
        self._evictor = evictor
        self._pending: dict[str, bool] = {}
        """IDs of services that are being looked at; whether more came of one meanwhile."""

    def _handle(self, event: Event, group: TaskGroup) -> None:
        what = f"{event.kind} {event.name}: {event.action}"
        if event.kind != "service" or event.action == "remove" or not self._protection.ready:
            self._look(what, self._stack_of(event.name))
        elif event.id in self._pending:
            self._pending[event.id] = True
        elif len(self._pending) >= MOST_PENDING:
            self._look("more changes than can be looked at one by one")
        else:
            self._pending[event.id] = True
            group.start_soon(self._evict, event, what)

    async def _evict(self, event: Event, what: str) -> None:
        try:
            while self._pending[event.id]:
                self._pending[event.id] = False
                await self._evictor.evict(event.id)
        except Exception as err:  # noqa: BLE001  the cycle evicts it, or says why not
            Guard(f"evicting the service {event.name}", log).note(
                err, "; the next cycle tries again"
            )
            self._look("an eviction failed")
        finally:
            del self._pending[event.id]
        if stack := self._stack_of(event.name):  # a change of what is declared is drift
            self._look(what, stack)

    def _stack_of(self, name: str) -> str | None:
        """The stack whose service has that name, if it is one that is declared."""
        found = [
            stack for stack in self._protection.protected.services if name.startswith(f"{stack}_")
        ]
        return max(found, key=len, default=None)

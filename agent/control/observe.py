"""Looking at the engine: one listing, and an inspect of those of which that does not tell enough.

What an inspect showed is remembered for as long as events would tell of a change, so that a look
which finds nothing new is one request.
"""

from __future__ import annotations

import anyio.to_thread

from agent.adapters.containers import from_inspect
from agent.adapters.engine import Engine
from agent.adapters.journal import Journal
from agent.domain import namespaces
from agent.domain.container import Container


class Observer:
    """For the cycle. ``owners`` are the IDs of containers whose namespaces others share."""

    def __init__(self, engine: Engine, journal: Journal) -> None:
        self._engine = engine
        self._journal = journal
        self._seen: dict[str, Container | None] = {}
        self._listening = False
        self._times = 0
        self._changes: dict[int, set[str]] = {}
        """For each look that goes on, by its number, what has changed since it began."""
        self.owners: frozenset[str] = frozenset()

    def listen(self, *, on: bool) -> None:
        """Whether events tell of every change from now on; what was seen before is forgotten."""
        self._listening = on
        self._seen = {}
        self._changes = {}

    def forget(self, container_id: str) -> None:
        """An event says that it changed."""
        self._seen.pop(container_id, None)
        for changed in self._changes.values():
            changed.add(container_id)

    async def containers(self) -> tuple[Container, ...]:
        """All containers. Raises :class:`CommitdError`."""
        releases = await anyio.to_thread.run_sync(self._journal.releases)
        joining = namespaces.joining(releases.values())
        number = self._times = self._times + 1
        self._changes[number] = set()
        seen = dict(self._seen) if self._listening else {}
        try:
            found = await look(self._engine, joining, seen)
        finally:
            changed = self._changes.pop(number, None)
        self.owners = namespaces.owners(found, joining, seen)
        there = {container.id for container in found}
        # Not if the events began anew meanwhile: what was seen may be older than they are.
        if changed is None or not self._listening:
            self._seen = {}
        else:
            self._seen = {k: v for k, v in seen.items() if v and k in there - changed}
        return found


async def look(
    engine: Engine, joining: namespaces.Services, seen: dict[str, Container | None]
) -> tuple[Container, ...]:
    """All containers, inspecting those that ``seen`` does not have yet and adding them to it."""
    listed = await engine.containers()
    while missing := namespaces.unseen(listed, joining, seen):
        for container_id in sorted(missing):
            raw = await engine.inspect(container_id)
            seen[container_id] = from_inspect(raw) if raw else None
    return namespaces.marked(listed, joining, seen)

"""Looking at the engine: one listing, and an inspect of those of which that does not tell enough.

What an inspect showed is remembered for as long as events would tell of a change, so that a look
which finds nothing new is one request. Without events only those are inspected of which nothing
else would show that they are cut off from their namespaces.

The engine says that a container has ended, or is paused, before its listing shows it (70 to 270 ms
on a busy machine). An inspect waits for that; so one comes before another listing, where the first
one still shows such a container as running.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from msgspec.structs import replace

from agent.adapters.engine.containers import from_inspect
from agent.adapters.engine.engine import Engine
from agent.adapters.state.async_journal import AsyncJournal
from agent.domain.container import Container
from agent.domain.release import namespaces
from agent.domain.release.namespaces import Services


class Observer:
    """For the cycle.

    ``owners`` are the IDs of containers whose namespaces others share, ``declared`` those of
    containers that belong to a release, with its stack, as they were at the last look.
    """

    def __init__(self, engine: Engine, journal: AsyncJournal) -> None:
        self._engine = engine
        self._journal = journal
        self._seen: dict[str, Container | None] = {}
        self._found: tuple[Container, ...] = ()
        self._listening = False
        self._opened = 0.0
        self._times = 0
        self._ended: set[str] = set()
        """IDs of containers whose end or pause was an event since the last listing."""
        self._changes: dict[int, set[str]] = {}
        """For each look under way, by its number, what has changed since it began."""
        self.owners: frozenset[str] = frozenset()
        self.declared: dict[str, str | None] = {}

    def listen(self, *, on: bool) -> None:
        """Whether events tell of every change from now on; what was seen before is forgotten.

        When a stream of events only follows another one, that is what could leave a container cut
        off: a stream can fall silent without a word.
        """
        follows = self._listening and on
        self._listening, self._opened = on, time.monotonic()
        self._seen = {k: v for k, v in self._seen.items() if v and not v.joins} if follows else {}
        for owner in self.owners:
            self._seen.pop(owner, None)
        self._changes = {}

    def stream_age(self) -> float | None:
        """How many seconds ago the stream of events was opened; None: there is none now."""
        return time.monotonic() - self._opened if self._listening else None

    def forget(self, container_id: str) -> None:
        """An event says that it changed."""
        self._seen.pop(container_id, None)
        for changed in self._changes.values():
            changed.add(container_id)

    def ended(self, container_id: str) -> None:
        """An event says that it does not run any more."""
        self._ended.add(container_id)

    async def containers(self) -> tuple[Container, ...]:
        """All containers. Raises :class:`CommitdError`."""
        releases = (await self._journal.releases()).values()
        joining = namespaces.joining(releases)
        known = {(r.stack, s.name) for r in releases for s in r.services if s.settings is not None}
        number = self._times = self._times + 1
        self._changes[number] = set()
        seen = dict(self._seen) if self._listening else {}
        ended, self._ended = self._ended, set()
        try:
            listed = await _settled(self._engine, ended)
            found = await look(
                self._engine, joining, seen, known if self._listening else (), listed
            )
        except BaseException:
            self._ended |= ended
            raise
        finally:
            changed = self._changes.pop(number, None)
        self.owners = namespaces.owners(found, joining, seen)
        names = {(release.stack, s.name) for release in releases for s in release.services}
        self.declared = {c.id: c.project for c in found if (c.project, c.service) in names}
        there = {container.id for container in found}
        # Not if the events began anew meanwhile: what was seen may be older than they are.
        if changed is None or not self._listening:
            self._seen = {}
        else:
            self._seen = {k: v for k, v in seen.items() if v and k in there - changed}
        if found != self._found:  # equal ones are the same, so that nobody compares them again
            self._found = found
        return self._found


async def look(
    engine: Engine,
    joining: Services,
    seen: dict[str, Container | None],
    known: Collection[tuple[str | None, str | None]] = (),
    listed: tuple[Container, ...] | None = None,
) -> tuple[Container, ...]:
    """All containers, inspecting those that ``seen`` does not have yet and adding them to it.

    ``joining`` are the services that run in namespaces of others, ``known`` those whose settings
    are to be compared, ``listed`` what a listing has shown just now.
    """
    if listed is None:
        listed = await engine.containers()
    mine = {c.id for c in listed if c.state == "running" and (c.project, c.service) in known}
    while missing := (mine - seen.keys()) | namespaces.unseen(listed, joining, seen):
        for container_id in sorted(missing):
            raw = await engine.inspect(container_id)
            seen[container_id] = from_inspect(raw) if raw else None
    return tuple(
        replace(container, settings=inspected.settings)
        if (inspected := seen.get(container.id))
        else container
        for container in namespaces.marked(listed, joining, seen, time.time())
    )


async def _settled(engine: Engine, ended: Collection[str]) -> tuple[Container, ...]:
    """All containers by a listing that is not older than the end of these."""
    listed = await engine.containers()
    late = [c.id for c in listed if c.id in ended and c.state == "running"]
    for container_id in late:
        await engine.inspect(container_id)
    return await engine.containers() if late else listed

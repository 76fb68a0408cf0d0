"""Starting what was only stopped, killed or paused of a release, through the engine, by its ID.

    listing ─▶ waves: which, in which order ─▶ where their mounts lead ─▶ start ─▶ listing: they run
       │ not simple, or the engine cannot start one
       └──────────────────────────────────────────▶ None: Compose has to see to it

No container is made, so nothing is resolved, judged or pulled again, and what the journal knows of
the release stays as it is.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable

import anyio.to_thread
from msgspec import Struct

from agent.adapters.engine import resources
from agent.adapters.engine.containers import binds_of, volumes_of
from agent.adapters.engine.engine import Engine
from agent.adapters.tasks import task_group
from agent.control.health.awaited import STOPPING
from agent.control.retry import Attempts
from agent.control.stack.starts import Starts
from agent.domain.container import Container
from agent.domain.errors import (
    CancelledError,
    PermanentError,
    TransientError,
    UnreachableError,
)
from agent.domain.release import drift, revival
from agent.domain.release.release import Release

log = logging.getLogger("commitd.deploy")

_OFTEN, _OFTEN_S = 30, 60.0
"""As many in as many seconds no person does: two tools fight over the stack."""


class Revived(Struct, frozen=True):
    """All of a release runs again. ``why`` counts towards a backoff; None: people did it."""

    why: str | None


class Reviver:
    """``stopped`` are the IDs of containers that somebody was heard to stop.

    ``foreign_link`` is the link on the way to a mount that is neither Git's nor the agent's. While
    ``unsettled`` the files that are mounted may be those of two commits.
    """

    def __init__(
        self,
        engine: Engine,
        starts: Starts,
        attempts: Attempts,
        foreign_link: Callable[[str], str | None],
        *,
        stopped: Callable[[], Collection[str]],
        stopping: Callable[[], bool],
        unsettled: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._attempts = attempts
        self._foreign_link = foreign_link
        self._stopped = stopped
        self._stopping = stopping
        self._unsettled = unsettled
        self._starts = starts
        self._times: dict[str, deque[float]] = {}

    async def revive(self, release: Release) -> Revived | None:
        """Have all of the release run again; None: that takes Compose.

        Raises :class:`CommitdError`, also when one ends at once.
        """
        name, stopped = release.stack, frozenset(self._stopped())
        if self._unsettled():
            return None
        waves = revival.waves(release, await self._engine.containers(name), stopped)
        if waves is None:
            return None
        started = [container for wave in waves for container in wave]
        alone = [c for c in started if c.state != "paused" and c.id not in stopped]
        try:
            for wave in waves:
                await self._start_all(name, wave)
        except UnreachableError:
            raise
        except (TransientError, PermanentError) as err:
            log.info("%s: it cannot be started as it is: %s", name, err)
            return None
        if not started:
            return Revived(None)
        await self._see_to(release, started)
        if alone:
            return Revived(f"{alone[0].name} had ended, and nobody was heard to stop it")
        if self._often(name):
            return Revived(f"{started[0].name} is stopped again and again")
        return Revived(None)

    async def _start_all(self, name: str, wave: Iterable[Container]) -> None:
        if self._stopping():
            raise CancelledError(STOPPING)
        await self._attempts.refuse_suspended(name)
        async with task_group() as group:
            for container in wave:
                group.start_soon(self._start, container)

    async def _start(self, container: Container) -> None:
        async with self._starts.taken():
            if container.state == "paused":
                await self._engine.unpause(container.id)
                return
            raw = await self._engine.inspect(container.id) or {}
            volumes = await resources.volumes(self._engine, volumes_of(raw))
            devices = {str((v.get("Options") or {}).get("device") or "") for v in volumes}
            sources = binds_of(raw) | devices
            await anyio.to_thread.run_sync(self._refuse_foreign_links, container, sources)
            await self._starts.start(container)
        log.debug("%s: %s runs again", container.project, container.name)

    def _refuse_foreign_links(self, container: Container, sources: Iterable[str]) -> None:
        """The engine follows links at each start. Blocks."""
        for source in sorted(sources):
            if link := self._foreign_link(source):
                raise PermanentError(
                    f"{container.name}: {link} is a symlink that is not in Git; its target would "
                    "be mounted"
                )

    async def _see_to(self, release: Release, started: Collection[Container]) -> None:
        """Look at what was started: a return code is no process that runs."""
        ids = {container.id for container in started}
        services = {service.name: service for service in release.services}
        there = {c.id: c for c in await self._engine.containers(release.stack) if c.id in ids}
        for before in started:
            now = there.get(before.id)
            if now is None:
                raise TransientError(f"{before.name} was removed while it was started")
            if drift.is_down(services[now.service or ""], now, ()):
                if now.state == "paused":  # nothing but an order pauses one
                    raise CancelledError(f"{now.name} was paused again from outside")
                if now.id in self._stopped():
                    raise CancelledError(f"{now.name} was stopped again from outside")
                raise TransientError(f"{now.name} was started and {_ended(now)}")

    def _often(self, name: str) -> bool:
        """Count one more time; whether that is too often."""
        now, times = time.monotonic(), self._times.setdefault(name, deque())
        times.append(now)
        while now - times[0] > _OFTEN_S:
            times.popleft()
        return len(times) > _OFTEN


def _ended(container: Container) -> str:
    if container.state == "exited" and container.exit_code is not None:
        return f"has ended with {container.exit_code}"
    return f"is {container.state}"

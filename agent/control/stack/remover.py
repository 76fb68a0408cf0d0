"""Removing what is declared no more: services of a stack, and whole stacks. Volumes stay."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from agent.adapters.compose.compose import Compose
from agent.adapters.engine.containers import stop_limit, volumes_of
from agent.adapters.engine.engine import Engine
from agent.adapters.state.async_journal import AsyncJournal
from agent.control.stack.ready import Ready
from agent.control.stack.stepping import Stepping
from agent.domain.container import Container
from agent.domain.errors import PermanentError, TransientError
from agent.domain.outcome import Action, Reason, kept_volumes
from agent.domain.reconcile import removal
from agent.domain.reconcile.plan import grace_left
from agent.domain.resources import exclusive
from agent.domain.revision import Revision

log = logging.getLogger("commitd.stacks")

STOP_S = 10
"""For a service that left to end by itself."""
_HALF_S = 30.0
"""For a person's Compose to put a new container in the place of one that has stopped."""


class Remover(Stepping):
    """One try at a time, without retry. ``stacks_dir`` is the checkout's ``stacks``, absolute."""

    def __init__(
        self,
        compose: Compose,
        engine: Engine,
        journal: AsyncJournal,
        pulse: Callable[[], None],
        stacks_dir: str,
    ) -> None:
        super().__init__(pulse)
        self._compose = compose
        self._engine = engine
        self._journal = journal
        self._stacks_dir = stacks_dir

    async def make_room(
        self,
        ready: Ready,
        containers: Collection[Container],
        left: Collection[str],
        revision: Revision,
        *,
        doubt: bool,
    ) -> None:
        """End those of its ``containers`` that have what it wants now, of services that ``left``.

        Compose makes what is new before anybody ends what left. Unless there is ``doubt`` about
        what is declared, so go those of services that a failed try has left behind. Raises
        :class:`CommitdError`.
        """
        gone = self._gone(ready, left, containers, doubt=doubt)
        if not gone:
            return
        wants = frozenset().union(*(service.wants for service in ready.services.values()))
        exempt = await self._journal.granted(self._journal.now())
        for container in removal.own(containers, gone, exempt):
            raw = await self._engine.inspect(container.id)
            if raw and (found := exclusive.in_the_way(exclusive.had(raw), wants)):
                what = ", ".join(found)
                await self._step(self._drop(container, revision, Reason.IN_THE_WAY, what))

    async def prune_services(
        self, ready: Ready, left: Collection[str], revision: Revision, *, doubt: bool
    ) -> None:
        """Remove the services that ``left`` the stack, now that the new release is healthy.

        In ``doubt`` about what is declared, and of what a failed try has left behind, only
        containers that do not run anyway: who runs is evicted, if nobody declared it. Volumes
        stay. Raises :class:`CommitdError`.
        """
        containers = await self._engine.containers(ready.stack.name)
        gone = self._gone(ready, left, containers, doubt=doubt)
        if not gone:
            return
        exempt = await self._journal.granted(self._journal.now())
        for container in removal.own(containers, gone, exempt):
            if not container.alive or (container.service in left and not doubt):
                await self._step(self._drop(container, revision, Reason.SERVICE_LEFT))

    def _gone(
        self, ready: Ready, left: Collection[str], containers: Collection[Container], *, doubt: bool
    ) -> set[str]:
        """The services that left, and those that a failed try has left behind."""
        place = self._place(ready.stack.name)
        over = () if doubt else removal.left_over(containers, place, ready.stack)
        return {*left, *over} - ready.services.keys()

    def _place(self, project: str) -> str:
        return f"{self._stacks_dir}/{project}"

    async def _drop(
        self, container: Container, revision: Revision, why: Reason, detail: str | None = None
    ) -> None:
        volumes = volumes_of(await self._engine.inspect(container.id) or {})
        kept = kept_volumes(volumes)
        async with self._journal.recording(
            Action.EVICT, container.name, why, detail=detail, causes=kept, revision=revision.sha
        ):
            await self._engine.set_restart(container.id, {"Name": "no"})
            await self._engine.stop(container.id, STOP_S)
            await self._engine.remove(container.id)

    async def drop_rival(self, container: Container, revision: Revision) -> None:
        """Remove a container that does not run and that Compose would keep for one of the stack's.

        Raises :class:`CommitdError`, of which :class:`TransientError` if the engine refuses:
        somebody may have started it again just now, which is no fault of the release.
        """
        detail = f"Compose would take it for one of {container.service}, also while it is kept"
        try:
            await self._step(self._drop(container, revision, Reason.UNKNOWN_CONTAINER, detail))
        except PermanentError as err:
            raise TransientError(f"{container.name}: {err.message}") from None

    async def half_left(self, half: Container, old: Collection[Container]) -> float:
        """For how many seconds whoever recreates an ``old`` container may still need its new half.

        Counted from when that was first seen. The old one may take as long to stop as its file
        says. Raises :class:`CommitdError`.
        """
        raws = [await self._engine.inspect(container.id) or {} for container in old]
        longest_s = max(map(stop_limit, raws), default=0.0)
        now = self._journal.now()
        since = await self._journal.first_seen(half.id, now)
        return grace_left(since, now, longest_s + _HALF_S)

    async def clear_hooks(self, project: str) -> None:
        """Remove the containers of hooks that do not run: Compose leaves one that has failed.

        Raises :class:`CommitdError`.
        """
        for container in await self._engine.containers(project):
            if container.hook and not container.alive:
                await self._step(self._engine.remove(container.id))
                log.info("%s: removed %s, which has ended", project, container.name)

    async def volumes(self, project: str) -> list[str]:
        """All volumes of the project, also those without a name of their own."""
        found = set(await self._engine.volumes(project))
        for container in await self._engine.containers(project):
            found |= set(volumes_of(await self._engine.inspect(container.id) or {}))
        return sorted(found)

    async def take_down(self, project: str, revision: Revision) -> None:
        """Take a project down, and look whether it is gone; its volumes stay.

        Containers that merely claim to be of the project are left to be judged for themselves,
        and with them its networks.
        """
        releases = await self._journal.releases()
        exempt = await self._journal.granted(self._journal.now())
        release, found = releases.get(project), await self._engine.containers(project)
        services = {service.name for service in release.services} if release else set()
        its = removal.of_stack(found, services, self._place(project))
        mine = removal.own(its, None, exempt)
        if len(mine) == len(found):
            await self._step(self._compose.down(project))
        else:
            others = ", ".join(c.name for c in found if c not in mine)
            log.warning("%s: not of the stack, and left: %s", project, others)
            for container in mine:
                await self._step(self._drop(container, revision, Reason.LEFT))
        still = {c.id for c in await self._engine.containers(project) if c.alive}
        if left := [c.name for c in mine if c.id in still]:
            raise TransientError(f"still running after it was taken down: {', '.join(left)}")

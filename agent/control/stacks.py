"""What bringing one stack up, or taking it down, consists of."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import TypeVar

import anyio.to_thread

from agent.adapters.compose import Compose
from agent.adapters.containers import binds_of, volumes_of
from agent.adapters.engine import AbsentError, Engine
from agent.adapters.journal import Journal
from agent.adapters.tasks import to_the_end
from agent.control import notes, ports, unsound
from agent.control.readjust import readjust
from agent.control.ready import Ready
from agent.control.secrets import SecretKeeper
from agent.domain import drift, removal
from agent.domain.container import Container, CutOff
from agent.domain.errors import CommitdError, PermanentError, TransientError
from agent.domain.gate import Expected
from agent.domain.model import Cause, Revision, Stack, Status

log = logging.getLogger("commitd.stacks")

_Result = TypeVar("_Result")

STOP_S = 10
"""For a service that left to end by itself."""


class Stacks:
    """One try at a time, without retry; ``pulse`` is told whenever a step begins or ends."""

    def __init__(
        self,
        compose: Compose,
        engine: Engine,
        journal: Journal,
        secrets: SecretKeeper,
        pulse: Callable[[], None],
    ) -> None:
        self._compose = compose
        self._engine = engine
        self._journal = journal
        self._secrets = secrets
        self._pulse = pulse

    async def _step(self, work: Awaitable[_Result]) -> _Result:
        """One bounded piece of work; its beginning and its end are signs of life."""
        self._pulse()
        try:
            return await work
        finally:
            self._pulse()

    async def prepare(self, stack: Stack) -> Ready:
        """Read the stack as Compose resolves it; touches nothing. Raises :class:`CommitdError`."""
        await notes.tell(stack, self._journal, self._engine)
        invocation = await self._secrets.invocation(stack)
        accepted = await self._step(self._compose.accept(invocation))
        return Ready(stack, accepted.invocation, accepted.services, accepted.resources)

    async def make(self, ready: Ready) -> list[Container]:
        """Create and recreate what differs, from images that are here; the containers then.

        All of it is started as well, unless services wait for each other. Raises
        :class:`CommitdError`.
        """
        if not ready.services:  # Compose would take that for a mistake
            log.info("%s: there is nothing to run", ready.stack.name)
            return await self.containers(ready.stack.name)
        await self._unpause(ready.stack.name)
        try:
            await self._make(ready)
        except CommitdError as err:
            if not await self.mend(ready):
                raise await ports.explained(self._engine, err) from None
            await self._make(ready)
        return await self._named_right(ready.stack.name, ready.services)

    async def _make(self, ready: Ready) -> None:
        if ready.waits:
            # Only the waiting may be cut short: a container that was half recreated is gone.
            await self._step(self._compose.create(ready.invocation))
        else:
            await self._step(self._compose.up(ready.invocation))

    async def recreate(self, ready: Ready, services: Iterable[str]) -> list[Container]:
        """Replace the containers of these services by equal ones; those there are then.

        Like all others they are not started yet if services wait for each other.
        """
        for service in services:
            again = self._compose.recreate(ready.invocation, service, start=not ready.waits)
            await self._step(again)
        return await self._named_right(ready.stack.name, ready.services)

    async def mend(self, ready: Ready) -> bool:
        """Replace the containers that no start brings back; whether there are any."""
        stuck = await unsound.unstartable(self._engine, ready.stack.name, ready.services)
        for service in stuck:
            await self._step(self._compose.recreate(ready.invocation, service, start=False))
        return bool(stuck)

    async def start(self, ready: Ready, limit_s: float) -> None:
        """Start services that wait for each other, for ``limit_s`` at most.

        Then raises :class:`StillWaitingError`; and :class:`PermanentError` when one of those that
        others wait for is not well, which it still may become.
        """
        try:
            await self._step(self._compose.start(ready.invocation, limit_s))
        except CommitdError as err:
            raise await ports.explained(self._engine, err) from None

    async def put_back(self, ready: Ready, replaced: Collection[str]) -> list[Container]:
        """Have again what somebody else removed, stopped or paused; the containers there are then.

        Services whose containers somebody ``replaced`` look right to Compose by their labels.
        Raises :class:`CommitdError`.
        """
        await self.recreate(ready, replaced)
        return await self.make(ready)

    async def reaction(
        self,
        ready: Ready,
        service: str,
        containers: Iterable[Container],
        older: Collection[tuple[str, str]],
    ) -> str:
        """What has the service notice that its mounted files have changed.

        Compose does not see either that a config or a secret has another file now: which that is
        was settled when the container was made.
        """
        for container in containers:
            raw = await self._engine.inspect(container.id) or {}
            if set(ready.services[service].mounts) - binds_of(raw):
                return "recreate"
        return ready.reaction(service, older)

    async def cut_off(self, ready: Ready) -> dict[str, CutOff]:
        """As :func:`unsound.cut_off`."""
        return await unsound.cut_off(self._engine, ready.stack.name, ready.services)

    async def readjust(self, ready: Ready, containers: Iterable[Container]) -> set[str]:
        """As :func:`readjust.readjust`, by the last release."""
        releases = await anyio.to_thread.run_sync(self._journal.releases)
        release = releases.get(ready.stack.name)
        recorded = {service.name: service for service in release.services} if release else {}
        found = await readjust(self._engine, containers, recorded)
        return found & ready.services.keys()

    async def react(
        self, ready: Ready, service: str, containers: Iterable[Container], how: str
    ) -> None:
        """Have a service notice that its mounted files have changed."""
        if how == "recreate":
            await self._step(self._compose.recreate(ready.invocation, service))
        for container in containers:
            if container.service != service or container.one_off or not container.alive:
                continue
            try:
                if how == "restart":
                    await self._step(self._engine.restart(container.id))
                elif how.startswith("signal:"):
                    await self._engine.signal(container.id, how.removeprefix("signal:"))
            except AbsentError as err:  # somebody removed it just now: no fault of the release
                raise TransientError(err.message) from None

    async def containers(self, project: str) -> list[Container]:
        """All of the project, running or not."""
        return list(await self._engine.containers(project))

    async def _unpause(self, project: str) -> None:
        """Compose leaves a paused container as it is."""
        for container in await self.containers(project):
            if container.state == "paused" and not container.one_off:
                await self._step(self._engine.unpause(container.id))

    async def _named_right(self, project: str, model: Mapping[str, Expected]) -> list[Container]:
        """The project's containers, after those got their names back that Compose leaves wrong."""
        containers = await self.containers(project)
        wrong: list[tuple[Container, str]] = []
        for container in containers:
            service = model.get(container.service or "")
            if service and not container.one_off:
                name = drift.right_name(project, service.container_name, container)
                wrong += [(container, name)] if name != container.name else []
        for container, name in wrong:
            try:
                await self._step(self._engine.rename(container.id, name))
            except PermanentError as err:  # it runs all the same, and shows as drift
                log.warning("%s: %s is to be called %s: %s", project, container.name, name, err)
            else:
                log.info("%s: %s is called %s again", project, container.name, name)
        return await self.containers(project) if wrong else containers

    async def drop_left(self, ready: Ready, revision: Revision) -> None:
        """End the services that the last release had and this one, which is well, has not.

        Their volumes stay. Raises :class:`CommitdError`.
        """
        stack = ready.stack
        before = (await anyio.to_thread.run_sync(self._journal.releases)).get(stack.name)
        older = {service.name for service in before.services} if before else set()
        left = older - ready.services.keys()
        if not left:
            return
        exempt = await anyio.to_thread.run_sync(self._journal.undone, time.time())
        for container in removal.own(await self.containers(stack.name), left, exempt):
            await self._step(self._drop(container, revision, "its service left the stack"))
            log.info("%s: %s left its stack", stack.name, container.name)

    async def _drop(self, container: Container, revision: Revision, why: str) -> None:
        volumes = volumes_of(await self._engine.inspect(container.id) or {})
        kept = [Cause(f"volume {name}", "kept", "kept") for name in volumes]
        number = await anyio.to_thread.run_sync(
            lambda: self._journal.begin(
                "evict", container.name, why, cause=kept, revision=revision.sha
            )
        )
        started = time.monotonic()
        status, error = Status.CANCELLED, None
        try:
            await self._engine.set_restart(container.id, {"Name": "no"})
            await self._engine.stop(container.id, STOP_S)
            await self._engine.remove(container.id)
            status = Status.SUCCEEDED
        except CommitdError as err:
            status, error = Status.FAILED, str(err)
            raise
        finally:
            duration_s = time.monotonic() - started
            await to_the_end(
                lambda: self._journal.finish(number, status, duration_s=duration_s, error=error)
            )

    async def clear_hooks(self, project: str) -> None:
        """Remove the containers of hooks that do not run: Compose leaves one that has failed.

        Raises :class:`CommitdError`.
        """
        for container in await self.containers(project):
            if container.hook and not container.alive:
                await self._step(self._engine.remove(container.id))
                log.info("%s: removed %s, which has ended", project, container.name)

    async def volumes(self, project: str) -> list[str]:
        """All volumes of the project, also those without a name of their own."""
        found = set(await self._engine.volumes(project))
        for container in await self.containers(project):
            found |= set(volumes_of(await self._engine.inspect(container.id) or {}))
        return sorted(found)

    async def take_down(self, project: str, revision: Revision) -> None:
        """Take a project down, and look whether it is gone; its volumes stay.

        Containers that merely claim to be of the project are left to be judged for themselves,
        and with them its networks.
        """
        releases = await anyio.to_thread.run_sync(self._journal.releases)
        exempt = await anyio.to_thread.run_sync(self._journal.undone, time.time())
        release, found = releases.get(project), await self.containers(project)
        services = {service.name for service in release.services} if release else None
        mine = removal.own(found, services, exempt)
        if len(mine) == len(found):
            await self._step(self._compose.down(project))
        else:
            others = ", ".join(c.name for c in found if c not in mine)
            log.warning("%s: not of the stack, and left: %s", project, others)
            for container in mine:
                await self._step(self._drop(container, revision, "its stack left"))
        still = {c.id for c in await self.containers(project) if c.alive}
        if left := [c.name for c in mine if c.id in still]:
            raise TransientError(f"still running after it was taken down: {', '.join(left)}")

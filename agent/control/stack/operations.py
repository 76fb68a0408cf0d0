"""What bringing one stack up consists of."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping

import anyio.to_thread

from agent.adapters.compose.compose import Compose
from agent.adapters.engine.containers import binds_of
from agent.adapters.engine.engine import AbsentError, Engine
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.tasks import task_group
from agent.control.secrets.decrypt import SecretKeeper
from agent.control.stack import notes, port_owner, unsound
from agent.control.stack.kept_models import KeptModels
from agent.control.stack.readjust import readjust
from agent.control.stack.ready import Ready, accept
from agent.control.stack.starts import Starts
from agent.control.stack.stepping import Stepping
from agent.domain.compose.host_mounts import AgentPlaces
from agent.domain.container import Container, CutOff
from agent.domain.errors import CommitdError, PermanentError, TransientError
from agent.domain.outcome import Reload
from agent.domain.release import drift
from agent.domain.release.health import Expected
from agent.domain.repository import dependencies
from agent.domain.repository.desired import Stack

log = logging.getLogger("commitd.stacks")


class Stacks(Stepping):
    """One try at a time, without retry; ``pulse`` is told whenever a step begins or ends.

    ``agent`` are the directories of the agent on this host. While ``unsettled`` the files of the
    stacks may be those of two commits.
    """

    def __init__(
        self,
        compose: Compose,
        engine: Engine,
        journal: AsyncJournal,
        secrets: SecretKeeper,
        pulse: Callable[[], None],
        *,
        agent: AgentPlaces,
        unsettled: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(pulse)
        self._unsettled = unsettled
        self._agent = agent
        self._compose = compose
        self._engine = engine
        self._journal = journal
        self._secrets = secrets
        self._models = KeptModels(compose)
        self._noted: dict[str, str] = {}
        self.starts = Starts(engine)

    async def prepare(self, stack: Stack, *, ran: bool) -> Ready:
        """Read the stack as Compose resolves it; touches nothing. Raises :class:`CommitdError`.

        ``ran`` says that this release of it ran before.
        """
        if self._unsettled():
            raise TransientError(
                "a move of the checkout was cut short, so its files may be of two commits",
                where=f"stacks/{stack.name}",
            )
        await notes.tell(stack, self._journal, self._engine)
        invocation = await self._secrets.invocation(stack)
        return await self._step(
            accept(
                self._compose,
                invocation,
                models=self._models,
                agent=self._agent,
                ran=ran,
                noted_before=self._noted,
            )
        )

    async def hidden(self, stack: Stack) -> tuple[str, ...] | None:
        """As :meth:`SecretKeeper.hidden`."""
        return await self._secrets.hidden(stack)

    async def make(self, ready: Ready, there: Collection[Container]) -> list[Container]:
        """Create and recreate what differs, from images that are here; the containers then.

        ``there`` are those before. :meth:`launch` starts them, or :meth:`start` where services
        wait for each other, or Compose has done so already. Raises :class:`CommitdError`.
        """
        if not ready.services:  # Compose would take that for a mistake
            log.info("%s: nothing to run", ready.stack.name)
            return await self.containers(ready.stack.name)
        await self._unpause(there)
        try:
            await self._make(ready)
        except CommitdError as err:
            if not await self.mend(ready):
                raise await port_owner.explained(self._engine, err) from None
            await self._make(ready)
        return await self._named_right(ready.stack.name, ready.services)

    async def _refuse_foreign_links(self, ready: Ready) -> None:
        """Before each start: the engine follows links anew."""
        await anyio.to_thread.run_sync(ready.refuse_foreign_links, self._secrets.link)

    async def _make(self, ready: Ready) -> None:
        await self._refuse_foreign_links(ready)
        if ready.waits or ready.started_by_engine:
            # Only the waiting may be cut short: a container that was half recreated is gone.
            await self._step(self._compose.create(ready.invocation, ready.model))
        else:
            await self._step(self._compose.up(ready.invocation, ready.model))

    async def launch(self, ready: Ready, own: Iterable[Container]) -> None:
        """Have the engine start what is not started of the stack's ``own`` containers.

        Where :attr:`Ready.started_by_engine` says so. Each after those that it needs, as Compose
        does it; what was started before may have changed where mounts lead. Raises
        :class:`CommitdError`.
        """
        due: dict[str, list[Container]] = {}
        for container in own:
            if container.service and not (container.one_off or container.alive):
                due.setdefault(container.service, []).append(container)
        needs = {name: service.needs for name, service in ready.services.items() if service.scale}
        for level in dependencies.levels(needs):
            if not (services := due.keys() & {*level}):
                continue
            await self._refuse_foreign_links(ready)
            async with task_group() as group:
                for service in services:
                    group.start_soon(self._launch, due[service])

    async def _launch(self, containers: Iterable[Container]) -> None:
        """Start those of one service, one after the other: they may share a range of ports."""
        for container in containers:
            async with self.starts.taken():
                try:
                    await self._step(self.starts.start(container))
                except PermanentError as err:  # what it says to Compose is not for good either
                    said = TransientError(err.message)
                    raise await port_owner.explained(self._engine, said) from None
                except CommitdError as err:
                    raise await port_owner.explained(self._engine, err) from None

    async def recreate(self, ready: Ready, services: Iterable[str]) -> list[Container]:
        """Replace the containers of these services by equal ones; those there are then.

        Like all others they are not started yet, unless Compose starts them all.
        """
        start = not (ready.waits or ready.started_by_engine)
        for service in services:
            await self._step(self._recreated(ready, service, start=start))
        return await self._named_right(ready.stack.name, ready.services)

    async def _recreated(self, ready: Ready, service: str, *, start: bool = True) -> None:
        await self._refuse_foreign_links(ready)
        await self._compose.recreate(ready.invocation, ready.model, service, start=start)

    async def mend(self, ready: Ready) -> bool:
        """Replace the containers that no start brings back; whether there are any."""
        stuck = await unsound.unstartable(self._engine, ready.stack.name, ready.services)
        for service in stuck:
            await self._step(self._recreated(ready, service, start=False))
        return bool(stuck)

    async def start(self, ready: Ready, limit_s: float) -> None:
        """Start services that wait for each other, for ``limit_s`` at most.

        Then raises :class:`StillWaitingError`; and :class:`PermanentError` when one of those that
        others wait for is not healthy, which it still may become.
        """
        await self._refuse_foreign_links(ready)
        try:
            await self._step(self._compose.start(ready.invocation, ready.model, limit_s))
        except CommitdError as err:
            raise await port_owner.explained(self._engine, err) from None

    async def put_back(self, ready: Ready, replaced: Collection[str]) -> list[Container]:
        """Have again what somebody else removed, stopped or paused; the containers there are then.

        Services whose containers somebody ``replaced`` look right to Compose by their labels.
        Raises :class:`CommitdError`.
        """
        there = await self.recreate(ready, replaced)
        return await self.make(ready, there)

    async def reload(
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
                return Reload.RECREATE
        return ready.reload(service, older)

    async def cut_off(self, ready: Ready) -> dict[str, CutOff]:
        """As :func:`unsound.cut_off`."""
        return await unsound.cut_off(self._engine, ready.stack.name, ready.services)

    async def readjust(self, ready: Ready, containers: Iterable[Container]) -> set[str]:
        """As :func:`readjust.readjust`, by the last release."""
        releases = await self._journal.releases()
        release = releases.get(ready.stack.name)
        recorded = {service.name: service for service in release.services} if release else {}
        found = await readjust(self._engine, containers, recorded)
        return found & ready.services.keys()

    async def reload_services(
        self, ready: Ready, service: str, containers: Iterable[Container], how: str
    ) -> None:
        """Have a service notice that its mounted files have changed."""
        reload = Reload.of(how)
        if reload is Reload.RECREATE:
            await self._step(self._recreated(ready, service))
        for container in containers:
            if container.service != service or container.one_off or not container.alive:
                continue
            try:
                if reload is Reload.RESTART:
                    await self._refuse_foreign_links(ready)
                    await self._step(self._engine.restart(container.id))
                elif reload is Reload.SIGNAL:
                    await self._engine.signal(container.id, how.removeprefix("signal:"))
            except AbsentError as err:  # somebody removed it just now: no fault of the release
                raise TransientError(err.message) from None

    async def containers(self, project: str) -> list[Container]:
        """All of the project, running or not."""
        return list(await self._engine.containers(project))

    async def _unpause(self, there: Iterable[Container]) -> None:
        """Compose leaves a paused container as it is."""
        for container in there:
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

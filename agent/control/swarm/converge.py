"""Deploying a stack to a Swarm: configs and secrets, ``docker stack deploy``, and the gate.

Nodes pull the images by themselves: before anything is touched, registries are asked whether they
have them. A deploy of what is there changes no task, so what was cut short is simply done again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path

import anyio.to_thread
from msgspec import Struct

from agent.adapters.compose.invocation import Invocation
from agent.adapters.engine import words
from agent.adapters.engine.engine import Engine
from agent.adapters.state.async_journal import AsyncJournal, Recording
from agent.adapters.swarm import cluster, objects, services
from agent.adapters.swarm.stack_deploy import StackDeploy
from agent.control.health.awaited import STOPPING
from agent.control.release.deployment import Deployment, DeploySteps, cancel_reason
from agent.control.release.read import read
from agent.control.release.starting import Batch
from agent.control.retry import Attempts
from agent.control.stack.operations import Stacks
from agent.control.stack.ready import Ready, quoting
from agent.control.stack.revival import Revived
from agent.control.swarm import ended, unchanged
from agent.control.swarm import objects as pruning
from agent.control.swarm.asked_images import AskedImages
from agent.control.swarm.gate import Awaited, Gate
from agent.control.swarm.observer import SwarmObserver
from agent.control.swarm.remove import ServiceRemover
from agent.domain.compose import redact
from agent.domain.compose.policy import Effect, summary
from agent.domain.container import Container
from agent.domain.errors import CancelledError, CommitdError, PermanentError, UnplacedError
from agent.domain.outcome import Outcome, Phase, Status
from agent.domain.release.release import Release, Service
from agent.domain.repository.desired import Stack
from agent.domain.swarm import places, stack_file, unused, views
from agent.domain.swarm.model import SwarmService
from agent.domain.swarm.stack_file import Source, StackFile

log = logging.getLogger("commitd.deploy")

_IMAGE = "com.docker.stack.image"
"""The label from which ``docker stack deploy`` knows which image it gave a service."""


class SwarmTools(Struct, frozen=True, kw_only=True):
    """What a deploy to a Swarm works with.

    ``confirm`` raises :class:`CancelledError` when another manager leads by now.
    """

    engine: Engine
    program: StackDeploy
    stacks: Stacks
    observer: SwarmObserver
    remover: ServiceRemover
    gate: Gate
    journal: AsyncJournal
    attempts: Attempts
    confirm: Callable[[], Awaitable[None]]
    heads: Callable[[], frozenset[str]]
    stopping: Callable[[], bool]


class SwarmSteps(DeploySteps):
    """With ``docker stack deploy``."""

    def __init__(self, tools: SwarmTools) -> None:
        self._t = tools
        self._images = AskedImages(tools.engine)

    @property
    def heads(self) -> Callable[[], frozenset[str]]:
        """The commits that remotes show."""
        return self._t.heads

    @property
    def stopping(self) -> Callable[[], bool]:
        """Whether nothing more is to be begun."""
        return self._t.stopping

    async def revive(self, run: Deployment) -> tuple[Outcome | None, Revived | None]:
        """The Swarm starts by itself what has stopped."""
        del run
        return None, None

    async def prepare(self, run: Deployment) -> Outcome | None:
        """Read it, and see that a Swarm can run it; how it ended if that fails."""
        outcome = await read(run, self._t.stacks, self._t.attempts)
        if run.ready is None:
            return outcome
        try:
            await self._file(run.ready, say=True)
        except CommitdError as err:
            return Outcome.of(run.stack.name, err)
        with words.concealed(run.ready.invocation.hidden):
            outcome, _ = await self._t.attempts.tries(
                run.entry, run.stack.name, partial(self._compare, run, run.ready)
            )
        return None if outcome.status is Status.SUCCEEDED else outcome

    async def _compare(self, run: Deployment, ready: Ready) -> None:
        """With what is there, and in registries. Raises :class:`CommitdError`."""
        await unchanged.refuse(self._t.engine, ready, other=run.other)
        await self._images.ask(ready.stack.name, ready.images)

    async def up(self, run: Deployment) -> tuple[Service, ...]:
        """Deploy it; its services as they stand once they are healthy."""
        if run.ready is None:
            raise PermanentError("it was not read")
        ready, doubt = run.ready, run.batch.doubt
        with words.concealed(ready.invocation.hidden):
            return await self._deploy(ready, run, run.entry, doubt=doubt)

    async def back(
        self, run: Deployment, older: Stack, before: Release, entry: Recording
    ) -> tuple[Service, ...]:
        """Deploy the ``older`` release, with the configs and secrets that it had."""
        del before
        ready = await self._t.stacks.prepare(older, ran=True)
        with words.concealed(ready.invocation.hidden):
            return await self._deploy(ready, run, entry, doubt=True)

    async def clear(self, stack: str) -> None:
        """A Swarm removes what is left of its tasks by itself."""

    async def _deploy(
        self, ready: Ready, run: Deployment, entry: Recording, *, doubt: bool
    ) -> tuple[Service, ...]:
        name, batch = ready.stack.name, run.batch
        file = await self._file(ready)
        images = {each.image for each in ready.services.values()}
        logins = await self._images.logins_serve(name, images)
        began = time.time()
        with entry.phase(Phase.CREATE):
            async with batch.places.taken():
                if self._t.stopping():
                    raise CancelledError(STOPPING)
                await self._t.confirm()
                shown = await self._t.observer.of_stack(name)
                run.touch(shown)
                await self._t.journal.mark_dirty(name)
                await self._t.remover.make_room(
                    ready, run.services_before, batch.revision, doubt=doubt
                )
                if file.services:  # else there is nothing that the command would take
                    await self._change(ready, file, shown, logins=logins)
        await self._t.journal.keep_started(name, ready.stack.digest)
        with entry.phase(Phase.GATE):
            try:
                healthy = await self._t.gate.wait(self._awaited(ready, batch, began))
            except UnplacedError:
                run.stopped = await self._down(name) & run.running
                raise
        await self._t.confirm()
        await self._t.remover.prune_services(
            ready, run.services_before, batch.revision, doubt=doubt
        )
        if not doubt:
            await self._prune(name)
        return await self._observed(ready, healthy)

    async def _change(
        self, ready: Ready, file: StackFile, shown: Iterable[Container], *, logins: bool
    ) -> None:
        """Have its services be as ``file`` says; ``shown`` are those that there are.

        With ``logins``, they get those of this manager.
        """
        name = ready.stack.name
        await objects.provide(self._t.engine, file.objects)
        await self._unname_images(ready)
        down = await ended.look(self._t.engine, name, shown)
        await self._t.confirm()
        await self._t.program.deploy(name, file.text, ready.invocation.hidden, logins=logins)
        await ended.start_again(self._t.engine, name, down)

    async def _down(self, stack: str) -> frozenset[str]:
        """Its services that have fewer tasks than they want, whichever release those are of."""
        there = await cluster.services(self._t.engine, stack)
        tasks = await cluster.tasks(self._t.engine, stack)
        return frozenset(s.short_name for s in there if not places.serves(s, tasks))

    async def _prune(self, stack: str) -> None:
        """Remove its configs and secrets that neither a service nor the last release needs."""
        release = (await self._t.journal.releases()).get(stack)
        kept = {
            name for service in (release.services if release else ()) for name in service.objects
        }
        await pruning.prune(self._t.engine, stack, kept)

    def _awaited(self, ready: Ready, batch: Batch, began: float) -> Awaited:
        return Awaited(
            stack=ready.stack.name,
            images={name: service.image for name, service in ready.services.items()},
            began=began,
            timeout_s=ready.stack.settings.health_timeout,
            cancel_reason=lambda: cancel_reason(
                batch, self._t.heads(), stopping=self._t.stopping()
            ),
            quoting=quoting(ready),
        )

    async def _unname_images(self, ready: Ready) -> None:
        """Have the command set each image, also where somebody changed it by hand.

        It leaves the image as it is where this label says that it gave it that one before.
        """
        for service in await cluster.services(self._t.engine, ready.stack.name):
            wanted = ready.services.get(service.short_name)
            if wanted and service.image != wanted.image == service.labels.get(_IMAGE):
                labels = {k: v for k, v in service.labels.items() if k != _IMAGE}
                await services.update(self._t.engine, service, {**service.spec, "Labels": labels})

    async def _observed(self, ready: Ready, healthy: Iterable[SwarmService]) -> tuple[Service, ...]:
        """The release as it was judged: what somebody changes from then on is drift."""
        salt = await self._t.journal.salt()
        return tuple(
            Service(
                name=service.short_name,
                image=ready.services[service.short_name].image,
                scale=1,
                config_hash=views.spec_hash(service.spec, salt),
                one_shot=places.finishes(service),
                files=ready.files(service.short_name),
                needs=(),
                objects=unused.names(service.spec),
            )
            for service in sorted(healthy, key=lambda each: each.short_name)
        )

    async def _file(self, ready: Ready, *, say: bool = False) -> StackFile:
        """Raises :class:`PermanentError` for what a Swarm cannot run."""
        salt = await self._t.journal.salt()
        return await anyio.to_thread.run_sync(partial(_written, ready, salt, say=say))


def _written(ready: Ready, salt: str, *, say: bool) -> StackFile:
    """What the command line gets, with the content of its objects; ``say`` what is odd. Blocks."""
    call = ready.invocation
    draft = stack_file.read(ready.stack.name, ready.model, str(call.checkout))
    if say and (warned := summary(draft.violations, Effect.WARNED)):
        log.warning("%s: %s", ready.stack.name, redact.text(warned, call.hidden))
    contents = {(each.kind, each.key): _content(each, call) for each in draft.sources}
    return stack_file.of(draft, contents, salt)


def _content(source: Source, call: Invocation) -> bytes:
    """Files are read where no container can write. Raises :class:`PermanentError`."""
    if source.content is not None:
        return source.content
    if source.environment is not None:
        return call.passed[source.environment].encode()
    path = Path(source.file or "")
    inside = path.is_relative_to(call.checkout)
    try:
        with (call.root / path.relative_to(call.checkout) if inside else path).open("rb") as file:
            return file.read(stack_file.MAX_CONTENT)
    except OSError as err:
        raise PermanentError(f"cannot be read: {err.strerror}", where=str(path)) from None

"""Starting one release, having mounted files noticed, and waiting until all of it is well."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import anyio
import anyio.to_thread

from agent.adapters.compose import StillWaitingError
from agent.adapters.journal import Journal
from agent.control.attempts import Attempts
from agent.control.gate import Activity, Gate, PutBack
from agent.control.provision import Claim, Provisioner
from agent.control.ready import Ready, observed
from agent.control.stacks import Stacks
from agent.domain import reaction
from agent.domain.container import Container
from agent.domain.errors import (
    CommitdError,
    HeldError,
    PermanentError,
    TransientError,
    UnreachableError,
)
from agent.domain.gate import Expected, Finding, Trouble
from agent.domain.model import Cause, Outcome, Reason, Revision, Service, Status
from agent.domain.plan import moved

log = logging.getLogger("commitd.deploy")

Files = tuple[tuple[str, str], ...]
STOPPING = "the agent is stopping"


class StartError(TransientError):
    """Compose could not bring it up, and may have stopped what ran before."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What all deploys of one plan share. ``seen`` are the commits that remotes showed before."""

    revision: Revision
    limiter: anyio.CapacityLimiter
    seen: frozenset[str]
    doubt: bool


class BringUp:
    """``heads`` are the commits that remotes show; a new one ends the wait for a release's health.

    Once ``stopping``, nothing is started any more.
    """

    def __init__(
        self,
        stacks: Stacks,
        provisioner: Provisioner,
        gate: Gate,
        journal: Journal,
        attempts: Attempts,
        *,
        heads: Callable[[], frozenset[str]],
        stopping: Callable[[], bool],
    ) -> None:
        self._stacks = stacks
        self._provisioner = provisioner
        self._gate = gate
        self._journal = journal
        self._attempts = attempts
        self.heads = heads
        self.stopping = stopping

    async def run(
        self,
        ready: Ready,
        older: Mapping[str, Files | None],
        batch: Batch,
        *,
        doubt: bool,
        changed: bool = False,
        touching: Callable[[Collection[Container]], None] = lambda _: None,
    ) -> tuple[Service, ...]:
        """The services as they stand once they are well.

        ``older`` are the files that were mounted into each service before; None: nobody knows.
        Services that left the stack are ended then, but not in ``doubt`` about what is declared.
        ``changed`` is whether it is another release than the one that runs; ``touching`` is told
        of the containers that there are before anything is done to them.
        Raises :class:`CommitdError`, of which :class:`StartError` when it did not come up at all.
        """
        name = ready.stack.name
        async with self._gate.listening(name) as activity:
            async with batch.limiter:
                if self.stopping():
                    raise HeldError(STOPPING)
                async with self._provisioner.claimed(ready, changed=changed) as claim:
                    before = await self._stacks.containers(name)
                    touching(before)
                    after = await self._start(ready, activity, claim, before)
                after = await self._react(ready, older, before, after, (batch, activity))
                digest = ready.stack.digest
                await anyio.to_thread.run_sync(self._journal.keep_started, name, digest)
            put_back = partial(self._put_back, ready, batch, activity)
            containers = await self._well(ready, batch, activity, after, put_back)
        if not doubt:
            await self._stacks.drop_left(ready, batch.revision)
        return observed(ready, containers)

    async def _start(
        self, ready: Ready, activity: Activity, claim: Claim, before: Collection[Container]
    ) -> list[Container]:
        """Start all of it, once; the containers there are then."""
        name = ready.stack.name
        # From here on until it is well, nobody knows what is mounted.
        await anyio.to_thread.run_sync(self._journal.disturb, name)
        try:
            after = await self._stacks.start(ready, claim.release)
            behind = await self._provisioner.left_behind(ready, claim, before, after)
            if behind:
                log.info("%s: recreating %s for its networks", name, ", ".join(behind))
                after = await self._stacks.recreate(ready, behind)
        except (PermanentError, StillWaitingError) as err:
            raise await self._gate.explain(
                name,
                ready.services,
                activity,
                err,
                secrets=ready.invocation.hidden,
                timeout_s=ready.stack.settings.health_timeout,
            ) from None
        except UnreachableError:
            raise
        except TransientError as err:
            raise StartError(err.message, where=err.where, hint=err.hint) from None
        return after

    async def take_over(self, ready: Ready, there: Ready, batch: Batch) -> tuple[Service, ...]:
        """The same for a stack that is up already: nothing is started, all of it is looked at.

        ``there`` is the stack as its containers call its images. If somebody undoes it meanwhile
        it is no stack to be taken over any more, but one to be brought up.
        """
        name, digest = ready.stack.name, ready.stack.digest
        await anyio.to_thread.run_sync(self._journal.keep_started, name, digest)
        async with self._gate.listening(name) as activity:
            made = await self._stacks.containers(name)
            return observed(ready, await self._well(there, batch, activity, made))

    async def _well(
        self,
        ready: Ready,
        batch: Batch,
        activity: Activity,
        made: Iterable[Container],
        put_back: PutBack | None = None,
        *,
        services: Mapping[str, Expected] | None = None,
    ) -> list[Container]:
        """The containers once all services are well, or those that are named."""
        return await self._gate.wait(
            ready.stack.name,
            services or ready.services,
            activity,
            timeout_s=ready.stack.settings.health_timeout,
            until=partial(self._over, batch),
            secrets=ready.invocation.hidden,
            made=made,
            put_back=put_back,
        )

    async def _put_back(
        self, ready: Ready, batch: Batch, activity: Activity, findings: Sequence[Finding]
    ) -> list[Container]:
        """Put right what somebody else did to a release that is waited for.

        If that fails it is tried again, for the gate goes on looking.
        """
        name = ready.stack.name
        if self.stopping():
            raise HeldError(STOPPING)
        await self._attempts.refuse_suspended(name)
        services = sorted({finding.service for finding in findings})
        replaced = {f.service for f in findings if f.trouble is Trouble.REPLACED}
        for finding in findings:
            log.warning("%s: %s during the health gate, putting it back", name, finding)

        async def work() -> None:
            async with batch.limiter:
                after = await self._stacks.put_back(ready, replaced & ready.services.keys())
                same = {service: ready.files(service) for service in ready.services}
                await self._react(ready, same, (), after, (batch, activity))

        try:
            await self._recorded(
                name,
                f"{', '.join(services)}: {Reason.UNDONE}",
                [Cause(f"{name}/{f.service}", "running", f.trouble.value) for f in findings],
                batch.revision,
                work,
            )
        except CommitdError as err:
            log.warning("%s: it cannot be put back yet: %s", name, err)
        return await self._stacks.containers(name)

    async def _recorded(
        self,
        stack: str,
        reason: str,
        causes: Iterable[Cause],
        revision: Revision,
        work: Callable[[], Awaitable[object]],
        *,
        done: Status = Status.SUCCEEDED,
    ) -> None:
        """Do ``work`` between two lines in the journal; ``done`` is how it ends if it ends well."""
        number = await anyio.to_thread.run_sync(
            lambda: self._journal.begin(
                "restart", stack, reason, cause=causes, revision=revision.sha
            )
        )
        started, status, error = time.monotonic(), Status.CANCELLED, None
        try:
            await work()
            status = done
        except CommitdError as err:
            status, error = Status.FAILED, str(err)
            raise
        finally:
            await self._attempts.finish(number, Outcome(stack, status, error), started)

    def _over(self, batch: Batch) -> str | None:
        """Why nobody waits any more for the health of these releases."""
        if self.stopping():
            return STOPPING
        newer = self.heads() - batch.seen - {batch.revision.sha}
        return "a newer commit is there" if newer else None

    async def _react(
        self,
        ready: Ready,
        older: Mapping[str, Files | None],
        before: Iterable[Container],
        after: Collection[Container],
        wait: tuple[Batch, Activity],
    ) -> list[Container]:
        """Compose sees no change of a file that is mounted, and leaves the old one in place.

        Nor does it see what was changed on a container while it ran, or that it runs in namespaces
        which have ended. The containers there are then.
        """
        untouched = {container.id for container in before if container.alive}
        there = [c for c in after if c.id in untouched and not c.one_off]
        own: dict[str, reaction.Step] = {}
        for name in ready.services:
            files, now = older.get(name, ()), ready.files(name)
            mine = [c for c in there if c.service == name]
            if mine and (files or now) and files != now:
                how = await self._stacks.reaction(ready, name, mine, files or ())
                own[name] = reaction.Step(name, how, Reason.MOUNTED)
        for name in await self._stacks.readjust(ready, there):
            own[name] = reaction.Step(name, reaction.RECREATE, Reason.BY_HAND)
        cut_off = await self._stacks.cut_off(ready)
        needs = {name: service.needs for name, service in ready.services.items()}
        steps = reaction.sequence(own.values(), cut_off, needs)
        for step in steps:
            mine = [c for c in after if c.service == step.service and c.alive and not c.one_off]
            if step.owner is None:
                mine = [c for c in mine if c.id in untouched]
            if mine:
                await self._await_healthy(ready, step.healthy, wait)
                files = older.get(step.service, ()) or ()
                await self._react_to(ready, step, mine, files, wait[0].revision)
        return await self._stacks.containers(ready.stack.name) if steps else list(after)

    async def _await_healthy(
        self, ready: Ready, services: Iterable[str], wait: tuple[Batch, Activity]
    ) -> None:
        """As Compose does it where ``depends_on`` asks for it."""
        for name in services:
            made = await self._stacks.containers(ready.stack.name)
            await self._well(ready, *wait, made, services={name: ready.services[name]})

    async def _react_to(
        self,
        ready: Ready,
        step: reaction.Step,
        containers: Sequence[Container],
        older: Files,
        revision: Revision,
    ) -> None:
        stack, name = ready.stack.name, step.service
        log.info("%s: %s: %s: %s", stack, name, step.reason, step.how)
        await self._recorded(
            stack,
            f"{name}: {step.reason}: {step.how}",
            _causes(ready, step, older, revision),
            revision,
            partial(self._stacks.react, ready, name, containers, step.how),
            done=Status.SKIPPED if step.how == "none" else Status.SUCCEEDED,
        )


def _causes(
    ready: Ready, step: reaction.Step, older: Files, revision: Revision
) -> tuple[Cause, ...]:
    """The files that moved, or the service or container that is followed."""
    if step.owner is None:
        files = step.reason is Reason.MOUNTED
        return moved(older, ready.files(step.service), revision.sha) if files else ()
    own = f"{ready.stack.name}/" if step.owner in ready.services else ""
    return (Cause(f"{own}{step.owner}", "running", "started again", revision.sha),)

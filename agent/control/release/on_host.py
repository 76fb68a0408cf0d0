"""Deploying a stack to one engine: what Compose makes of it, once its images are here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from msgspec import Struct

from agent.adapters.engine import words
from agent.adapters.state.async_journal import AsyncJournal, Recording
from agent.control.release.adoption import NOTHING, Adopter
from agent.control.release.apply import Applier
from agent.control.release.deployment import Deployment, DeploySteps
from agent.control.release.failing import StartError
from agent.control.release.pull import Puller
from agent.control.release.read import read
from agent.control.release.starting import Before
from agent.control.retry import Attempts
from agent.control.stack.operations import Stacks
from agent.control.stack.ready import Ready, running_services
from agent.control.stack.remover import Remover
from agent.control.stack.revival import Revived, Reviver
from agent.domain.errors import CancelledError, CommitdError, PermanentError
from agent.domain.outcome import Cause, CauseKind, Outcome, Phase, Status
from agent.domain.release.release import Release, Service
from agent.domain.repository.desired import Stack
from agent.domain.repository.image_reference import pinned
from agent.domain.repository.tree import Inputs

log = logging.getLogger("commitd.deploy")


class HostTools(Struct, frozen=True, kw_only=True):
    """What a deploy to one engine works with."""

    stacks: Stacks
    remover: Remover
    applier: Applier
    puller: Puller
    adopter: Adopter
    journal: AsyncJournal
    attempts: Attempts
    reviver: Reviver


class HostSteps(DeploySteps):
    """With Compose, and one engine that pulls the images before."""

    def __init__(self, tools: HostTools) -> None:
        self._t = tools

    @property
    def heads(self) -> Callable[[], frozenset[str]]:
        """The commits that remotes show."""
        return self._t.applier.heads

    @property
    def stopping(self) -> Callable[[], bool]:
        """Whether nothing more is to be begun."""
        return self._t.applier.stopping

    async def revive(self, run: Deployment) -> tuple[Outcome | None, Revived | None]:
        """What was only stopped, started as it is; no outcome: it takes all that follows."""
        states = {cause.kind for cause in run.deploy.causes}
        if run.before is None or states != {CauseKind.STATE}:
            return None, None
        secrets = None if run.changed else await self._t.stacks.hidden(run.stack)
        revived, error = None, None
        try:
            with words.concealed(secrets):
                revived = await self._t.reviver.revive(run.before)
            if not revived:
                return None, None
        except CommitdError as err:
            error = err
        status, message = Status.of(error), str(error) if error else None
        return Outcome(subject=run.stack.name, status=status, error=message), revived

    async def prepare(self, run: Deployment) -> Outcome | None:
        """Read it and pull its images, with nothing touched; how it ended if that fails."""
        outcome = await read(run, self._t.stacks, self._t.attempts)
        if run.ready is None:
            return outcome
        with run.entry.phase(Phase.PULL):
            return await self._pull(run, run.ready)

    async def _pull(self, run: Deployment, ready: Ready) -> Outcome | None:
        """Its images, and those of the release before: a rollback needs them."""
        name, cancel_reason = run.stack.name, partial(self._t.applier.cancel_reason, run.batch)
        try:
            with words.concealed(ready.invocation.hidden):
                await self._t.puller.fetch(ready.images, cancel_reason)
                if run.before and run.changed:
                    await self._pull_older(name, run.before, cancel_reason)
        except CommitdError as err:
            return Outcome.of(name, err)
        return None

    async def _pull_older(
        self, name: str, before: Release, cancel_reason: Callable[[], CancelledError | None]
    ) -> None:
        older = {i for s in before.services for i in (s.image, *s.hooks) if pinned(i)}
        try:
            await self._t.puller.fetch(older, cancel_reason)
        except CancelledError:
            raise
        except CommitdError as err:
            log.warning("%s: rollback unavailable: %s", name, err)

    async def up(self, run: Deployment) -> tuple[Service, ...]:
        """Bring it up; its services as they stand once they are healthy."""
        if run.ready is None:
            raise PermanentError("it was not read")
        with words.concealed(run.ready.invocation.hidden):
            return await self._bring_up(run, run.ready)

    async def _bring_up(self, run: Deployment, ready: Ready) -> tuple[Service, ...]:
        first = run.before is None and ready.services
        if first and (there := await self._there(run, ready)):
            with run.entry.phase(Phase.GATE):
                return await self._t.applier.adopt_release(ready, there, run.batch)
        older: dict[str, Inputs | None] = {}
        if await self._t.journal.started(run.stack.name) == run.stack.digest:
            older = {name: ready.files(name) for name in ready.services}
        elif run.before:
            known = not run.before.dirty
            older = {s.name: s.files if known else None for s in run.before.services}
        try:
            before = Before(
                files=older,
                release=run.before,
                left=run.services_before if not run.batch.doubt else (),
                changed=run.other,
                touching=run.touch,
            )
            return await self._t.applier.run(
                ready, before, run.batch, doubt=run.batch.doubt, phase=run.entry.phase
            )
        except StartError:
            now = await self._t.stacks.containers(run.stack.name)
            run.stopped = run.running - running_services(now)
            raise

    async def _there(self, run: Deployment, ready: Ready) -> Ready | None:
        """The stack as its containers call its images, if all of it is there as declared."""
        name, journal = run.stack.name, self._t.journal
        tried = name in await journal.attempts()
        if tried and await journal.started(name) != run.stack.digest:
            return None  # a try that failed may have left anything
        called: Ready = ready
        why: str | None = NOTHING
        try:
            if await self._t.stacks.containers(name):
                async with run.batch.places.taken():
                    called, why = await self._t.adopter.look(ready)
        except CommitdError as err:  # bringing it up is always right
            called, why = ready, str(err)
        if why:
            log.debug("%s: applying: %s", name, words.shown(why))
            return None
        cause = Cause(
            kind=CauseKind.ADOPTED,
            stack=name,
            before="there",
            after="taken over",
            commit=run.batch.revision.sha,
        )
        with suppress(CommitdError):  # it would only say more of why
            await run.entry.add_causes([cause])
        return called

    async def back(
        self, run: Deployment, older: Stack, before: Release, entry: Recording
    ) -> tuple[Service, ...]:
        """Bring an ``older`` release of it up, which was healthy ``before``."""
        ready = await self._t.stacks.prepare(older, ran=True)
        failed = run.ready
        files = {each: failed.files(each) for each in failed.services} if failed else {}
        left = Before(files=files, left=files.keys(), release=before)
        with words.concealed(ready.invocation.hidden):
            with entry.phase(Phase.PULL):
                await self._t.puller.fetch(ready.images, lambda: None)
            applier = self._t.applier
            return await applier.run(ready, left, run.batch, doubt=True, phase=entry.phase)

    async def clear(self, stack: str) -> None:
        """Remove the containers of hooks that have failed."""
        with suppress(CommitdError):  # the next start of their services removes them
            await self._t.remover.clear_hooks(stack)

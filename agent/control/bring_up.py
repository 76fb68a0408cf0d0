"""Starting one release, having mounted files noticed, and waiting until all of it is well."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import anyio
import anyio.to_thread

from agent.adapters.compose import StillWaitingError
from agent.adapters.journal import Journal
from agent.control.attempts import Attempts
from agent.control.gate import Gate
from agent.control.stacks import Ready, Stacks, observed
from agent.domain.container import Container
from agent.domain.errors import CommitdError, HeldError, PermanentError
from agent.domain.model import Outcome, Reason, Revision, Service, Status
from agent.domain.plan import moved

log = logging.getLogger("commitd.deploy")

Files = tuple[tuple[str, str], ...]
STOPPING = "the agent is stopping"


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
        gate: Gate,
        journal: Journal,
        attempts: Attempts,
        *,
        heads: Callable[[], frozenset[str]],
        stopping: Callable[[], bool],
    ) -> None:
        self._stacks = stacks
        self._gate = gate
        self._journal = journal
        self._attempts = attempts
        self.heads = heads
        self.stopping = stopping

    async def run(
        self, ready: Ready, older: Mapping[str, Files | None], batch: Batch, *, doubt: bool
    ) -> tuple[Service, ...]:
        """The services as they stand once they are well.

        ``older`` are the files that were mounted into each service before; None: nobody knows.
        Services that left the stack are ended then, but not in ``doubt`` about what is declared.
        Raises :class:`CommitdError`.
        """
        name = ready.stack.name
        async with batch.limiter:
            if self.stopping():
                raise HeldError(STOPPING)
            before = await self._stacks.containers(name)
            # From here on until it is well, nobody knows what is mounted.
            await anyio.to_thread.run_sync(self._journal.disturb, name)
            try:
                after = await self._stacks.start(ready)
            except (PermanentError, StillWaitingError) as err:
                hidden = ready.invocation.hidden
                limit_s = ready.stack.settings.health_timeout
                raise await self._gate.explain(name, ready.services, err, hidden, limit_s) from None
            await self._react(ready, older, before, after, batch.revision)
            digest = ready.stack.digest
            await anyio.to_thread.run_sync(self._journal.keep_started, name, digest)
        containers = await self._well(ready, batch)
        if not doubt:
            await self._stacks.drop_left(ready, batch.revision)
        return observed(ready, containers)

    async def take_over(self, ready: Ready, there: Ready, batch: Batch) -> tuple[Service, ...]:
        """The same for a stack that is up already: nothing is started, all of it is looked at.

        ``there`` is the stack as its containers call its images.
        """
        name, digest = ready.stack.name, ready.stack.digest
        await anyio.to_thread.run_sync(self._journal.keep_started, name, digest)
        return observed(ready, await self._well(there, batch))

    async def _well(self, ready: Ready, batch: Batch) -> list[Container]:
        return await self._gate.wait(
            ready.stack.name,
            ready.services,
            timeout_s=ready.stack.settings.health_timeout,
            until=partial(self._over, batch),
            secrets=ready.invocation.hidden,
        )

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
        after: Iterable[Container],
        revision: Revision,
    ) -> None:
        """Compose sees no change of a file that is mounted, and leaves the old one in place."""
        untouched = {container.id for container in before if container.alive}
        for name in ready.services:
            files, now = older.get(name, ()), ready.files(name)
            mine = [c for c in after if c.service == name and c.id in untouched and not c.one_off]
            if mine and (files or now) and files != now:
                await self._react_to(ready, name, mine, files or (), revision)

    async def _react_to(
        self,
        ready: Ready,
        name: str,
        containers: Sequence[Container],
        older: Files,
        revision: Revision,
    ) -> None:
        stack = ready.stack.name
        reaction = await self._stacks.reaction(ready, name, containers, older)
        log.info("%s: %s: %s: %s", stack, name, Reason.MOUNTED, reaction)
        begin = partial(
            self._journal.begin,
            "restart",
            stack,
            f"{name}: {Reason.MOUNTED}: {reaction}",
            cause=moved(older, ready.files(name), revision.sha),
            revision=revision.sha,
        )
        number = await anyio.to_thread.run_sync(begin)
        started, status, error = time.monotonic(), Status.CANCELLED, None
        try:
            await self._stacks.react(ready, name, containers, reaction)
            status = Status.SKIPPED if reaction == "none" else Status.SUCCEEDED
        except CommitdError as err:
            status, error = Status.FAILED, str(err)
            raise
        finally:
            await self._attempts.finish(number, Outcome(stack, status, error), started)

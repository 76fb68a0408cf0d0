"""Deploys that are on their way, and what those that come after them wait for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import anyio
from msgspec import Struct, field

from agent.adapters.state.async_journal import AsyncJournal, Recording
from agent.control.health.awaited import STOPPING
from agent.control.release.rollback import Restorer
from agent.control.release.starting import Batch
from agent.control.retry import Attempts
from agent.control.stack.ready import Ready, running_services
from agent.control.stack.revival import Revived
from agent.domain.container import Container
from agent.domain.errors import CancelledError, SupersededError
from agent.domain.outcome import Outcome
from agent.domain.reconcile.actions import Deploy
from agent.domain.release.release import Release, Service
from agent.domain.repository.desired import Stack


class Completion(Struct):
    """Of one deploy on its way, for those that come after it."""

    came: anyio.Event = field(default_factory=anyio.Event)
    well: bool = False
    awaited: bool = False
    """Whether others of the same plan come after it."""


class Deployment(Struct, kw_only=True):
    """One deploy on its way. ``touched`` once its containers may be others than before.

    ``running`` are the services that ran before that, ``stopped`` those of them that its last try
    left stopped because Compose could not bring it up.
    """

    deploy: Deploy
    entry: Recording
    before: Release | None
    batch: Batch
    ready: Ready | None = None
    touched: bool = False
    running: frozenset[str] = frozenset()
    stopped: frozenset[str] = frozenset()

    def touch(self, containers: Iterable[Container]) -> None:
        """From now on its containers may be others than these."""
        if not self.touched:
            self.running = running_services(containers)
        self.touched, self.stopped = True, frozenset()

    @property
    def stack(self) -> Stack:
        """What is deployed."""
        return self.deploy.stack

    @property
    def changed(self) -> bool:
        """Whether there is an older release that is not this one."""
        return self.before is not None and self.before.digest != self.stack.digest

    @property
    def services_before(self) -> frozenset[str]:
        """Of the last release."""
        return frozenset(service.name for service in (self.before.services if self.before else ()))

    @property
    def other(self) -> bool:
        """Whether what runs, if anything does, is no release of the same input."""
        return self.before is None or self.changed


class DeploySteps(Protocol):
    """What is done to one stack, where its services are to run: one engine, or a Swarm."""

    @property
    def heads(self) -> Callable[[], frozenset[str]]:
        """The commits that remotes show."""

    @property
    def stopping(self) -> Callable[[], bool]:
        """Whether nothing more is to be begun."""

    async def revive(self, run: Deployment) -> tuple[Outcome | None, Revived | None]:
        """Start what was only stopped as it is; no outcome: it takes all that follows."""

    async def prepare(self, run: Deployment) -> Outcome | None:
        """Read it, and have ready what it needs, with nothing touched; how it ended if it failed.

        None: ``run.ready`` is what was read.
        """

    async def up(self, run: Deployment) -> tuple[Service, ...]:
        """Bring it up; its services as they stand once they are healthy.

        Raises :class:`CommitdError`.
        """

    async def back(
        self, run: Deployment, older: Stack, before: Release, entry: Recording
    ) -> tuple[Service, ...]:
        """Bring the ``older`` release of it up, which was healthy ``before``; as :meth:`up`."""

    async def clear(self, stack: str) -> None:
        """Remove what a deploy that failed has left and nobody needs; never raises."""


class DeployTools(Struct, frozen=True, kw_only=True):
    """What a deploy works with, wherever to."""

    steps: DeploySteps
    restorer: Restorer
    journal: AsyncJournal
    attempts: Attempts


def cancel_reason(batch: Batch, heads: frozenset[str], *, stopping: bool) -> CancelledError | None:
    """Why a wait for images or for health is to end, or None."""
    if stopping:
        return CancelledError(STOPPING)
    newer = heads - batch.seen - {batch.revision.sha}
    return SupersededError("superseded by a newer commit") if newer else None

"""Deploys that are on their way, and what those that come after them wait for."""

from __future__ import annotations

from collections.abc import Iterable

import anyio
from msgspec import Struct, field

from agent.adapters.state.async_journal import Recording
from agent.control.release.starting import Batch
from agent.control.stack.ready import Ready, running_services
from agent.domain.container import Container
from agent.domain.reconcile.actions import Deploy
from agent.domain.release.release import Release
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

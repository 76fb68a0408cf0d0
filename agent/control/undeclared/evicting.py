"""What ending a container and ending a service have in common: one at a time, and the records."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio

from agent.adapters.state.async_journal import AsyncJournal, Recording
from agent.adapters.state.database import utcnow
from agent.adapters.state.evictions import Evicted
from agent.control.undeclared.protection import Protection
from agent.control.undeclared.rate import Rate
from agent.domain.config import UndeclaredRules
from agent.domain.container import Container
from agent.domain.outcome import Action, Cause, CauseKind, EvictionAction, Reason
from agent.domain.reconcile import plan
from agent.domain.reconcile.actions import Hold

log = logging.getLogger("commitd.evict")


class Evicting:
    """What is ``busy`` is being looked at or ended: one of an ID at most once at a time."""

    def __init__(
        self, journal: AsyncJournal, policy: UndeclaredRules, protection: Protection
    ) -> None:
        self._journal = journal
        self._policy = policy
        self._protection = protection
        self._busy: set[str] = set()
        self._rate = Rate(policy.per_minute)

    def busy(self, identifier: str) -> bool:
        """Whether the one of this ID is being ended right now."""
        return identifier in self._busy

    async def _in_turn(
        self,
        identifier: str,
        look: Callable[[], Awaitable[Hold | float | None]],
        *,
        patient: bool,
    ) -> Hold | None:
        """What ``look`` finds; where that is how many seconds its grace lasts, wait for the end.

        Who waits for a grace to end is not busy with it: as a rival it may have to go before.
        """
        while True:
            if identifier in self._busy:
                return None
            self._busy.add(identifier)
            try:
                found = await look()
            finally:
                self._busy.discard(identifier)
            if not isinstance(found, float):
                return found
            if not patient:
                return None
            await anyio.sleep(found)

    async def _grace_left(self, identifier: str) -> float:
        """The seconds that its grace lasts yet, counted from when it was first seen undeclared."""
        if self._policy.grace <= 0:
            return 0.0
        now = self._journal.now()
        since = await self._journal.first_seen(identifier, now)
        return float(plan.grace_left(since, now, self._policy.grace))

    def _record(self, found: Container, name: str, reason: Reason) -> Evicted:
        """That it is ended now, and kept under this ``name``."""
        keep = self._policy.mode == "remove"
        return Evicted(
            id=found.id,
            name=name,
            image=found.image,
            action=EvictionAction.REMOVED if keep else EvictionAction.STOPPED,
            reason=reason,
            at=utcnow(),
            remove_at=self._journal.now() + self._policy.keep if keep else None,
        )

    def _recording(
        self, record: Evicted, kind: CauseKind, name: str, before: Mapping[str, Any]
    ) -> AbstractAsyncContextManager[Recording]:
        """The action in the journal; ``before`` is how it ran, without secrets."""
        revision = self._protection.protected.revision
        cause = Cause(kind=kind, name=name, before="running", after=record.action, commit=revision)
        return self._journal.recording(
            Action.EVICT,
            record.name,
            record.reason,
            causes=[cause],
            revision=revision,
            ended=(record, before),
        )

    async def _report(
        self, found: Container, before: Mapping[str, Any], reason: Reason, hold: Hold
    ) -> None:
        """Write down that it is left running; ``before`` as in :meth:`_recording`."""
        record = Evicted(
            id=found.id,
            name=found.name,
            image=found.image,
            action=EvictionAction.REPORTED,
            reason=reason,
            at=utcnow(),
        )
        if await self._journal.report(record, before):
            log.debug("%s is left running: %s: %s", found.name, reason.text, hold.detail)

"""Ending a service that nobody declared: in one update, reversibly, and never its volumes.

It is scaled to nothing, or placed nowhere, and stays in the Swarm with a label that says what it
was (:mod:`agent.domain.swarm.eviction`). The same decision and the same guards as for a container
on a host: only what runs is another thing here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import anyio
import msgspec

from agent.adapters.engine.engine import Engine
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.evictions import Evicted
from agent.adapters.swarm import services
from agent.control.undeclared.evicting import Evicting
from agent.control.undeclared.protection import Protection
from agent.domain.config import UndeclaredRules
from agent.domain.errors import CancelledError
from agent.domain.outcome import CauseKind, Reason
from agent.domain.reconcile import ownership, plan
from agent.domain.reconcile.actions import Hold
from agent.domain.reconcile.exemptions import Exemptions
from agent.domain.swarm import eviction
from agent.domain.swarm.claims import claimed
from agent.domain.swarm.model import SwarmService

_LOOKS = 8
"""At a time; an end is as short as a look."""
_TRIES = 5
"""While others change the same service just then."""


class ServiceEvictor(Evicting):
    """Decides once more on a fresh look, then acts. One service at most once at a time.

    ``confirm`` raises :class:`CancelledError` when another manager leads by now.
    """

    def __init__(
        self,
        engine: Engine,
        journal: AsyncJournal,
        policy: UndeclaredRules,
        protection: Protection,
        *,
        confirm: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(journal, policy, protection)
        self._engine = engine
        self._confirm = confirm
        self._looking = anyio.CapacityLimiter(_LOOKS)

    async def evict(self, service_id: str, *, patient: bool = True) -> Hold | None:
        """Look at the service afresh and end it if nobody declared it.

        While its grace lasts it is waited for or, not ``patient``, left for later. Returns why it
        is left running although nobody declared it, or None. What is gone, or ended, already is
        done; where another manager leads, that one does it. Raises :class:`CommitdError` when the
        engine fails.
        """
        look = partial(self._look_and_end, service_id)
        return await self._in_turn(service_id, look, patient=patient)

    async def _look_and_end(self, service_id: str) -> Hold | float | None:
        """Why it stays; or for how many seconds its grace lasts yet; or None."""
        async with self._looking:
            return await self._decide(service_id)

    async def _decide(self, service_id: str) -> Hold | float | None:
        if self._rate.many():  # without a look: a storm must stay cheap
            return self._rate.hold(service_id[:12])
        service = await services.inspect(self._engine, service_id)
        exemptions = await self._protection.exemptions()
        reason = self._undeclared(service, exemptions)
        if service is None or reason is None:
            return None
        if (left_s := await self._grace_left(service.id)) > 0:
            return left_s
        protected = self._protection.protected
        report_only = self._policy.mode == "report"
        if hold := plan.refusal(claimed(service), protected, reason, report_only=report_only):
            await self._report(claimed(service), {}, reason, hold)
            return hold
        with suppress(CancelledError):  # another manager does it, or nobody has to any more
            await self._confirm()
            if self._rate.many(one_more=True):
                return self._rate.hold(service.name)
            await self._record_and_end(service, reason)
        return None

    def _undeclared(self, service: SwarmService | None, exemptions: Exemptions) -> Reason | None:
        """Why it is to be ended, by all that counts now; None: it is not, or it is ended."""
        if service is None or eviction.at_rest(service):
            return None
        owner = ownership.classify(claimed(service), self._protection.protected, exemptions)
        return owner.reason if isinstance(owner, ownership.Undeclared) else None

    async def _record_and_end(self, service: SwarmService, reason: Reason) -> None:
        record = self._record(claimed(service), service.name, reason)
        before = msgspec.to_builtins(_label(service, record))
        async with self._recording(record, CauseKind.SERVICE, service.name, before):
            await self._end(service, record)

    async def _end(self, service: SwarmService, record: Evicted) -> None:
        """In one update, made from what it is then: what others change meanwhile is looked at."""
        found: SwarmService | None = service
        for left in reversed(range(_TRIES)):
            if found is None or eviction.at_rest(found):
                return
            ended = eviction.ended(found.spec, _label(found, record))
            try:
                await services.update(self._engine, found, ended)
            except services.ChangedMeanwhileError:
                if not left:
                    raise
            else:
                return
            found = await services.inspect(self._engine, service.id)
            exemptions = await self._protection.exemptions()
            await self._confirm()
            if found and not eviction.at_rest(found) and not self._undeclared(found, exemptions):
                raise CancelledError("it is declared by now, or a person has it back")


def _label(service: SwarmService, record: Evicted) -> eviction.Before:
    return eviction.before(service, at=record.at, action=record.action, reason=record.reason)

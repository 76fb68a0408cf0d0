"""Ending a container that nobody declared: gently, reversibly, and never its volumes."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

import anyio
from msgspec.structs import replace

from agent.adapters.engine.containers import from_inspect, redacted
from agent.adapters.engine.engine import Engine
from agent.adapters.lru import Lru
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.database import utcnow
from agent.adapters.state.evictions import Evicted
from agent.adapters.tasks import task_group
from agent.control.stack.ledger import Ledger
from agent.control.undeclared.protection import Protection
from agent.control.undeclared.rate import Rate
from agent.domain.config import UndeclaredRules
from agent.domain.container import KEPT_PREFIX, Container
from agent.domain.outcome import Action, Cause, CauseKind, EvictionAction, Reason
from agent.domain.reconcile import ownership, plan
from agent.domain.reconcile.actions import Hold, ProtectionSet
from agent.domain.reconcile.exemptions import Exemptions

log = logging.getLogger("commitd.evict")

_ANONYMOUS = re.compile(r"[0-9a-f]{64}")
_KEPT_NAME = re.compile(re.escape(KEPT_PREFIX) + r"(.+)-[0-9a-f]{12}")
_OWN_STOP_TIMEOUT_S = 10
_LOOKS, _ENDINGS = 8, 64
"""At a time: a look is short, an end lasts as long as the container takes to stop."""
_LONGEST_NAME = 200
_REMEMBERED = 1000
"""Containers that cannot be ended without loss, so that a storm looks at each of them once."""


class Evictor:
    """Decides once more on a fresh look, then acts. One container at most once at a time."""

    def __init__(
        self,
        engine: Engine,
        journal: AsyncJournal,
        policy: UndeclaredRules,
        protection: Protection,
        ledger: Ledger,
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._journal = journal
        self._policy = policy
        self._protection = protection
        self._busy: set[str] = set()
        self._rate = Rate(policy.per_minute)
        self._irreversible: Lru[str, Hold] = Lru(_REMEMBERED)
        self._looking = anyio.CapacityLimiter(_LOOKS)
        self._ending = anyio.CapacityLimiter(_ENDINGS)

    def busy(self, container_id: str) -> bool:
        """Whether it is being ended right now."""
        return container_id in self._busy

    def suspects(self, container: Container) -> bool:
        """Whether it looks undeclared; cheap, for the event stream, and without what people order.

        A fresh look decides.
        """
        helpers = Exemptions(self._engine.helpers.ids())
        owner = ownership.classify(container, self._protection.protected, helpers)
        return isinstance(owner, ownership.Undeclared)

    def unknown(self, container: Container) -> bool:
        """Whether no deploy made it of the stack whose labels it has; as cheap."""
        return self._ledger.unknown(container)

    async def evict(self, container_id: str, *, patient: bool = True) -> Hold | None:
        """Look at the container afresh and end it if nobody declared it.

        While its grace lasts it is waited for or, not ``patient``, left for later.
        Returns why it is left running although nobody declared it, or None. A container that is
        gone already is done. Raises :class:`CommitdError` when the engine fails.
        """
        return await self._evict(container_id, patient=patient)

    async def make_way(self, container: Container) -> str | None:
        """End a rival of a stack's own containers, whatever its grace; why it stays, or None.

        Raises :class:`CommitdError` when the engine fails.
        """
        exemptions = await self._protection.exemptions()
        owner = ownership.classify(container, self._with([container]), exemptions)
        if isinstance(owner, ownership.Exempt):
            return owner.reason.message(owner.where)
        hold = await self._evict(container.id, patient=False, rival=True)
        return hold.message if hold else None

    async def _evict(self, container_id: str, *, patient: bool, rival: bool = False) -> Hold | None:
        """Who waits for a grace to end is not busy with it: as a rival it may have to go before."""
        while True:
            if container_id in self._busy:
                return None
            self._busy.add(container_id)
            try:
                found = await self._look_and_end(container_id, rival=rival)
            finally:
                self._busy.discard(container_id)
            if not isinstance(found, float):
                return found
            if not patient:
                return None
            await anyio.sleep(found)

    def _with(self, rivals: Iterable[Container]) -> ProtectionSet:
        """What is protected, with those that are found to be rivals just now."""
        ids = frozenset(container.id for container in rivals)
        return replace(self._protection.protected, rivals=ids)

    async def _protected(self, container: Container, *, rival: bool) -> ProtectionSet:
        """As it is now for this container: a known ``rival``, or by a fresh look at the others."""
        if rival:
            return self._with([container])
        project = container.project
        if not project or project not in self._protection.protected.services:
            return self._protection.protected
        return self._with(await self._ledger.rivals(project))

    async def _look_and_end(self, container_id: str, *, rival: bool) -> Hold | float | None:
        """Why it stays; or for how many seconds its grace lasts yet; or None."""
        if self._rate.many():  # without a look: a storm must stay cheap
            return self._irreversible.get(container_id) or self._rate.hold(container_id[:12])
        known: list[Exemptions] = []

        async def learn() -> None:  # beside the look, for which it does not have to wait
            known.append(await self._protection.exemptions())

        async with self._looking, task_group() as group:
            group.start_soon(learn)
            raw = await self._engine.inspect(container_id)
        if raw is None:
            return None
        container = from_inspect(raw)
        if not container.alive:
            return None
        if self._policy.grace > 0 and not rival:
            left_s = await self._grace_left(container, known[0])
            if left_s > 0:
                return float(left_s)
        return await self._decide_and_end(container, raw, known[0], rival=rival)

    async def _grace_left(self, container: Container, exemptions: Exemptions) -> float:
        """For how many seconds it is left alone; counted from when it was first seen undeclared."""
        protection = await self._protected(container, rival=False)
        owner = ownership.classify(container, protection, exemptions)
        if not isinstance(owner, ownership.Undeclared):
            return 0.0
        now = self._journal.now()
        since = await self._journal.first_seen(container.id, now)
        return plan.grace_left(since, now, self._policy.grace)

    async def _decide_and_end(
        self,
        container: Container,
        raw: Mapping[str, Any],
        exemptions: Exemptions,
        *,
        rival: bool,
    ) -> Hold | None:
        """By all that counts now. The hold says why it stays although it is nobody's."""
        protection = await self._protected(container, rival=rival)
        owner = ownership.classify(container, protection, exemptions)
        if not isinstance(owner, ownership.Undeclared):
            return None
        report_only = self._policy.mode == "report"
        hold = plan.refusal(container, protection, owner.reason, report_only=report_only)
        if hold := hold or _irreversible(container, raw):
            if hold.reason is Reason.VOLUMES:
                self._irreversible.put(container.id, hold)
            await self._report(container, raw, owner.reason, hold)
            return hold
        if self._rate.many(one_more=True):
            return self._rate.hold(container.name)
        record = self._record(container, owner.reason)
        cause = Cause(
            kind=CauseKind.CONTAINER,
            name=container.id[:12],
            before="running",
            after=record.action,
            commit=protection.revision,
        )
        async with (
            self._journal.recording(
                Action.EVICT,
                record.name,
                record.reason,
                causes=[cause],
                revision=protection.revision,
                ended=(record, redacted(raw)),
            ),
            self._ending,  # many, because each may take its time to stop
        ):
            await self._end(container, raw, record)
        return None

    def _record(self, container: Container, reason: Reason) -> Evicted:
        keep = self._policy.mode == "remove"
        kept = _KEPT_NAME.fullmatch(container.name)  # somebody started what was put aside
        return Evicted(
            id=container.id,
            name=kept[1] if kept else container.name,
            image=container.image,
            action=EvictionAction.REMOVED if keep else EvictionAction.STOPPED,
            reason=reason,
            at=utcnow(),
            remove_at=self._journal.now() + self._policy.keep if keep else None,
        )

    async def _end(self, container: Container, raw: Mapping[str, Any], record: Evicted) -> None:
        own = raw["Config"].get("StopTimeout")
        patience_s = _OWN_STOP_TIMEOUT_S if own is None else own
        if patience_s < 0:  # the engine would wait for ever
            patience_s = self._policy.stop_timeout
        timeout_s = min(patience_s, self._policy.stop_timeout)
        if container.restart not in {"", "no"}:
            await self._engine.set_restart(container.id, {"Name": "no"})
        await self._engine.stop(container.id, int(timeout_s))
        if record.remove_at is not None and container.name != kept_name(record):
            await self._engine.rename(container.id, kept_name(record))

    async def _report(
        self, container: Container, raw: Mapping[str, Any], reason: Reason, hold: Hold
    ) -> None:
        record = Evicted(
            id=container.id,
            name=container.name,
            image=container.image,
            action=EvictionAction.REPORTED,
            reason=reason,
            at=utcnow(),
        )
        if await self._journal.report(record, redacted(raw)):
            log.debug("%s is left running: %s: %s", container.name, reason.text, hold.detail)


def kept_name(record: Evicted) -> str:
    """What an evicted container is called while it is kept."""
    return f"{KEPT_PREFIX}{record.name}"[:_LONGEST_NAME] + f"-{record.id[:12]}"


def _irreversible(container: Container, raw: Mapping[str, Any]) -> Hold | None:
    """The engine deletes a ``--rm`` container with its anonymous volumes as soon as it stops."""
    anonymous = [
        mount
        for mount in raw.get("Mounts") or []
        if mount.get("Type") == "volume" and _ANONYMOUS.fullmatch(mount.get("Name") or "")
    ]
    if raw["HostConfig"].get("AutoRemove") and anonymous:
        return Hold(
            container.name,
            Reason.VOLUMES,
            "it runs with --rm: stopping it would delete its anonymous volumes; stop it by hand",
            needs_person=True,
        )
    return None

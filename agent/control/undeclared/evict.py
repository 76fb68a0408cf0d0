"""Ending a container that nobody declared: gently, reversibly, and never its volumes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import anyio
from msgspec.structs import replace

from agent.adapters.engine.containers import from_inspect, redacted
from agent.adapters.engine.engine import Engine
from agent.adapters.lru import Lru
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.evictions import Evicted
from agent.adapters.tasks import task_group
from agent.control.stack.ledger import Ledger
from agent.control.undeclared.evicting import Evicting
from agent.control.undeclared.protection import Protection
from agent.domain.config import UndeclaredRules
from agent.domain.container import KEPT_PREFIX, Container
from agent.domain.outcome import CauseKind, Reason
from agent.domain.reconcile import ownership, plan
from agent.domain.reconcile.actions import Hold, ProtectionSet
from agent.domain.reconcile.exemptions import Exemptions

_ANONYMOUS = re.compile(r"[0-9a-f]{64}")
_KEPT_NAME = re.compile(re.escape(KEPT_PREFIX) + r"(.+)-[0-9a-f]{12}")
_OWN_STOP_TIMEOUT_S = 10
_LOOKS, _ENDINGS = 8, 64
"""At a time: a look is short, an end lasts as long as the container takes to stop."""
_LONGEST_NAME = 200
_REMEMBERED = 1000
"""Containers that cannot be ended without loss, so that a storm looks at each of them once."""


class Evictor(Evicting):
    """Decides once more on a fresh look, then acts. One container at most once at a time."""

    def __init__(
        self,
        engine: Engine,
        journal: AsyncJournal,
        policy: UndeclaredRules,
        protection: Protection,
        ledger: Ledger,
    ) -> None:
        super().__init__(journal, policy, protection)
        self._engine = engine
        self._ledger = ledger
        self._irreversible: Lru[str, Hold] = Lru(_REMEMBERED)
        self._looking = anyio.CapacityLimiter(_LOOKS)
        self._ending = anyio.CapacityLimiter(_ENDINGS)

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
        look = partial(self._look_and_end, container_id, rival=False)
        return await self._in_turn(container_id, look, patient=patient)

    async def make_way(self, container: Container) -> str | None:
        """End a rival of a stack's own containers, whatever its grace; why it stays, or None.

        Raises :class:`CommitdError` when the engine fails.
        """
        exemptions = await self._protection.exemptions()
        owner = ownership.classify(container, self._with([container]), exemptions)
        if isinstance(owner, ownership.Exempt):
            return owner.reason.message(owner.where)
        look = partial(self._look_and_end, container.id, rival=True)
        hold = await self._in_turn(container.id, look, patient=False)
        return hold.message if hold else None

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
            protection = await self._protected(container, rival=False)
            owner = ownership.classify(container, protection, known[0])
            if isinstance(owner, ownership.Undeclared):
                left_s = await self._grace_left(container.id)
                if left_s > 0:
                    return left_s
        return await self._decide_and_end(container, raw, known[0], rival=rival)

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
            await self._report(container, redacted(raw), owner.reason, hold)
            return hold
        if self._rate.many(one_more=True):
            return self._rate.hold(container.name)
        kept = _KEPT_NAME.fullmatch(container.name)  # somebody started what was put aside
        record = self._record(container, kept[1] if kept else container.name, owner.reason)
        short_id = container.id[:12]
        async with (
            self._recording(record, CauseKind.CONTAINER, short_id, redacted(raw)),
            self._ending,  # many, because each may take its time to stop
        ):
            await self._end(container, raw, record)
        return None

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

"""Ending a container that nobody declared: gently, reversibly, and never its volumes."""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import anyio
import anyio.to_thread

from agent.adapters.containers import from_inspect
from agent.adapters.engine import Engine
from agent.adapters.journal import Evicted, Journal, utcnow
from agent.domain import ownership, plan
from agent.domain.config import Undeclared
from agent.domain.errors import CommitdError
from agent.domain.model import Container, Hold, Protected, Reason, Status

log = logging.getLogger("commitd.evict")

KEPT_PREFIX = "commitd-evicted-"
"""Names of evicted containers that are kept for ``undeclared.keep``."""

_ANONYMOUS = re.compile(r"[0-9a-f]{64}")
_OWN_STOP_TIMEOUT_S = 10
_AT_A_TIME = 8
_PRUNE_EVERY_S = 86400.0


class Evictor:
    """Decides once more on a fresh look, then acts. One container at most once at a time."""

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        policy: Undeclared,
        shield: Callable[[], Protected],
        enrolled: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._policy = policy
        self._shield = shield
        self._enrolled = enrolled
        self._busy: set[str] = set()
        self._next_prune = 0.0
        self._recent: deque[float] = deque()
        self._limiter = anyio.CapacityLimiter(_AT_A_TIME)

    def suspects(self, container: Container) -> bool:
        """Whether it looks undeclared; cheap, for the event stream."""
        owner = ownership.classify(container, self._shield(), self._engine.helpers.ids())
        return isinstance(owner, ownership.Undeclared)

    async def evict(self, container_id: str, *, patient: bool = True) -> Hold | None:
        """Look at the container afresh and end it if nobody declared it.

        One that is younger than the grace is waited for or, not ``patient``, left for later.
        Returns why it is left running although nobody declared it, or None. A container that is
        gone already is done. Raises :class:`CommitdError` when the engine fails.
        """
        if container_id in self._busy:
            return None
        self._busy.add(container_id)
        try:
            if patient and self._policy.grace > 0:
                await anyio.sleep(self._policy.grace)
            async with self._limiter:
                return await self._look_and_end(container_id)
        finally:
            self._busy.discard(container_id)

    async def _look_and_end(self, container_id: str) -> Hold | None:
        raw = await self._engine.inspect(container_id)
        if raw is None:
            return None
        container = from_inspect(raw)
        shield = self._shield()
        owner = ownership.classify(container, shield, self._engine.helpers.ids())
        if not isinstance(owner, ownership.Undeclared) or not container.alive:
            return None
        if time.time() - _started(raw) < self._policy.grace:
            return None
        report_only = self._policy.mode == "report"
        hold = plan.refusal(container, shield, self._enrolled(), report_only)
        hold = hold or _irreversible(container, raw) or self._too_many(container)
        if hold:
            await self._report(container, raw, owner.reason, hold)
            return hold
        await self._end(container, raw, owner.reason)
        return None

    async def _end(self, container: Container, raw: Mapping[str, Any], reason: Reason) -> None:
        keep = self._policy.mode == "remove"
        record = Evicted(
            container.id,
            container.name,
            container.image,
            "removed" if keep else "stopped",
            reason.value,
            utcnow(),
            time.time() + self._policy.keep if keep else None,
        )

        def write_intent() -> int:
            self._journal.keep_evicted(record, redacted(raw))
            return self._journal.begin("evict", container.name, reason.value)

        number = await anyio.to_thread.run_sync(write_intent)
        started = time.monotonic()
        status, error = Status.CANCELLED, None
        own = raw["Config"].get("StopTimeout")
        timeout_s = min(_OWN_STOP_TIMEOUT_S if own is None else own, self._policy.stop_timeout)
        try:
            await self._engine.disable_restart(container.id)
            await self._engine.stop(container.id, int(timeout_s))
            if keep:
                await self._engine.rename(
                    container.id, f"{KEPT_PREFIX}{container.name}-{container.id[:12]}"[:200]
                )
            status = Status.SUCCEEDED
            log.warning(
                "%s (%s) is %s: it %s", container.name, container.image, record.action, reason
            )
        except CommitdError as err:
            status, error = Status.FAILED, str(err)
            raise
        finally:
            self._journal.finish(number, status, duration_s=time.monotonic() - started, error=error)

    async def _report(
        self, container: Container, raw: Mapping[str, Any], reason: Reason, hold: Hold
    ) -> None:
        record = Evicted(
            container.id, container.name, container.image, "reported", reason.value, utcnow()
        )
        await anyio.to_thread.run_sync(self._journal.keep_evicted, record, redacted(raw))
        log.warning("%s %s, and is left running: %s", container.name, reason, hold.detail)

    def _too_many(self, container: Container) -> Hold | None:
        """A storm of undeclared containers is a mistake somewhere: say so, do not mow."""
        now = time.monotonic()
        while self._recent and now - self._recent[0] > 60:  # noqa: PLR2004  per minute
            self._recent.popleft()
        if len(self._recent) >= self._policy.per_minute:
            return Hold(
                container.name,
                Reason.RATE,
                f"{self._policy.per_minute} containers were ended within a minute",
            )
        self._recent.append(now)
        return None

    async def tend(self, containers: Iterable[Container]) -> None:
        """Look after the kept containers, of which ``containers`` is a fresh listing.

        One that runs again, because Compose or a person took it up, gets its name back. One whose
        time is over is removed, unless it became declared meanwhile; its volumes stay.
        """
        for container in containers:
            if container.name.startswith(KEPT_PREFIX) and container.alive:
                await self._guarded(self._hand_back, container.id)
        for record in await anyio.to_thread.run_sync(self._journal.expired, time.time()):
            await self._guarded(self._remove_expired, record.id)
        if time.monotonic() > self._next_prune:
            self._next_prune = time.monotonic() + _PRUNE_EVERY_S
            await anyio.to_thread.run_sync(self._journal.prune)

    async def _guarded(self, work: Callable[[str], Awaitable[None]], container_id: str) -> None:
        """One kept container that makes trouble must not spoil the cycle."""
        try:
            await work(container_id)
        except CommitdError as err:
            log.warning("a kept container is looked after later: %s", err)

    async def _hand_back(self, container_id: str) -> None:
        record = await anyio.to_thread.run_sync(self._journal.find_evicted, container_id)
        if record is not None:
            await self._engine.rename(container_id, record.name)
            await anyio.to_thread.run_sync(self._journal.evicted_is_gone, container_id)
            log.info("%s belongs here again and has its name back", record.name)

    async def _remove_expired(self, container_id: str) -> None:
        shield = self._shield()
        if shield.doubt:
            return
        raw = await self._engine.inspect(container_id)
        if raw is None:
            await anyio.to_thread.run_sync(self._journal.evicted_is_gone, container_id)
            return
        container = from_inspect(raw)
        owner = ownership.classify(container, shield, self._engine.helpers.ids())
        kept = container.name.startswith(KEPT_PREFIX)
        if kept and (container.alive or not isinstance(owner, ownership.Undeclared)):
            await self._hand_back(container_id)
            return
        if kept:
            await self._engine.remove(container_id)
        await anyio.to_thread.run_sync(self._journal.evicted_is_gone, container_id)


def _started(raw: Mapping[str, Any]) -> float:
    """When the container was started, in seconds since the epoch."""
    return datetime.fromisoformat(raw["State"]["StartedAt"]).timestamp()


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


def redacted(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What is worth keeping of an inspect: no environment values, no arguments, no secret."""
    config, host = raw["Config"], raw["HostConfig"]
    return {
        "Id": raw["Id"],
        "Name": raw["Name"],
        "Created": raw["Created"],
        "Image": raw["Image"],
        "Config": {
            "Image": config["Image"],
            "Labels": config.get("Labels"),
            "Env": sorted({pair.partition("=")[0] for pair in config.get("Env") or []}),
            "StopSignal": config.get("StopSignal"),
        },
        "HostConfig": {
            "RestartPolicy": host["RestartPolicy"],
            "AutoRemove": host.get("AutoRemove"),
            "NetworkMode": host.get("NetworkMode"),
            "Binds": host.get("Binds"),
            "PortBindings": host.get("PortBindings"),
        },
        "Mounts": [
            {key: mount.get(key) for key in ("Type", "Name", "Source", "Destination")}
            for mount in raw.get("Mounts") or []
        ],
    }

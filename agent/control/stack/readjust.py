"""Undoing what somebody changed on containers while they ran: networks, limits, restart policy."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from agent.adapters.engine.containers import from_inspect, updated
from agent.adapters.engine.engine import Engine
from agent.domain import adjustable
from agent.domain.container import CONFIG_HASH, Container
from agent.domain.errors import CommitdError, UnreachableError
from agent.domain.release.release import Service

log = logging.getLogger("commitd.stacks")


async def readjust(
    engine: Engine, containers: Iterable[Container], recorded: Mapping[str, Service]
) -> set[str]:
    """Undo it where a container can go on; the services that need a new one.

    ``recorded`` are the services of the last release; those that the file gives other settings now
    have new containers anyway. Raises :class:`CommitdError`.
    """
    recreate: set[str] = set()
    for container in containers:
        service = recorded.get(container.service or "")
        same = service and service.config_hash == container.labels.get(CONFIG_HASH)
        if not service or not same or container.state != "running":
            continue
        if service.settings is None:
            recreate |= {service.name} if container.lost_network else set()
            continue
        now = from_inspect(raw).settings if (raw := await engine.inspect(container.id)) else None
        if now is None or now == service.settings:
            continue
        remedy = adjustable.remedy(service.settings, now)
        try:
            for network in remedy.disconnect:
                log.info("%s: taking it out of the network %s", container.name, network)
                await engine.disconnect(container.id, network)
            if remedy.update:
                log.info("%s: setting back %s", container.name, ", ".join(remedy.update))
                await engine.update(container.id, updated(remedy.update))
        except UnreachableError:
            raise
        except CommitdError as err:  # a limit below what is in use is a 500 of the engine
            log.warning("%s: it needs a new container: %s", container.name, err)
            recreate.add(service.name)
        if remedy.recreate:
            recreate.add(service.name)
    return recreate

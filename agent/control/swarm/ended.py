"""Services whose tasks have ended for good: their restart policy lets the Swarm start none again.

A deploy starts tasks only of services that it changes. Those of the others are started as
``docker service update --force`` does it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agent.adapters.engine.engine import Engine
from agent.adapters.swarm import cluster, services
from agent.domain.container import Container
from agent.domain.release import health
from agent.domain.swarm import places
from agent.domain.swarm.spec import template

Ended = Mapping[str, Mapping[str, Any]]
"""What the tasks of such services were made from, by the IDs of these."""


async def look(engine: Engine, stack: str, shown: Iterable[Container]) -> Ended:
    """Those of a stack of which nothing runs and something should; ``shown`` are all its services.

    Raises :class:`CommitdError`.
    """
    exited = {container.id: container for container in shown if container.state == "exited"}
    if not exited:
        return {}
    return {
        service.id: template(service.spec)
        for service in await cluster.services(engine, stack)
        if service.id in exited
        and not (service.is_job or service.kept)
        and health.of(exited[service.id], one_shot=places.finishes(service)) in health.DOWN
    }


async def start_again(engine: Engine, stack: str, ended: Ended) -> None:
    """Have tasks of these, which a deploy has not started since. Raises :class:`CommitdError`."""
    for service in await cluster.services(engine, stack) if ended else ():
        made_from = template(service.spec)
        if made_from == ended.get(service.id):
            again = {**made_from, "ForceUpdate": int(made_from.get("ForceUpdate") or 0) + 1}
            await services.update(engine, service, {**service.spec, "TaskTemplate": again})

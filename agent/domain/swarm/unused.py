"""Which configs and secrets nothing needs any more.

A service needs those of its spec and of the one before, to which the Swarm itself may go back; a
release that may come back needs those that it was deployed with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from agent.domain.swarm.model import SwarmObject, SwarmService
from agent.domain.swarm.spec import container


def unused(
    found: Iterable[SwarmObject], services: Iterable[SwarmService], kept: Collection[str]
) -> list[SwarmObject]:
    """Of ``found`` those that the agent has made, and nothing uses.

    ``services`` are all of the Swarm, ``kept`` the names that releases have.
    """
    used = {id_ for service in services for id_ in service.configs | service.secrets}
    return [
        each
        for each in found
        if each.stack is not None and each.id not in used and each.name not in kept
    ]


def names(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of all objects that a service with this spec uses, sorted."""
    used = container(spec)
    configs = (each.get("ConfigName") for each in used.get("Configs") or ())
    secrets = (each.get("SecretName") for each in used.get("Secrets") or ())
    return tuple(sorted({str(name) for name in (*configs, *secrets) if name}))

"""One service of a Swarm: looking at it, changing it, removing it. Raises what Engine raises.

A change names the version that it is made from, and the Swarm refuses it if that is not the latest
any more: what somebody else changed meanwhile is not undone unseen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from agent.adapters.engine.client import EngineError
from agent.adapters.engine.engine import Engine
from agent.adapters.swarm.cluster import service_of
from agent.domain.errors import TransientError
from agent.domain.swarm.model import SwarmService

_ABSENT = 404
_OUT_OF_SEQUENCE = "update out of sequence"
"""What all engines from 20.10 to 28 say, with a status of 500."""


class ChangedMeanwhileError(TransientError):
    """Somebody else has changed or removed it since it was looked at."""


async def inspect(engine: Engine, service: str) -> SwarmService | None:
    """A service by its ID or name, or None when there is no such service."""
    async with engine.asking("inspect a service") as docker:
        try:
            return service_of(await docker.get(_path(service)))
        except EngineError as err:
            if err.status == _ABSENT:
                return None
            raise


async def update(engine: Engine, service: SwarmService, spec: Mapping[str, Any]) -> None:
    """Give the service this spec in the place of the one it had when it was looked at.

    The credentials for its image stay. Raises :class:`ChangedMeanwhileError` when it has another
    one by now, or is gone.
    """
    work = f"update the service {service.name}"
    async with engine.asking(work) as docker:
        try:
            await docker.post(f"{_path(service.id)}/update", spec, version=str(service.version))
        except EngineError as err:
            if err.status == _ABSENT or _OUT_OF_SEQUENCE in err.message:
                message = f"cannot {work}: somebody else has changed it meanwhile"
                raise ChangedMeanwhileError(message) from None
            raise


async def remove(engine: Engine, service: SwarmService) -> None:
    """Remove the service; its tasks end with their own signal and time, and volumes stay."""
    async with engine.asking(f"remove the service {service.name}") as docker:
        try:
            await docker.delete(_path(service.id))
        except EngineError as err:
            if err.status != _ABSENT:
                raise


def _path(service: str) -> str:
    return f"services/{quote(service, safe='')}"

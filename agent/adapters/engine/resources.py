"""The engine's networks and volumes, as it lists them."""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import suppress

from agent.adapters.engine import containers
from agent.adapters.engine.engine import AbsentError, Engine
from agent.domain.container import Container
from agent.domain.resources.provision import Raw


async def networks(engine: Engine) -> tuple[Raw, ...]:
    """All of them. Raises :class:`CommitdError`."""
    async with engine.asking("list the networks") as docker:
        found = await docker.get("networks")
    return tuple(found)


async def volumes(engine: Engine, names: Collection[str]) -> tuple[Raw, ...]:
    """Those with these names that there are. Raises :class:`CommitdError`."""
    if not names:
        return ()
    async with engine.asking("list the volumes") as docker:
        answer = await docker.get("volumes", filters=json.dumps({"name": sorted(names)}))
    # The engine takes a part of a name for the name.
    return tuple(raw for raw in answer.get("Volumes") or [] if raw["Name"] in names)


async def inside(engine: Engine, network_id: str) -> tuple[Container, ...]:
    """The running containers in a network. Raises :class:`CommitdError`."""
    async with engine.asking("list the containers of a network") as docker:
        wanted = json.dumps({"network": [network_id]})
        found = await docker.get("containers/json", filters=wanted)
    return tuple(containers.from_listing(raw) for raw in found)


async def in_swarm(engine: Engine) -> bool:
    """Whether the engine is a node of a Swarm. Raises :class:`CommitdError`."""
    async with engine.asking("ask what it is") as docker:
        found = await docker.get("info")
    return (found.get("Swarm") or {}).get("LocalNodeState") == "active"


async def remove_network(engine: Engine, network_id: str) -> None:
    """Remove a network in which no container runs, which the engine makes sure of."""
    with suppress(AbsentError):
        async with engine.asking("remove a network") as docker:
            await docker.delete(f"networks/{network_id}")

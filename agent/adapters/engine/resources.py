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
        found = await docker._query_json("networks")  # noqa: SLF001  aiodocker lists IDs alone
    return tuple(found)


async def volumes(engine: Engine, names: Collection[str]) -> tuple[Raw, ...]:
    """Those with these names that there are. Raises :class:`CommitdError`."""
    if not names:
        return ()
    async with engine.asking("list the volumes") as docker:
        answer = await docker._query_json(  # noqa: SLF001
            "volumes", params={"filters": json.dumps({"name": sorted(names)})}
        )
    # The engine takes a part of a name for the name.
    return tuple(raw for raw in answer.get("Volumes") or [] if raw["Name"] in names)


async def inside(engine: Engine, network_id: str) -> tuple[Container, ...]:
    """The running containers in a network. Raises :class:`CommitdError`."""
    params = {"filters": json.dumps({"network": [network_id]})}
    async with engine.asking("list the containers of a network") as docker:
        found = await docker._query_json("containers/json", params=params)  # noqa: SLF001
    return tuple(containers.from_listing(raw) for raw in found)


async def in_swarm(engine: Engine) -> bool:
    """Whether the engine is a node of a Swarm. Raises :class:`CommitdError`."""
    async with engine.asking("ask what it is") as docker:
        found = await docker.system.info()
    return (found.get("Swarm") or {}).get("LocalNodeState") == "active"


async def remove_network(engine: Engine, network_id: str) -> None:
    """Remove a network in which no container runs, which the engine makes sure of."""
    with suppress(AbsentError):
        async with engine.asking("remove a network") as docker:
            await docker._query_json(f"networks/{network_id}", method="DELETE")  # noqa: SLF001

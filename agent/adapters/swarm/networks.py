"""The networks of a stack in a Swarm. Raises what Engine raises."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from agent.adapters.engine.client import EngineError
from agent.adapters.engine.engine import Engine
from agent.domain.swarm.model import OURS, STACK

_ABSENT, _TROUBLE = 404, 500
_IN_USE = "in use"


async def of_stack(engine: Engine, stack: str) -> Mapping[str, str]:
    """IDs of the networks that ``docker stack deploy`` made for the stack, to their names.

    It labels them, and names them after the stack unless its file does; then our label is on it.
    """
    return {
        str(each["Id"]): str(each["Name"])
        for each in await labelled(engine, stack)
        if each["Name"].startswith(f"{stack}_") or each["Labels"].get(OURS) == stack
    }


async def labelled(engine: Engine, stack: str) -> list[Mapping[str, Any]]:
    """Networks with the label of the stack, which ``docker stack deploy`` leaves as they are."""
    wanted = {"label": [f"{STACK}={stack}"], "scope": ["swarm"]}
    async with engine.asking("list the networks") as docker:
        found = await docker.get("networks", filters=json.dumps(wanted))
    return [each for each in found if each["Scope"] == "swarm"]


async def remove(engine: Engine, network_id: str) -> bool:
    """Remove it unless something uses it, which the Swarm knows best; whether it is gone."""
    async with engine.asking("remove a network") as docker:
        try:
            await docker.delete(f"networks/{quote(network_id, safe='')}")
        except EngineError as err:
            if err.status == _ABSENT:
                return True
            if err.status < _TROUBLE or _IN_USE in err.message:
                return False
            raise
    return True

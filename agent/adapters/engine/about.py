"""What an engine says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from agent.adapters.engine.engine import CALL_TIMEOUT_S, Engine

ANSWER_S = CALL_TIMEOUT_S


class About(Struct, frozen=True, kw_only=True):
    """``root`` is where its data is; ``swarm`` the state of its Swarm, as in ``docker info``."""

    version: str
    root: str
    swarm: str
    control: bool


async def ask(engine: Engine) -> About:
    """Raises what :class:`Engine` raises."""
    async with engine.asking("ask what it is", ANSWER_S) as docker:
        info: Mapping[str, Any] = await docker.get("info")
    swarm = info.get("Swarm") or {}
    return About(
        version=str(info.get("ServerVersion", "")),
        root=str(info.get("DockerRootDir", "")),
        swarm=str(swarm.get("LocalNodeState", "")),
        control=bool(swarm.get("ControlAvailable")),
    )

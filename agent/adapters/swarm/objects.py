"""Configs and secrets of a Swarm. Raises what :class:`Engine` raises."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from agent.adapters.engine.client import EngineError
from agent.adapters.engine.engine import Engine
from agent.domain.swarm.model import OURS, STACK
from agent.domain.swarm.stack_file import ObjectWanted

_THERE = 409


async def provide(engine: Engine, wanted: Iterable[ObjectWanted]) -> None:
    """Have all of these. What has the name has the content: the name is made of that."""
    for each in wanted:
        async with engine.asking(f"make {each.name}") as docker:
            try:
                await docker.post(f"{each.kind}s/create", _spec(each))
            except EngineError as err:
                if err.status != _THERE:
                    raise


def _spec(wanted: ObjectWanted) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "Name": wanted.name,
        "Labels": {**wanted.labels, STACK: wanted.stack, OURS: wanted.stack},
        "Data": base64.b64encode(wanted.content).decode(),
    }
    return {**spec, "Templating": {"Name": wanted.template}} if wanted.template else spec

"""Configs and secrets of a Swarm, which nobody can change once they are made.

Their content goes to the engine in the body of one request, and is in no message: what the engine
says of a failure does not quote it. Raises what :class:`Engine` raises.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from agent.adapters.engine.client import EngineError
from agent.adapters.engine.engine import Engine
from agent.domain.errors import PermanentError
from agent.domain.swarm.model import KINDS, OURS, STACK, Kind, SwarmObject
from agent.domain.swarm.stack_file import ObjectWanted

_ABSENT, _THERE = 404, 409
_IN_USE = "in use by"
"""What all engines from 20.10 to 28 say, with a status of 400."""


async def ours(engine: Engine, stack: str | None = None) -> tuple[SwarmObject, ...]:
    """Those that agents have made, for all stacks or one, by kind and name."""
    label = OURS if stack is None else f"{OURS}={stack}"
    return await _listed(engine, {"label": [label]})


async def provide(engine: Engine, wanted: Iterable[ObjectWanted]) -> None:
    """Have all of these. What is there already has the content: the name is made of it.

    Two managers may make the same one at once: the second finds it there. Raises
    :class:`PermanentError` for a name that something else has.
    """
    missing = list(wanted)
    if missing:
        names = {each.name for each in missing}
        found = await _listed(engine, {"name": sorted(names)})
        there = {(each.kind, each.name): each for each in found if each.name in names}
        for each in missing:
            other = there.get((each.kind, each.name))
            if other is None:
                await _make(engine, each)
            elif other.stack != each.stack:
                one = each.kind[:-1]
                raise PermanentError(
                    f"the {one} {each.name} is there, and commitd has not made it",
                    hint=f"docker {one} rm {each.name}",
                )


async def remove(engine: Engine, found: SwarmObject) -> bool:
    """Remove one that is not used any more; False if a service has come to use it meanwhile."""
    async with engine.asking(f"remove {found.name}") as docker:
        try:
            await docker.delete(f"{found.kind}/{quote(found.id, safe='')}")
        except EngineError as err:
            if _IN_USE in err.message:
                return False
            if err.status != _ABSENT:
                raise
    return True


async def _make(engine: Engine, wanted: ObjectWanted) -> None:
    spec: dict[str, Any] = {
        "Name": wanted.name,
        "Labels": {**wanted.labels, STACK: wanted.stack, OURS: wanted.stack},
        "Data": base64.b64encode(wanted.content).decode(),
    }
    if wanted.template:
        spec["Templating"] = {"Name": wanted.template}
    async with engine.asking(f"make {wanted.name}") as docker:
        try:
            await docker.post(f"{wanted.kind}/create", spec)
        except EngineError as err:
            if err.status != _THERE:
                raise


async def _listed(engine: Engine, filters: Mapping[str, list[str]]) -> tuple[SwarmObject, ...]:
    found: list[SwarmObject] = []
    for kind in KINDS:
        async with engine.asking(f"list the {kind}") as docker:
            answer = await docker.get(kind, filters=json.dumps(filters))
        found += [_object(kind, raw) for raw in answer]
    return tuple(sorted(found, key=lambda each: (each.kind, each.name)))


def _object(kind: Kind, raw: Mapping[str, Any]) -> SwarmObject:
    spec = raw["Spec"]
    return SwarmObject(
        kind=kind,
        id=raw["ID"],
        name=spec["Name"],
        labels=spec.get("Labels") or {},
    )

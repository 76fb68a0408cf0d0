"""What managers share, in config objects of the Swarm: its Raft store keeps them on all managers.

The data of such a config is one byte; the text is a label, which alone can be changed later, and
only by who knows its version: of two who change it at once, one is refused.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from agent.adapters.engine.engine import Engine
from agent.domain.errors import CommitdError, PermanentError, TransientError
from agent.domain.swarm import records

_DATA = base64.b64encode(b"-").decode()


class Stored(Struct, frozen=True, kw_only=True):
    """One record as it is kept. ``stack`` is the one that it is about, None: the cluster."""

    id: str
    name: str
    version: int
    stack: str | None
    text: str


class ConflictError(TransientError):
    """Somebody else has written it meanwhile."""


async def read(engine: Engine, name: str | None = None) -> dict[str, Stored]:
    """All records, or the one of a name, by name. Raises what :class:`Engine` raises.

    What has the label of one and another name is none.
    """
    filters: dict[str, Any] = {"label": [records.LABEL]}
    if name is not None:
        filters["name"] = [name]  # all that begin so
    async with engine.asking("read what managers share") as docker:
        found = await docker.get("configs", filters=json.dumps(filters))
    stored = [each for each in map(_stored, found) if records.is_name(each.name, each.stack)]
    return {each.name: each for each in stored if name in {None, each.name}}


async def write(
    engine: Engine, name: str, stack: str | None, text: str, before: Stored | None
) -> Stored:
    """Keep ``text`` in place of what was read ``before``; None: there was none.

    Raises :class:`ConflictError`, and what :class:`Engine` raises.
    """
    labels = {records.LABEL: text} | ({records.OF_STACK: stack} if stack else {})
    spec = {"Name": name, "Labels": labels, "Data": _DATA}
    work = "write what managers share"
    try:
        if before is None:
            async with engine.asking(work) as docker:
                identifier = str((await docker.post("configs/create", spec))["ID"])
        else:
            identifier = before.id
            path = f"configs/{quote(identifier, safe='')}/update"
            async with engine.asking(work) as docker:
                await docker.post(path, spec, version=str(before.version))
    except CommitdError as err:
        if "update out of sequence" in err.message or "AlreadyExists" in err.message:
            raise ConflictError(err.message, where=f"config {name}") from None
        if "not found" in err.message and before is not None:
            raise ConflictError(f"it was removed: {err.message}", where=f"config {name}") from None
        raise
    async with engine.asking(work) as docker:
        stored = _stored(await docker.get(f"configs/{quote(identifier, safe='')}"))
    if stored.text != text:
        raise ConflictError("somebody else has written it just now", where=f"config {name}")
    return stored


async def remove(engine: Engine, stored: Stored) -> None:
    """Forget a record; one that is gone already is no error."""
    try:
        async with engine.asking("remove what managers share") as docker:
            await docker.delete(f"configs/{quote(stored.id, safe='')}")
    except PermanentError as err:
        if "not found" not in err.message:
            raise


def _stored(raw: Mapping[str, Any]) -> Stored:
    spec = raw["Spec"]
    labels: Mapping[str, str] = spec.get("Labels") or {}
    return Stored(
        id=raw["ID"],
        name=spec["Name"],
        version=int(raw["Version"]["Index"]),
        stack=labels.get(records.OF_STACK),
        text=labels.get(records.LABEL, ""),
    )

"""Looking whether a stack without a release already runs as declared."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio.to_thread

from agent.adapters import images
from agent.adapters.compose import Compose
from agent.adapters.containers import binds_of, from_inspect
from agent.adapters.engine import Engine
from agent.control.stacks import Ready
from agent.domain import adoption
from agent.domain.adoption import Resident
from agent.domain.images import pinned
from agent.domain.layout import plaintext_path

NOTHING = "nothing of it is there"


class Adopter:
    """Only looks; what it finds holds as long as nobody touches the containers."""

    def __init__(self, compose: Compose, engine: Engine) -> None:
        self._compose = compose
        self._engine = engine

    async def look(self, ready: Ready) -> tuple[Ready, str | None]:
        """The stack with its images called as its containers call them, and why it is not there.

        None: all of it is there as it is declared. Raises :class:`CommitdError`.
        """
        listed = await self._engine.containers(ready.stack.name)
        raws = [await self._engine.inspect(c.id) for c in listed if not c.one_off]
        residents = [_resident(raw) for raw in raws if raw]
        if not residents:
            return ready, NOTHING
        wanted = {n: s for n, s in ready.services.items() if s.scale}
        if ready.stack.build and not all(pinned(s.image) for s in wanted.values()):
            return ready, "Compose builds its images"
        names = adoption.made_with(residents)
        called = {n: names[n] for n in wanted.keys() & names.keys()}
        image_ids: dict[str, str] = {}
        for image in {service.image for service in wanted.values()}:
            if found := await images.identity(self._engine, image):
                image_ids[image] = found
        why = adoption.refusal(
            ready.stack.name,
            wanted,
            residents,
            image_ids=image_ids,
            changed_at=await anyio.to_thread.run_sync(changed_at, ready),
            steps=await self._compose.rehearse(ready.invocation, called),
        )
        services = {n: replace(s, image=called.get(n, s.image)) for n, s in ready.services.items()}
        return replace(ready, services=services), why


def _resident(raw: Mapping[str, Any]) -> Resident:
    return Resident(
        from_inspect(raw),
        raw["Image"],
        binds_of(raw),
        datetime.fromisoformat(raw["State"]["StartedAt"]).timestamp(),
    )


def changed_at(ready: Ready) -> dict[str, float]:
    """When the files of the repository that each service mounts were last written. Blocks."""
    return {name: max(_times(ready, name), default=0.0) for name in ready.services}


def _times(ready: Ready, service: str) -> Iterator[float]:
    """Of the files, their plaintext, and the directories between them and what is mounted."""
    given = ready.services[service].mounts
    mounts = {Path(place) for path in given for place in (path, os.path.realpath(path))}
    root = ready.invocation.root
    for path, _ in ready.files(service):
        for file in (root / path, root / plaintext_path(path)):
            for place in (file, *file.parents):
                if any(place.is_relative_to(mount) for mount in mounts):
                    with suppress(OSError):  # most files have no plaintext
                        yield place.lstat().st_ctime
                        yield place.stat().st_ctime  # on a tmpfs it is behind a link

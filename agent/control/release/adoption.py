"""Looking whether a stack without a release already runs as declared."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio.to_thread
from msgspec.structs import replace

from agent.adapters.compose.compose import Compose
from agent.adapters.engine import images, resources
from agent.adapters.engine.containers import binds_of, from_inspect, volumes_of
from agent.adapters.engine.engine import Engine
from agent.control.stack.ready import Ready
from agent.domain.release import adoption
from agent.domain.release.adoption import NAMESPACES, Place, Resident
from agent.domain.release.health import Expected
from agent.domain.repository.image_reference import pinned
from agent.domain.repository.layout import plaintext_path
from agent.domain.resources import provision

NOTHING = "no containers exist yet"


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
        if ready.stack.policy.builds and not all(pinned(s.image) for s in wanted.values()):
            return ready, "Compose builds its images"
        names = adoption.made_with(residents)
        called = {n: replace(s, image=names.get(n, s.image)) for n, s in ready.services.items()}
        place = await self._place(ready, wanted, residents)
        why = adoption.refusal(ready.stack.name, ready.model, wanted, residents, place)
        return replace(ready, services=called), why

    async def _place(
        self, ready: Ready, wanted: Mapping[str, Expected], residents: Sequence[Resident]
    ) -> Place:
        """What there is beside the containers."""
        image_ids: dict[str, str] = {}
        for image in {service.image for service in wanted.values()}:
            if found := await images.identity(self._engine, image):
                image_ids[image] = found
        volumes = {d.name for d in ready.resources if d.kind is provision.ResourceKind.VOLUME}
        made = adoption.as_made(ready.model, residents)
        return Place(
            image_ids=image_ids,
            hashes=await self._compose.hashes(ready.invocation, made),
            networks=await resources.networks(self._engine),
            volumes=await resources.volumes(self._engine, volumes),
            changed_at=await anyio.to_thread.run_sync(changed_at, ready),
        )


def _resident(raw: Mapping[str, Any]) -> Resident:
    modes = {key: str(raw["HostConfig"].get(theirs) or "") for key, theirs in NAMESPACES.items()}
    return Resident(
        container=from_inspect(raw),
        image_id=raw["Image"],
        binds=binds_of(raw),
        started_at=datetime.fromisoformat(raw["State"]["StartedAt"]).timestamp(),
        volumes=frozenset(volumes_of(raw)),
        networks=frozenset((raw.get("NetworkSettings") or {}).get("Networks") or {}),
        shares={
            key: mode.removeprefix("container:")
            for key, mode in modes.items()
            if mode.startswith("container:")
        },
    )


def changed_at(ready: Ready) -> dict[str, float]:
    """When the files of the repository that each service mounts were last written. Blocks."""
    return {name: max(_times(ready, name), default=0.0) for name in ready.services}


def _times(ready: Ready, service: str) -> Iterator[float]:
    """Of the files, their plaintext, and the directories between them and what is mounted."""
    given = ready.services[service].mounts
    mounts = {Path(place) for path in given for place in (path, os.path.realpath(path))}
    root = ready.invocation.checkout
    for path, _ in ready.files(service):
        for file in (root / path, root / plaintext_path(path)):
            for place in (file, *file.parents):
                if any(place.is_relative_to(mount) for mount in mounts):
                    with suppress(OSError):  # most files have no plaintext
                        yield place.lstat().st_ctime
                        yield place.stat().st_ctime  # on a tmpfs it is behind a link

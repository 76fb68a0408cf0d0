"""What Compose has fetched from registries for a service, by the keys that name it.

An image that is run, an image that a hook runs or that is mounted as a volume, and an image that a
build takes files from. The keys are the same in a file and in the model that Compose makes of it,
so that all who care ask here: policy that it is pinned, deploys what to pull first, releases what a
rollback needs, and ``commitd pin`` where to write digests. Which keys there are is held against the
schema of Compose by ``tests/unit/test_compose_schema.py``. ``models:`` are refused altogether
(``refused_keys``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum, auto
from typing import Any

from msgspec import Struct

from agent.domain.documents import Path
from agent.domain.repository import hooks

CONTEXT = "docker-image://"


class Kind(Enum):
    """What becomes of it: a service's own image, one of a hook, a volume, or a part of a build."""

    IMAGE = auto()
    HOOK = auto()
    VOLUME = auto()
    CONTEXT = auto()


class Artefact(Struct, frozen=True):
    """``reference`` as it stands at ``path``, where a prefix may be before it.

    ``name`` is for people, and the same in a file and in the model.
    """

    kind: Kind
    service: str
    name: str
    path: Path
    reference: str


def of_model(model: Mapping[str, Any]) -> list[Artefact]:
    """Those of all services, by name."""
    services: Mapping[str, Any] = model.get("services") or {}
    return [each for name, raw in sorted(services.items()) for each in of_service(name, raw)]


def of_service(name: str, service: Mapping[Any, Any]) -> Iterator[Artefact]:
    """Its own image first, then the others; of a hook nothing that its service has as well."""
    at: Path = ("services", name)
    image = service.get("image")
    if isinstance(image, str) and image:
        yield Artefact(Kind.IMAGE, name, name, (*at, "image"), image)
    yield from _volumes(name, name, service, at)
    for hook in hooks.of_service(name, service, hooks.KEY):
        here = (*at, hook.key, hook.index)
        own = hook.spec.get("image")
        if isinstance(own, str) and own and own != image:
            yield Artefact(Kind.HOOK, name, hook.name, (*here, "image"), own)
        yield from _volumes(name, hook.name, hook.spec, here)
    yield from _contexts(name, service.get("build"), (*at, "build", "additional_contexts"))


def beside(name: str, service: Mapping[str, Any]) -> tuple[str, ...]:
    """The references that the service has besides its own image; those of a build are in that."""
    kinds = {Kind.HOOK, Kind.VOLUME}
    return tuple(sorted({a.reference for a in of_service(name, service) if a.kind in kinds}))


def _volumes(service: str, name: str, container: Mapping[Any, Any], at: Path) -> Iterator[Artefact]:
    mounts = container.get("volumes")
    for i, mount in enumerate(mounts if isinstance(mounts, list) else ()):
        if isinstance(mount, Mapping) and mount.get("type") == "image":
            source = mount.get("source")
            if isinstance(source, str) and source:
                said = f"{name}: image volume {mount.get('target')}"
                path = (*at, "volumes", i, "source")
                yield Artefact(Kind.VOLUME, service, said, path, source)


def _contexts(service: str, build: Any, at: Path) -> Iterator[Artefact]:
    found = build.get("additional_contexts") if isinstance(build, Mapping) else None
    pairs: list[tuple[str | int, str, str]] = []
    if isinstance(found, Mapping):
        pairs = [(str(key), str(key), str(value)) for key, value in found.items()]
    elif isinstance(found, list):
        split = [str(pair).partition("=") for pair in found]
        pairs = [(i, key, value) for i, (key, _, value) in enumerate(split)]
    for step, key, value in pairs:
        if value.startswith(CONTEXT):
            said = f"{service}: build: additional_contexts: {key}"
            reference = value.removeprefix(CONTEXT)
            yield Artefact(Kind.CONTEXT, service, said, (*at, step), reference)

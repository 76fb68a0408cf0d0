"""Keys of a Compose file that the agent lets no stack have, whatever variables say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agent.domain.documents import Document, Path
from agent.domain.finding import Fault
from agent.domain.repository import hooks

MODELS = (
    "models: is not allowed: Compose would run `docker model` on the host with the stack's "
    "variables"
)
_INSTEAD = "run what serves the model as a service, with image:"


def of_project(document: Document) -> Iterator[Fault]:
    """Those of the whole file."""
    if document.data.get("jobs"):
        said = "jobs: would be ignored: the agent starts services, and Compose starts no jobs"
        yield _fault(document, ("jobs",), said, "write a service instead")
    if document.data.get("models"):
        yield _fault(document, ("models",), MODELS, _INSTEAD)


def of_service(
    document: Document, name: str, service: Mapping[Any, Any], *, build: bool
) -> Iterator[Fault]:
    """Those of one service; ``build`` allows ``build:``."""
    at: Path = ("services", name)
    if service.get("provider") is not None:
        said = f"{name}: provider: would run a program of the repository on the host"
        yield _fault(document, (*at, "provider"), said, "run it in a container, with image:")
    if service.get("build") is not None and not build:
        yield _fault(
            document,
            (*at, "build"),
            f"{name}: build: is not allowed",
            "push an image and name it by its digest, or allow it with build: allow in "
            "commitd.yaml",
        )
    for hook in hooks.of_service(name, service, hooks.KEY):
        if str(hook.spec.get("per_replica", False)).lower() != "false":
            here = (*at, hook.key, hook.index, "per_replica")
            said = f"{hook.name}: per_replica: Compose 5.6 knows the key and cannot run it"
            yield _fault(document, here, said, "leave it out")


def _fault(document: Document, at: Path, said: str, hint: str) -> Fault:
    return Fault(said, f"{document.name}:{document.line(at)}", hint, "policy")

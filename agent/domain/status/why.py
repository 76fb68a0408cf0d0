"""The answer to "why does this run?", or why not; and how it reads as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct, field
from msgspec.structs import asdict

from agent.domain.container import KEPT_PREFIX, Container
from agent.domain.errors import PermanentError
from agent.domain.outcome import EvictionAction, Reason
from agent.domain.release.release import Release
from agent.domain.repository.desired import DesiredState, Stack
from agent.domain.repository.tree import Snapshot
from agent.domain.revision import Revision
from agent.domain.status import placement

SHORTEST_ID = 4
"""Characters of a container's ID that may stand for it."""


_NOWHERE: Mapping[str, Any] = {"where": None, "commit": None}


class Provenance(Struct, frozen=True):
    """A place in the repository (``file:line``), and the commit that made it so, if known."""

    where: str
    commit: Revision | None = None

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"where": self.where, "commit": commit_json(self.commit)}


class ServiceFacts(Struct, frozen=True):
    """One service of a stack: its image, where the file says so, and what runs of it."""

    name: str
    image: str | None
    origin: Provenance | None
    containers: tuple[Container, ...] = ()


class Ended(Struct, frozen=True, kw_only=True):
    """What was done with a container that nobody declared.

    ``kept_until`` is in seconds since the epoch, None where it is not kept, or for good;
    ``undoable`` is whether ``commitd undo`` can bring it back.
    """

    id: str
    action: EvictionAction
    reason: Reason
    message: str
    at: str
    kept_until: float | None
    undoable: bool


class Explanation(Struct, frozen=True, kw_only=True):
    """All that is known of one name.

    ``because`` says it in one sentence. ``declared`` is where the list names the stack, ``left``
    where it did before. ``exempt`` is why an undeclared container stays, ``rule`` the place in Git
    that says so, if one does. ``last`` is the newest action, as ``history`` has it; ``touched`` are
    the commits that made its files what they are, by path. ``words`` are what a container of it has
    said (``text``) that failed, and when (``at``), if it is a stack with secrets: for root alone.
    """

    name: str
    kind: str
    because: str
    stack: str | None = None
    declared: Provenance | None = None
    left: Provenance | None = None
    state: Mapping[str, Any] | None = None
    services: tuple[ServiceFacts, ...] = ()
    container: Container | None = None
    exempt: Reason | None = None
    rule: Provenance | None = None
    ended: Ended | None = None
    last: Mapping[str, Any] | None = None
    touched: Mapping[str, Revision] = field(default_factory=dict)
    words: Mapping[str, str] | None = None

    def as_json(self) -> dict[str, Any]:
        """The document of ``why --json``."""
        return {
            "name": self.name,
            "kind": self.kind,
            "because": self.because,
            "stack": self.stack,
            "declared": self.declared.as_json() if self.declared else None,
            "left": self.left.as_json() if self.left else None,
            "state": dict(self.state) if self.state else None,
            "services": [
                {
                    "name": service.name,
                    "image": service.image,
                    **(service.origin.as_json() if service.origin else _NOWHERE),
                    "containers": [_container(each) for each in service.containers],
                }
                for service in self.services
            ],
            "container": _container(self.container) if self.container else None,
            "exempt": (
                {
                    "reason": self.exempt,
                    "message": self.exempt.message(self.rule.where if self.rule else None),
                    **(self.rule.as_json() if self.rule else _NOWHERE),
                }
                if self.exempt
                else None
            ),
            "ended": asdict(self.ended) if self.ended else None,
            "last": dict(self.last) if self.last else None,
            "touched": {path: commit_json(commit) for path, commit in self.touched.items()},
            "words": dict(self.words) if self.words else None,
        }


def commit_json(commit: Revision | None) -> dict[str, str] | None:
    """A commit for programs."""
    if commit is None:
        return None
    return {
        "sha": commit.sha,
        "author": commit.author,
        "committed_at": commit.committed_at,
        "subject": commit.subject,
    }


def _container(container: Container) -> dict[str, Any]:
    return {
        "id": container.id,
        "name": _name(container),
        "image": container.image,
        "state": container.state,
        "health": container.health,
        "tasks": placement.tasks(container),
    }


def _name(container: Container) -> str:
    """As the engine has it: an evicted service keeps its name, and only the plan sees another."""
    name = container.name
    return name if container.tasks is None else name.removeprefix(KEPT_PREFIX)


def find(word: str, containers: Iterable[Container]) -> Container | None:
    """The container of that name, or the only one whose ID begins so."""
    known = list(containers)
    named = [c for c in known if word in {c.name, f"/{c.name}"}]
    if not named and len(word) >= SHORTEST_ID:
        named = [c for c in known if c.id.startswith(word)]
    return named[0] if len(named) == 1 else None


def places(stack: Stack, files: Snapshot) -> dict[str, str]:
    """Where the files of the stack name the image of each service (else the service itself).

    The stack's own file goes before those that it includes. Services by name to ``file:line``.
    """
    others = [path for path, _ in stack.inputs if path.endswith((".yaml", ".yml"))]
    found: dict[str, str] = {}
    for path in (stack.compose, *(p for p in others if p != stack.compose)):
        try:
            document = files.document(path)
        except (KeyError, PermanentError):
            continue
        services = document.data.get("services") if isinstance(document.data, dict) else None
        for name in services if isinstance(services, dict) else ():
            line = document.line(("services", name, "image"))
            found.setdefault(str(name), f"{path}:{line}")
    return found


def services(
    name: str,
    desired: DesiredState | None,
    release: Release | None,
    containers: Iterable[Container],
) -> dict[str, tuple[str | None, tuple[Container, ...]]]:
    """The services of a stack, each with its image and its containers."""
    mine: dict[str, list[Container]] = {}
    for container in sorted(containers, key=lambda c: c.name):
        if container.project == name and container.service and not container.one_off:
            mine.setdefault(container.service, []).append(container)
    images = {service.name: service.image for service in release.services} if release else {}
    stack = next((s for s in desired.stacks if s.name == name), None) if desired else None
    known = sorted({*images, *mine, *(stack.services if stack else ())})
    return {
        service: (
            images.get(service) or next((c.image for c in mine.get(service, ())), None),
            tuple(mine.get(service, ())),
        )
        for service in known
    }

"""Is a release up and well? Decided from what the engine shows of its containers at one moment."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from agent.domain.container import Container

CRASHES = 3
"""As many restarts since it came up are a crash loop."""


@dataclass(frozen=True, slots=True)
class Need:
    """How a service depends on another one of its stack.

    ``restart``: its file wants it restarted after that one. ``healthy``: it is started only once
    that one is healthy. ``shares``: it runs in namespaces of that one, which end with its process.
    """

    restart: bool = False
    healthy: bool = False
    shares: bool = False


@dataclass(frozen=True, slots=True)
class Expected:
    """One service of the resolved model.

    ``finishes`` when its nature is to end. ``mounts`` are the absolute paths on the host that are
    mounted into it, its file-based configs and secrets included. ``waits`` when Compose starts it
    only once another service is healthy, or that or a hook has ended well. ``inline`` stands for
    the configs and secrets that Compose writes into it; empty: none. ``needs`` are the services of
    its stack that it depends on; it ``joins`` namespaces of these (``service:NAME`` or
    ``container:NAME``). ``hooks`` are the images of its hooks, as far as they are not its own.
    """

    image: str
    scale: int
    finishes: bool
    container_name: str | None = None
    mounts: tuple[str, ...] = ()
    waits: bool = False
    inline: str = ""
    needs: Mapping[str, Need] = field(default_factory=dict)
    joins: frozenset[str] = frozenset()
    hooks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sight:
    """One container as it was inspected.

    ``restarts`` are those by the engine since it was started. ``up_s`` is for how many seconds it
    has run, 0 when it does not.
    """

    container: Container
    restarts: int = 0
    up_s: float = 0.0


class Trouble(StrEnum):
    """What can be wrong with a release that was started."""

    CRASH_LOOP = "crashes again and again"
    UNHEALTHY = "is unhealthy"
    EXITED = "has ended with"
    MISSING = "was removed from outside"
    SURPLUS = "was made more often than its file says"
    IMAGE = "runs another image than its file says"
    STARTING = "is not healthy yet"
    YOUNG = "does not run long enough yet"
    STOPPED = "does not run"
    HALTED = "was stopped from outside"
    PAUSED = "was paused from outside"
    REPLACED = "was replaced from outside"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is not well yet: ``final`` when waiting would not help. ``subject`` is a container or,
    where there is none, a service.

    What somebody ``outside`` did to the release is no fault of it, and is put right.
    """

    trouble: Trouble
    subject: str
    final: bool
    container: Container | None = None
    detail: str = ""
    outside: bool = False

    @property
    def service(self) -> str:
        """Whose it is."""
        return (self.container and self.container.service) or self.subject

    def __str__(self) -> str:
        return f"{self.subject} {self.trouble.value}" + (f" {self.detail}" if self.detail else "")


@dataclass(frozen=True, slots=True)
class Outside:
    """What is known of others who touch a release that was started.

    ``stopped`` are the IDs of containers that somebody told to end. ``made`` are those that were
    there once all of it was started; None: nobody knows.
    """

    stopped: Collection[str] = frozenset()
    made: Collection[str] | None = None


def judge(
    expected: Mapping[str, Expected],
    sights: Iterable[Sight],
    steady_s: float,
    outside: Outside = Outside(),
) -> list[Finding]:
    """All that is not well, the final things first; empty: the release is up and well.

    ``sights`` are the containers of the project without one-offs, all of which were there once:
    one that is missing was removed from outside.
    """
    by_service: dict[str | None, list[Sight]] = {}
    for sight in sights:
        by_service.setdefault(sight.container.service, []).append(sight)
    findings: list[Finding] = []
    for name, service in sorted(expected.items()):
        found = by_service.get(name, [])
        if len(found) != service.scale:
            trouble = Trouble.MISSING if len(found) < service.scale else Trouble.SURPLUS
            detail = f"({len(found)} of {service.scale} containers)"
            findings.append(Finding(trouble, name, final=False, detail=detail, outside=True))
        looks = (_look(sight, service, steady_s, outside) for sight in found)
        findings += [finding for finding in looks if finding]
    return sorted(findings, key=lambda each: (not each.final, _waits(each), each.subject))


def _waits(finding: Finding) -> bool:
    """Whether it was never started: then it waits for others, which are to blame."""
    return finding.container is not None and finding.container.state == "created"


def _look(sight: Sight, service: Expected, steady_s: float, outside: Outside) -> Finding | None:
    container = sight.container

    def finding(trouble: Trouble, *, final: bool = False, detail: str = "") -> Finding:
        return Finding(trouble, container.name, final, container, detail)

    def touched(trouble: Trouble, detail: str = "") -> Finding:
        return replace(finding(trouble, detail=detail), outside=True)

    if service.image and not _same_image(container.image, service.image):
        if outside.made is not None and container.id not in outside.made:
            return touched(Trouble.REPLACED, f"({container.image})")
        return finding(Trouble.IMAGE, final=True, detail=f"({container.image})")
    if container.state == "paused":
        return touched(Trouble.PAUSED)
    if container.state == "exited" and container.id in outside.stopped:
        return touched(Trouble.HALTED)
    if sight.restarts >= CRASHES:
        return finding(Trouble.CRASH_LOOP, final=True, detail=f"({sight.restarts} times)")
    if container.state == "exited":
        if container.exit_code == 0 and service.finishes:
            return None
        return finding(Trouble.EXITED, final=True, detail=str(container.exit_code))
    if container.state != "running":
        return finding(Trouble.STOPPED, detail=f"({container.state})")
    if container.health == "unhealthy":
        return finding(Trouble.UNHEALTHY, final=True)
    if container.health == "starting":
        return finding(Trouble.STARTING)
    if container.health is None and sight.up_s < steady_s:
        return finding(Trouble.YOUNG)
    return None


def _same_image(shown: str, wanted: str) -> bool:
    """By digest where there is one: the engine may leave out the tag."""
    digest = wanted.partition("@")[2]
    return shown == wanted or bool(digest and shown.endswith(digest))

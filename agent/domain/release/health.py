"""Is a release up and well? Decided from what the engine shows of its containers at one moment."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from agent.domain.container import Container
from agent.domain.release.health_check import HealthCheck
from agent.domain.resources.exclusive import Holding

CRASHES = 3
"""As many restarts since it came up are a crash loop, until it runs steadily."""
PATIENCE = 4
"""Who has crashed so often must run as many times longer than others to be steady; and trouble that
may pass must go on for as long to be final."""


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
    ``container:NAME``). ``hooks`` are the images of its hooks, as far as they are not its own;
    it ``has_hooks`` also when those run its own image, or commands in its container.
    It ``wants`` things of the host that no other container can have meanwhile.
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
    has_hooks: bool = False
    wants: frozenset[Holding] = frozenset()


@dataclass(frozen=True, slots=True)
class Sight:
    """One container as it was inspected.

    ``restarts`` are those by the engine since it was started. ``up_s`` is for how many seconds it
    has run, 0 when it does not. Its health ``check`` has failed ``streak`` times in a row.
    """

    container: Container
    restarts: int = 0
    up_s: float = 0.0
    check: HealthCheck | None = None
    streak: int = 0

    def steady_in_s(self, steady_s: float) -> float:
        """How much longer it must run to be steady, in seconds, if no health check tells it."""
        needed_s = steady_s * (PATIENCE if self.restarts >= CRASHES else 1)
        return max(0.0, needed_s - self.up_s)


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
    where there is none, a service. Trouble that may pass is final once it goes on for too long,
    which no single look can tell.

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

    @property
    def waits(self) -> bool:
        """Whether it was not started yet: then it waits for others, which are to blame."""
        container = self.container if self.trouble is Trouble.STOPPED else None
        return container is not None and not container.alive

    def __str__(self) -> str:
        return f"{self.subject} {self.trouble.value}" + (f" {self.detail}" if self.detail else "")


@dataclass(frozen=True, slots=True)
class Known:
    """What is known beside what one look shows; all are IDs of containers.

    ``stopped``: somebody told them to end. ``made``: they were there once the release was made;
    None: nobody knows. ``pending``: they were not started yet since then.
    """

    stopped: Collection[str] = frozenset()
    made: Collection[str] | None = None
    pending: Collection[str] = frozenset()


def summary(findings: Sequence[Finding]) -> str:
    """The first of them in one line."""
    return "; ".join(str(finding) for finding in findings[:3])


def judge(
    expected: Mapping[str, Expected],
    sights: Iterable[Sight],
    steady_s: float,
    known: Known = Known(),
) -> list[Finding]:
    """All that is not well, the final things first; empty: the release is up and well.

    What one look shows: see :mod:`agent.domain.release.patience` for what goes on for too long.

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
        looks = (_look(sight, service, steady_s, known) for sight in found)
        findings += [finding for finding in looks if finding]
    return sorted(findings, key=lambda each: (not each.final, each.waits, each.subject))


def _look(sight: Sight, service: Expected, steady_s: float, known: Known) -> Finding | None:
    container = sight.container

    def finding(trouble: Trouble, *, final: bool = False, detail: str = "") -> Finding:
        return Finding(trouble, container.name, final, container, detail)

    def touched(trouble: Trouble, detail: str = "") -> Finding:
        return replace(finding(trouble, detail=detail), outside=True)

    if service.image and not _same_image(container.image, service.image):
        if known.made is not None and container.id not in known.made:
            return touched(Trouble.REPLACED, f"({container.image})")
        return finding(Trouble.IMAGE, final=True, detail=f"({container.image})")
    if container.state == "paused":
        return touched(Trouble.PAUSED)
    if container.id in known.pending and not container.alive:
        return finding(Trouble.STOPPED, detail=f"({container.state})")
    if container.state == "exited" and container.id in known.stopped:
        return touched(Trouble.HALTED)
    if container.state == "exited":
        if container.exit_code == 0 and service.finishes:
            return None
        return finding(Trouble.EXITED, final=True, detail=str(container.exit_code))
    if container.state == "running":
        if container.health == "healthy":
            return None
        if container.health is None and not sight.steady_in_s(steady_s):
            return None
    if sight.restarts >= CRASHES:
        return finding(Trouble.CRASH_LOOP, detail=f"({sight.restarts} times)")
    if container.state != "running":
        return finding(Trouble.STOPPED, detail=f"({container.state})")
    if container.health is None:
        return finding(Trouble.YOUNG)
    return finding(Trouble.UNHEALTHY if container.health == "unhealthy" else Trouble.STARTING)


def _same_image(shown: str, wanted: str) -> bool:
    """By digest where there is one: the engine may leave out the tag."""
    digest = wanted.partition("@")[2]
    return shown == wanted or bool(digest and shown.endswith(digest))

"""Is a container, and with it a release, healthy? Decided from one look; nothing else decides it.

:func:`of` says how one container is. The gate asks for all that keeps a new release from being
healthy (:func:`judge`), drift and adoption for what is down, status and plan for what is unhealthy.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum

from msgspec import Struct, field
from msgspec.structs import replace

from agent.domain.container import Container
from agent.domain.release.health_check import HealthCheck
from agent.domain.resources.exclusive import Holding

CRASHES = 3
"""As many restarts since it came up are a crash loop, until it runs steadily."""
PATIENCE = 4
"""Who has crashed so often must run as many times longer than others to be steady; and trouble that
may pass must go on for as long to be final."""


class Need(Struct, frozen=True):
    """How a service depends on another one of its stack.

    ``restart``: its file wants it restarted after that one. ``healthy``: it is started only once
    that one is healthy, ``completed``: once it has ended with 0. ``shares``: it runs in namespaces
    of that one, which end with its process.
    """

    restart: bool = False
    healthy: bool = False
    completed: bool = False
    shares: bool = False


class Expected(Struct, frozen=True, kw_only=True):
    """One service of the resolved model.

    ``one_shot`` when its nature is to end. ``mounts`` are the absolute paths on the host that are
    mounted into it, its file-based configs and secrets included. ``waits`` when Compose starts it
    only once another service is healthy, or that or a hook has finished. ``inline`` stands for
    the configs and secrets that Compose writes into it; empty: none. ``needs`` are the services of
    its stack that it depends on; it ``joins`` namespaces of these (``service:NAME`` or
    ``container:NAME``). ``hooks`` are the images of its hooks and volumes that are not its own;
    it ``has_hooks`` also when those run its own image, or commands in its container.
    It ``wants`` things of the host that no other container can have meanwhile.
    """

    image: str
    scale: int
    one_shot: bool
    container_name: str | None = None
    mounts: tuple[str, ...] = ()
    waits: bool = False
    inline: str = ""
    needs: Mapping[str, Need] = field(default_factory=dict)
    joins: frozenset[str] = frozenset()
    hooks: tuple[str, ...] = ()
    has_hooks: bool = False
    wants: frozenset[Holding] = frozenset()


class ContainerView(Struct, frozen=True, kw_only=True):
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


class Ages:
    """For how long containers have run, by a clock that nobody sets, since each start was seen.

    Only the first look at a start asks the wall clock: one that is set back amid a deploy would
    make what was started before seem never to get any older.
    """

    def __init__(self) -> None:
        self._first: dict[tuple[str, float | None], tuple[float, float]] = {}

    def of(self, view: ContainerView, now: float) -> ContainerView:
        """The look with the right age; ``now`` in seconds of that clock."""
        if not view.up_s:
            return view
        start = (view.container.id, view.container.started)
        up_s, seen_at = self._first.setdefault(start, (view.up_s, now))
        return replace(view, up_s=up_s + now - seen_at)


class Health(StrEnum):
    """How one container is."""

    HEALTHY = "healthy"
    """It runs, and its check says so; without a check, for long enough."""
    RECENT = "recently started"
    """It runs and has no check: it may be about to crash."""
    STARTING = "starting"
    """Its check has not said anything yet."""
    FINISHED = "finished"
    """It finished with 0, as a one-shot does."""
    UNHEALTHY = "unhealthy"
    RESTARTING = "restarting"
    PAUSED = "paused"
    EXITED = "exited"
    STOPPED = "stopped"
    """It was never started, or is being removed."""


DOWN = frozenset({Health.PAUSED, Health.EXITED, Health.STOPPED})
"""Without a process that works, and it will not have one by itself."""
_STEADY = frozenset({Health.HEALTHY, Health.FINISHED})


def of(container: Container, *, one_shot: bool, recent: bool | None = None) -> Health:
    """How a container is whose service is a ``one_shot``, or not.

    ``recent`` is whether it was started too recently to be called healthy without a check; None:
    as its listing says.
    """
    match container.state:
        case "running" if container.health is None:
            recent = container.recently_started if recent is None else recent
            return Health.RECENT if recent else Health.HEALTHY
        case "running":
            return _CHECKED.get(container.health or "", Health.STARTING)
        case "restarting" | "paused" as state:
            return Health(state)
        case "exited":
            return Health.FINISHED if one_shot and container.exit_code == 0 else Health.EXITED
        case _:
            return Health.STOPPED


_CHECKED = {"healthy": Health.HEALTHY, "unhealthy": Health.UNHEALTHY}


def all_healthy(containers: Iterable[Container], *, steady: bool = False) -> bool:
    """Whether all of a project is healthy or has finished, by a listing; False: there is nothing.

    Not ``steady``, what was started recently counts as well.
    """
    good = _STEADY if steady else _STEADY | {Health.RECENT}
    mine = [c for c in containers if c.service and not c.one_off and not c.kept]
    return bool(mine) and all(of(each, one_shot=True) in good for each in mine)


class Trouble(StrEnum):
    """What can be wrong with a release that was started."""

    CRASH_LOOP = "crashes again and again"
    UNHEALTHY = "is unhealthy"
    EXITED = "has ended with"
    MISSING = "was removed from outside"
    SURPLUS = "was made more often than its file says"
    IMAGE = "runs another image than its file says"
    STARTING = "is not healthy yet"
    RECENT = "does not run long enough yet"
    STOPPED = "does not run"
    HALTED = "was stopped from outside"
    PAUSED = "was paused from outside"
    REPLACED = "was replaced from outside"


class HealthFinding(Struct, frozen=True, kw_only=True):
    """What is not healthy yet: ``final`` when waiting would not help. ``subject`` is a container
    or, where there is none, a service. Trouble that may pass is final once it goes on for too long,
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


class Known(Struct, frozen=True):
    """What is known beside what one look shows; all are IDs of containers.

    ``stopped``: somebody told them to end. ``made``: they were there once the release was made;
    None: unknown. ``pending``: they were not started yet since then.
    """

    stopped: Collection[str] = frozenset()
    made: Collection[str] | None = None
    pending: Collection[str] = frozenset()


_UNKNOWN = Known()


def summary(findings: Sequence[HealthFinding]) -> str:
    """The first of them in one line."""
    return "; ".join(str(finding) for finding in findings[:3])


def judge(
    expected: Mapping[str, Expected],
    views: Iterable[ContainerView],
    steady_s: float,
    known: Known = _UNKNOWN,
) -> list[HealthFinding]:
    """All that is not healthy, the final things first; empty: the release is healthy.

    What one look shows: see :mod:`agent.domain.release.patience` for what goes on for too long.

    ``views`` are the containers of the project without one-offs, all of which were there once:
    one that is missing was removed from outside.
    """
    by_service: dict[str | None, list[ContainerView]] = {}
    for sight in views:
        by_service.setdefault(sight.container.service, []).append(sight)
    findings: list[HealthFinding] = []
    for name, service in sorted(expected.items()):
        found = by_service.get(name, [])
        own = [sight for sight in found if sight.container.id in (known.made or ())]
        if own and len(own) == service.scale:
            found = own  # what else says it is of the service came later, and is evicted
        if len(found) != service.scale:
            trouble = Trouble.MISSING if len(found) < service.scale else Trouble.SURPLUS
            detail = f"({len(found)} of {service.scale} containers)"
            findings.append(
                HealthFinding(
                    trouble=trouble, subject=name, final=False, detail=detail, outside=True
                )
            )
        looks = (_look(sight, service, steady_s, known) for sight in found)
        findings += [finding for finding in looks if finding]
    return sorted(findings, key=lambda each: (not each.final, each.waits, each.subject))


def _look(
    sight: ContainerView, service: Expected, steady_s: float, known: Known
) -> HealthFinding | None:
    container = sight.container

    def finding(trouble: Trouble, *, final: bool = False, detail: str = "") -> HealthFinding:
        return HealthFinding(
            trouble=trouble, subject=container.name, final=final, container=container, detail=detail
        )

    def touched(trouble: Trouble, detail: str = "") -> HealthFinding:
        return replace(finding(trouble, detail=detail), outside=True)

    if service.image and not same_image(container.image, service.image):
        if known.made is not None and container.id not in known.made:
            return touched(Trouble.REPLACED, f"({container.image})")
        return finding(Trouble.IMAGE, final=True, detail=f"({container.image})")
    health = of(container, one_shot=service.one_shot, recent=sight.steady_in_s(steady_s) > 0)
    if health is Health.PAUSED:
        return touched(Trouble.PAUSED)
    if container.id in known.pending and not container.alive:
        return finding(Trouble.STOPPED, detail=f"({container.state})")
    if container.state == "exited" and container.id in known.stopped:
        return touched(Trouble.HALTED)
    if health is Health.EXITED:
        return finding(Trouble.EXITED, final=True, detail=str(container.exit_code))
    if health in _STEADY:
        return None
    if sight.restarts >= CRASHES:
        return finding(Trouble.CRASH_LOOP, detail=f"({sight.restarts} times)")
    if trouble := _WAITING.get(health):
        return finding(trouble)
    return finding(Trouble.STOPPED, detail=f"({container.state})")


_WAITING = {
    Health.RECENT: Trouble.RECENT,
    Health.STARTING: Trouble.STARTING,
    Health.UNHEALTHY: Trouble.UNHEALTHY,
}


def made_by_compose(
    expected: Mapping[str, Expected], containers: Iterable[Container], before: Iterable[Container]
) -> list[Container]:
    """Without those of other images than their services, unless they were among those ``before``.

    Compose takes for its own what bears its labels, whoever put that in the place of a container
    meanwhile.
    """
    known = {container.id for container in before}
    return [
        each
        for each in containers
        if each.id in known
        or (service := expected.get(each.service or "")) is None
        or not service.image
        or same_image(each.image, service.image)
    ]


def same_image(shown: str, wanted: str) -> bool:
    """Whether they are one, by digest where there is one: the engine may leave out the tag."""
    digest = wanted.partition("@")[2]
    return shown == wanted or bool(digest and shown.endswith(digest))

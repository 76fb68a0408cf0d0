"""What a start by its ID brings back as Compose would, and in which order.

A container of a release that was only stopped, killed or paused is as it was made: it needs no
Compose. All else does, and what Compose does around a start::

    drift that is no state · a container that was never started · one that is recreated just now
    what Compose does besides at a start, as hooks · a condition of depends_on that does not hold
    a rival that Compose would count: it goes first, whatever its grace, or is named if it stays
    an owner of namespaces that others of the stack share: they are to start again with it
    one that shared namespaces and ended by itself: so may their owner have, and others with it
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from agent.domain.container import Container
from agent.domain.outcome import CauseKind
from agent.domain.release import drift, health, identity
from agent.domain.release.health import Health, Need
from agent.domain.release.release import Release, Service

_STARTABLE = frozenset({"exited", "paused"})

Waves = tuple[tuple[Container, ...], ...]
"""Containers to start, those of one wave side by side."""


def waves(
    release: Release, containers: Iterable[Container], stopped: Collection[str]
) -> Waves | None:
    """Those of the release's project that are down, each after those that its service needs.

    None: it takes Compose. Empty: none is down. ``stopped`` as for :func:`drift.compare`.
    """
    mine = [c for c in containers if c.service and not c.one_off]
    causes = drift.compare(release, mine, stopped)
    own = release.own
    if own is None or release.dirty or any(c.kind is not CauseKind.STATE for c in causes):
        return None
    if any(_contends(rival) for rival in identity.rivals(own, mine)):
        return None
    services = {service.name: service for service in release.services}
    current = [c for c in mine if (c.service, c.id) in own and c.service in services]
    down = [c for c in current if drift.is_down(services[c.service or ""], c, stopped)]
    if not down:
        return ()
    if identity.halves(own, mine) or any(c.state not in _STARTABLE for c in down):
        return None
    by_itself = [c for c in down if c.state == "exited" and c.id not in stopped]
    if any(services[c.service or ""].joins for c in by_itself):
        return None
    ended = {c.service or "" for c in down if c.state == "exited"}
    if not _as_compose_would(ended, services, current, {c.service or "" for c in down}):
        return None
    return _in_order(down, {name: dict(services[name].needs or ()) for name in services})


def _contends(rival: Container) -> bool:
    """One that was evicted and stays down is in nobody's way here: it can wait for its end."""
    return rival.counted and (rival.alive or not rival.kept)


def _as_compose_would(
    ended: Collection[str],
    services: Mapping[str, Service],
    containers: Sequence[Container],
    down: Collection[str],
) -> bool:
    """Whether Compose would do nothing but start these."""
    for name, service in services.items():
        if service.needs is None:
            return False
        if any(need.shares and other in ended for other, need in service.needs):
            return False
        if name in ended and not service.plain:
            return False
        for other, need in service.needs if name in ended else ():
            if (need.healthy or need.completed) and (
                other in down or not _holds(need, [c for c in containers if c.service == other])
            ):
                return False
    return True


def _holds(need: Need, others: Sequence[Container]) -> bool:
    found = {health.of(container, one_shot=True) for container in others}
    if need.completed:
        return found == {Health.FINISHED}
    return found == {Health.HEALTHY} and all(c.health for c in others)


def _in_order(down: Sequence[Container], needs: Mapping[str, Mapping[str, Need]]) -> Waves:
    found: list[tuple[Container, ...]] = []
    left = list(down)
    while left:
        names = {container.service or "" for container in left}
        free = [c for c in left if not names & needs[c.service or ""].keys() - {c.service}]
        wave = free or left  # in a circle nobody could be first
        found.append(tuple(wave))
        left = [container for container in left if container not in wave]
    return tuple(found)

"""Containers that run in namespaces of another one, and lose them when its process ends.

``network_mode``, ``pid`` and ``ipc`` of a service can name another service or container. The
engine binds a container to the ID of the owner and joins its namespaces at each start. When the
owner is started again it gets new ones, and who joined the old ones is alone in them: its network
leads nowhere, and nothing says so. A restart joins the new ones; once the owner was recreated, its
ID is another one, and only a new container can be bound to that.

A listing shows whose network a container joined, but no other namespace, and no time of a start.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from msgspec.structs import replace

from agent.domain.container import Container, CutOff
from agent.domain.release.release import Release

Services = Collection[tuple[str, str]]
"""Stacks and services."""
Seen = Mapping[str, Container | None]
"""Containers as an inspect shows them, by ID; None: it was gone by then."""


def joining(releases: Iterable[Release]) -> Services:
    """The services that run in namespaces of others."""
    return {(release.stack, s.name) for release in releases for s in release.services if s.joins}


def unseen(containers: Collection[Container], services: Services, seen: Seen) -> frozenset[str]:
    """The IDs of containers that must be inspected as well before :func:`marked` can tell.

    To be asked until nothing is left: who is joined is known only then.
    """
    mine = [c for c in containers if _joins(c, services)]
    wanted = {c.id for c in mine}
    for container in mine:
        for owner in _owners(container, containers, seen):
            wanted |= {owner.id} if owner and owner.state == "running" else set()
    return frozenset(wanted - seen.keys())


def owners(containers: Collection[Container], services: Services, seen: Seen) -> frozenset[str]:
    """The IDs of containers whose end would cut others off."""
    found = (_owners(c, containers, seen) for c in containers if _joins(c, services))
    return frozenset(owner.id for some in found for owner in some if owner)


def marked(
    containers: Collection[Container], services: Services, seen: Seen, now: float
) -> tuple[Container, ...]:
    """All containers, those that are cut off marked as such.

    ``now`` is in seconds since the epoch: while the clock is behind a start, it is unknown which of
    two came later.
    """
    return tuple(
        replace(c, cut_off=_cut_off(c, containers, seen, now)) if _joins(c, services) else c
        for c in containers
    )


def _joins(container: Container, services: Services) -> bool:
    mine = (container.project or "", container.service or "") in services or container.joins
    return bool(mine) and container.state == "running" and not container.one_off


def _cut_off(
    container: Container, containers: Collection[Container], seen: Seen, now: float
) -> CutOff | None:
    inspected = seen.get(container.id)
    if inspected is None or inspected.started is None:
        return None
    for name, owner in zip(
        sorted(inspected.joins), _owners(container, containers, seen), strict=True
    ):
        if owner is None:
            return CutOff(name[:12], gone=True)
        other = seen.get(owner.id)
        if other and other.state == "running" and inspected.started < (other.started or 0) <= now:
            return CutOff(owner.name, gone=False)
    return None


def _owners(
    container: Container, containers: Collection[Container], seen: Seen
) -> list[Container | None]:
    """Whom it joins, in the order of their names; None for one that is not there any more."""
    inspected = seen.get(container.id) or container
    return [
        next((c for c in containers if name in {c.id, c.name}), None)
        for name in sorted(inspected.joins)
    ]

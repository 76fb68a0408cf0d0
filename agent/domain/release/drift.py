"""Does what runs agree with what was recorded when it was last right?"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from agent.domain import adjustable
from agent.domain.container import CONFIG_HASH, NUMBER, Container
from agent.domain.outcome import Cause, CauseKind
from agent.domain.release import health, identity
from agent.domain.release.release import Release, Service

GONE, RESTARTED = "gone", "restarted"
"""What became of the container in whose namespaces another one runs."""


def compare(
    release: Release, containers: Iterable[Container], stopped: Collection[str] = ()
) -> tuple[Cause, ...]:
    """What differs, service by service; empty when the release still stands.

    ``stopped`` are the IDs of containers that somebody has stopped: those did not finish.
    ``containers`` are those of the release's project, running or not. Those of services that the
    release does not have are no drift: ending them, and keeping them for a while, is eviction. Nor
    are rivals of its own. What is in the place of one of its own is, however alike they are.
    """
    containers = list(containers)
    substitutes = {c.id for c in identity.substitutes(release.own, containers)}
    rivals = {c.id for c in identity.rivals(release.own, containers)}
    by_service: dict[str, list[Container]] = {}
    for container in (c for c in containers if c.id not in rivals):
        if container.service and not container.one_off:
            by_service.setdefault(container.service, []).append(container)
    causes: list[Cause] = []
    for service in release.services:
        found = by_service.get(service.name, [])
        causes += _compare_service(release.stack, service, found, stopped, substitutes)
    return tuple(causes)


def _compare_service(
    stack: str,
    service: Service,
    found: list[Container],
    stopped: Collection[str],
    substitutes: Collection[str],
) -> list[Cause]:
    def cause(kind: CauseKind, before: str | None, after: str | None, name: str = "") -> Cause:
        return Cause(
            kind=kind,
            stack=stack,
            service=service.name,
            name=name or None,
            before=before,
            after=after,
        )

    alike = [c for c in found if c.labels.get(CONFIG_HASH) == service.config_hash]
    causes = [
        cause(CauseKind.CONFIG, service.config_hash[:12], c.labels.get(CONFIG_HASH, "")[:12])
        for c in found
        if c not in alike
    ]
    current = [c for c in alike if c.id not in substitutes]
    causes += [
        cause(CauseKind.REPLACED, "deployed", "made by others", c.name)
        for c in alike
        if c not in current
    ]
    if len(current) != service.scale:
        causes.append(cause(CauseKind.CONTAINERS, str(service.scale), str(len(current))))
    causes += [
        cause(CauseKind.STATE, "running", _state(c))
        for c in current
        if is_down(service, c, stopped)
    ]
    causes += [
        cause(CauseKind.NAMESPACE, "joined", GONE if cut.gone else RESTARTED, cut.owner)
        for c in current
        if (cut := c.cut_off)
    ]
    for container in current:
        causes += [
            cause(CauseKind.NETWORK, before, after, name.removeprefix(adjustable.NETWORK))
            if name.startswith(adjustable.NETWORK)
            else cause(CauseKind.SETTING, before, after, name)
            for name, before, after in _adjusted(service, container)
        ]
    causes += [
        cause(CauseKind.CONTAINER_NAME, name, c.name)
        for c in current
        if (name := right_name(stack, service.container_name, c)) != c.name
    ]
    return causes


def is_down(service: Service, container: Container, stopped: Collection[str]) -> bool:
    """Whether it has no process that works although its service wants one; ``stopped`` as above."""
    finishes = service.one_shot and container.id not in stopped
    return health.of(container, one_shot=finishes) in health.DOWN


def right_name(stack: str, container_name: str | None, container: Container) -> str:
    """What Compose calls the container; a killed recreate or a person may have called it else.

    ``container_name`` is what the stack's file says, if it says something. A container without a
    number is called right, as is one that the agent itself has put aside.
    """
    number = container.labels.get(NUMBER)
    if number is None or container.kept:
        return container.name
    return container_name or f"{stack}-{container.service}-{number}"


def _adjusted(service: Service, container: Container) -> list[tuple[str, str | None, str | None]]:
    """What somebody has changed while it ran, by a listing its networks alone: from and to."""
    there = container.networks
    if container.state != "running" or there is None:
        return []
    changed: list[tuple[str, str | None, str | None]] = []
    if service.settings is None:
        lost = container.lost_network
        changed += [(f"{adjustable.NETWORK}{lost}", "connected", None)] if lost else []
    elif (wanted := adjustable.networks(service.settings)) != there:
        changed += [
            (f"{adjustable.NETWORK}{name}", "connected", None) for name in sorted(wanted - there)
        ]
        changed += [
            (f"{adjustable.NETWORK}{name}", None, "connected") for name in sorted(there - wanted)
        ]
    elif container.settings is not None:
        changed += adjustable.differences(service.settings, container.settings)
    return changed


def _state(container: Container) -> str:
    if container.exit_code is None:
        return container.state
    return f"{container.state} {container.exit_code}"

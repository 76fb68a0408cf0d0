"""Does what runs agree with what was recorded when it was last right?"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from agent.domain import adjustable
from agent.domain.container import CONFIG_HASH, NUMBER, Container, CutOff
from agent.domain.outcome import Cause
from agent.domain.release import health
from agent.domain.release.release import Release, Service


def compare(
    release: Release, containers: Iterable[Container], stopped: Collection[str] = ()
) -> tuple[Cause, ...]:
    """What differs, service by service; empty when the release still stands.

    ``stopped`` are the IDs of containers that somebody has stopped: those did not finish.
    ``containers`` are those of the release's project, running or not. Those of services that the
    release does not have are no drift: ending them, and keeping them for a while, is eviction.
    """
    by_service: dict[str, list[Container]] = {}
    for container in containers:
        if container.service and not container.one_off:
            by_service.setdefault(container.service, []).append(container)
    causes: list[Cause] = []
    for service in release.services:
        found = by_service.get(service.name, [])
        causes += _compare_service(release.stack, service, found, stopped)
    return tuple(causes)


def _compare_service(
    stack: str, service: Service, found: list[Container], stopped: Collection[str]
) -> list[Cause]:
    subject = f"{stack}/{service.name}"
    current = [c for c in found if c.labels.get(CONFIG_HASH) == service.config_hash]
    causes = [
        Cause(f"{subject} settings", service.config_hash[:12], c.labels.get(CONFIG_HASH, "")[:12])
        for c in found
        if c not in current
    ]
    if len(current) != service.scale:
        causes.append(Cause(f"{subject} containers", str(service.scale), str(len(current))))
    causes += [
        Cause(f"{subject} state", "running", _state(c))
        for c in current
        if health.of(c, one_shot=service.one_shot and c.id not in stopped) in health.DOWN
    ]
    causes += [
        Cause(f"{subject} namespace", f"that of {cut.owner}", _ended(cut))
        for c in current
        if (cut := c.cut_off)
    ]
    for container in current:
        causes += _adjusted(subject, service, container)
    causes += [
        Cause(f"{subject} name", name, c.name)
        for c in current
        if (name := right_name(stack, service.container_name, c)) != c.name
    ]
    return causes


def right_name(stack: str, container_name: str | None, container: Container) -> str:
    """What Compose calls the container; a killed recreate or a person may have called it else.

    ``container_name`` is what the stack's file says, if it says something. A container without a
    number is called right, as is one that the agent itself has put aside.
    """
    number = container.labels.get(NUMBER)
    if number is None or container.kept:
        return container.name
    return container_name or f"{stack}-{container.service}-{number}"


def _adjusted(subject: str, service: Service, container: Container) -> list[Cause]:
    """What somebody has changed while it ran: by a listing its networks alone."""
    there = container.networks
    if container.state != "running" or there is None:
        return []
    changed: list[tuple[str, str | None, str | None]] = []
    if service.settings is None:
        lost = container.lost_network
        changed += [(f"network {lost}", "connected", None)] if lost else []
    elif (wanted := adjustable.networks(service.settings)) != there:
        changed += [(f"network {name}", "connected", None) for name in sorted(wanted - there)]
        changed += [(f"network {name}", None, "connected") for name in sorted(there - wanted)]
    elif container.settings is not None:
        changed += adjustable.differences(service.settings, container.settings)
    return [Cause(f"{subject} {name}", before, after) for name, before, after in changed]


def _ended(cut: CutOff) -> str:
    return f"{cut.owner} is gone" if cut.gone else f"{cut.owner} was started again later"


def _state(container: Container) -> str:
    if container.exit_code is None:
        return container.state
    return f"{container.state} {container.exit_code}"

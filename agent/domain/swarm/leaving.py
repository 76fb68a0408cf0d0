"""Which services of a Swarm go with a stack that left, or with a service that left one."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from agent.domain.repository.desired import Stack
from agent.domain.resources.exclusive import ExclusiveKind, Holding
from agent.domain.swarm.model import OURS, SwarmNode, SwarmService, SwarmTask


def of_stack(
    listed: Iterable[SwarmService],
    stack: str,
    services: Collection[str],
    granted: Collection[str],
) -> list[SwarmService]:
    """Those that the stack's release has, by its ``services``, or that a deploy of ours made.

    Others merely copy its label, and are judged for themselves. So is one that is kept for its
    time, and one whose ID is in ``granted``, which a person has back.
    """
    return [
        each
        for each in listed
        if each.stack == stack
        and (each.short_name in services or each.labels.get(OURS) == stack)
        and not (each.kept or each.id in granted)
    ]


def of_services(
    listed: Iterable[SwarmService],
    stack: Stack,
    left: Collection[str],
    stays: Collection[str],
    granted: Collection[str],
) -> list[SwarmService]:
    """Those of services that ``left`` the stack, or that a failed try has left behind.

    Never one that ``stays``. What the stack's file has, but not now, as of a profile, is only gone
    if it was there before; where other files may name services, nothing is left behind.
    """
    return [
        each
        for each in of_stack(listed, stack.name, left, granted)
        if each.short_name not in stays
        and (each.short_name in left or not (stack.more or each.short_name in stack.services))
    ]


def ports(service: SwarmService) -> frozenset[Holding]:
    """The ports that it publishes, on each node or on those where it runs."""
    published = (service.spec.get("EndpointSpec") or {}).get("Ports") or ()
    return frozenset(
        Holding(ExclusiveKind.PORT, f"{port['PublishedPort']}/{port.get('Protocol') or 'tcp'}")
        for port in published
        if port.get("PublishedPort")
    )


def still_up(
    tasks: Iterable[SwarmTask], listed: Iterable[SwarmService], nodes: Iterable[SwarmNode]
) -> list[SwarmTask]:
    """The tasks of services that are gone which have not ended yet, on a node that can tell.

    One on a node that is down ends when that is back.
    """
    there = {service.id for service in listed}
    down = {node.id for node in nodes if node.state == "down"}
    return [
        task
        for task in tasks
        if not task.over and task.service_id not in there and task.node_id not in down
    ]


def unused(
    networks: Collection[str], listed: Iterable[SwarmService], tasks: Iterable[SwarmTask]
) -> list[str]:
    """Those of the networks, by ID, that neither a service nor a task which has not ended has."""
    used = {network for service in listed for network in service.networks}
    for task in tasks:
        if not task.over:
            used |= {str(each.get("Target")) for each in task.spec.get("Networks") or ()}
    return sorted(set(networks) - used)

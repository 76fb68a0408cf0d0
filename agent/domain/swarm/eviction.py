"""How the spec of a service changes when it is evicted, and when it is brought back.

A service that nobody declared stays in the Swarm for a while and runs nothing: a replicated one
wants no task, and what cannot be scaled fits no node. It publishes no port either, as the Swarm
gives none to anybody else that a service has, whether or not it runs. One update does that, and
writes what was before into a label: each manager can read it, whoever leads then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from agent.domain.errors import PermanentError
from agent.domain.outcome import EvictionAction, Reason
from agent.domain.swarm.model import EVICTED, SwarmService
from agent.domain.swarm.spec import template

NOWHERE = "node.id==evicted-by-commitd"
"""A placement constraint that no node fulfils: their IDs are made by the Swarm, and are longer."""


class Before(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the label of an evicted service says: why it was ended, and how it ran before.

    ``at`` is ISO 8601. A replicated service had so many ``replicas``, any other these
    ``constraints`` of its placement; None: nobody had said anything of that. ``ports`` are those
    that it published, as the engine's API writes them. Nothing else of its spec is here, which may
    hold secrets.
    """

    at: str
    action: EvictionAction
    reason: Reason
    mode: str
    replicas: int | None
    constraints: tuple[str, ...] | None
    ports: tuple[dict[str, Any], ...] = ()


class _Written(Struct, frozen=True, kw_only=True):
    """The same with codes that another version may have written."""

    at: str
    action: str
    reason: str
    mode: str
    replicas: int | None
    constraints: tuple[str, ...] | None
    ports: tuple[dict[str, Any], ...] = ()


def before(service: SwarmService, *, at: str, action: EvictionAction, reason: Reason) -> Before:
    """How it runs now, for its label; what an earlier end has left it without is as it was then."""
    scaled = service.mode == "replicated"
    placed = not scaled and "Placement" in template(service.spec)
    replicas = service.wanted if scaled else None
    constraints = tuple(_constraints(service.spec)) if placed else None
    ports = _ports(service.spec)
    if earlier := read(service):
        ports = ports or earlier.ports
        if _runs_nothing(service):
            replicas, constraints = earlier.replicas, earlier.constraints
    return Before(
        at=at,
        action=action,
        reason=reason,
        mode=service.mode,
        replicas=replicas,
        constraints=constraints,
        ports=ports,
    )


def read(service: SwarmService) -> Before | None:
    """What its label says; None if it has none that can be read."""
    text = service.labels.get(EVICTED)
    if text is None:
        return None
    try:
        found = msgspec.json.decode(text, type=_Written)
        datetime.fromisoformat(found.at)
        return Before(
            at=found.at,
            action=EvictionAction.read(found.action, otherwise=EvictionAction.REMOVED),
            reason=Reason.read(found.reason, otherwise=Reason.OTHER),
            mode=found.mode,
            replicas=found.replicas,
            constraints=found.constraints,
            ports=found.ports,
        )
    except ValueError:  # of which msgspec's errors are some
        return None


def at_rest(service: SwarmService) -> bool:
    """Whether it was evicted, and nobody has had it run again, or publish a port, since."""
    return service.kept and _runs_nothing(service) and not _ports(service.spec)


def _runs_nothing(service: SwarmService) -> bool:
    if service.mode == "replicated":
        return service.wanted == 0
    return NOWHERE in _constraints(service.spec)


def ended(spec: Mapping[str, Any], label: Before) -> dict[str, Any]:
    """The spec of a service that runs nothing from then on, with what it was in its label."""
    found = _published(_labelled(spec, msgspec.json.encode(label).decode()), ())
    if label.mode == "replicated":
        return found | {"Mode": _replicas(spec, 0)}
    return _placed(found, [*(label.constraints or ()), NOWHERE])


def restored(service: SwarmService) -> dict[str, Any]:
    """Its spec as it was before, all but what an eviction has changed as it stands.

    Raises :class:`PermanentError` for a label that does not tell.
    """
    label = read(service)
    if label is None or (service.mode == "replicated" and label.replicas is None):
        raise PermanentError(
            f"{service.name}: its label {EVICTED} does not say how it ran",
            hint="scale it by hand: docker service scale, then docker service update --label-rm",
        )
    found = _labelled(service.spec, None)
    if not _ports(found):  # else somebody has given it others since
        found = _published(found, label.ports)
    if service.mode == "replicated":
        return found | {"Mode": _replicas(service.spec, label.replicas or 0)}
    if NOWHERE not in _constraints(service.spec):
        return found
    return _placed(found, label.constraints)


def refuse_taken_ports(service: SwarmService, listed: Iterable[SwarmService]) -> None:
    """Raises :class:`PermanentError` where another service has a port that it would publish again.

    One that is published on all nodes only one service can have.
    """
    wants = _on_all_nodes(restored(service))
    for other in listed:
        if other.id != service.id and (taken := wants & _on_all_nodes(other.spec)):
            raise PermanentError(
                f"{service.name}: {other.name} has its port {', '.join(sorted(taken))} by now",
                hint=f"take it from {other.name} first",
            )


def _on_all_nodes(spec: Mapping[str, Any]) -> set[str]:
    return {
        f"{port['PublishedPort']}/{port.get('Protocol') or 'tcp'}"
        for port in _ports(spec)
        if port.get("PublishedPort") and port.get("PublishMode", "ingress") == "ingress"
    }


def _labelled(spec: Mapping[str, Any], text: str | None) -> dict[str, Any]:
    labels = {k: v for k, v in (spec.get("Labels") or {}).items() if k != EVICTED}
    if text is not None:
        labels[EVICTED] = text
    return {**spec, "Labels": labels}


def _replicas(spec: Mapping[str, Any], count: int) -> dict[str, Any]:
    mode = spec.get("Mode") or {}
    return {**mode, "Replicated": {**(mode.get("Replicated") or {}), "Replicas": count}}


def _ports(spec: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    return tuple((spec.get("EndpointSpec") or {}).get("Ports") or ())


def _published(spec: Mapping[str, Any], ports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """With these ports and no others; what has none before and after stays as it is."""
    if not ports and not _ports(spec):
        return dict(spec)
    endpoint = {k: v for k, v in (spec.get("EndpointSpec") or {}).items() if k != "Ports"}
    if ports:
        endpoint["Ports"] = [dict(port) for port in ports]
    return {**spec, "EndpointSpec": endpoint}


def _constraints(spec: Mapping[str, Any]) -> list[str]:
    return list((template(spec).get("Placement") or {}).get("Constraints") or ())


def _placed(spec: Mapping[str, Any], constraints: Sequence[str] | None) -> dict[str, Any]:
    """With these constraints; None: and with no placement, if there is nothing else of it."""
    found = dict(template(spec))
    placement = dict(found.pop("Placement", None) or {})
    placement.pop("Constraints", None)
    if constraints:
        placement["Constraints"] = list(constraints)
    if placement or constraints is not None:
        found["Placement"] = placement
    return {**spec, "TaskTemplate": found}

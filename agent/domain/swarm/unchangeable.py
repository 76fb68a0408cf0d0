"""What ``docker stack deploy`` does not change of what is there: modes, networks, volumes.

It refuses another mode of a service once it has changed those before it. Networks and volumes it
leaves as they were made, and says nothing. So they are compared before anything is touched. No
message has a value of ``driver_opts`` in it: passwords stand there.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from agent.domain.documents import Path
from agent.domain.resources import options
from agent.domain.resources.provision import Raw, labels, undoubled
from agent.domain.swarm.model import STACK, Mode, SwarmService

_OVERLAY = "overlay"
_OWN_LABELS = ("com.docker.stack.", "io.commitd.")
_OWN_OPTIONS = "com.docker.network.driver.overlay.vxlanid_list"
"""What the Swarm adds to the options of each overlay."""
_NOT_SAID = ("EnableIPv4", "EnableIPv6")
"""What no file for a Swarm can say of a network."""


class Unchangeable(Struct, frozen=True, kw_only=True):
    """``path`` is where the stack's file may say it."""

    path: Path
    message: str
    hint: str


def modes(
    stack: str, wanted: Mapping[str, Mode], there: Iterable[SwarmService]
) -> Iterator[Unchangeable]:
    """Services that are in another mode than is declared."""
    by_name = {service.name: service for service in there}
    for key, mode in wanted.items():
        name = f"{stack}_{key}"
        found = by_name.get(name)
        if found and found.mode != mode:
            yield Unchangeable(
                path=("services", key, "deploy", "mode"),
                message=f"{key}: a Swarm does not change the mode of a service, and "
                f"{name} is {found.mode}, not {mode}",
                hint="give the service another name; or, if it may be down for a moment, docker "
                f"service rm {name}, and commitd retry {stack}",
            )


def networks(
    stack: str, wanted: Mapping[str, Mapping[str, Any]], there: Iterable[Raw]
) -> Iterator[Unchangeable]:
    """Networks of the ``stack`` that are ``there`` and were made with other settings.

    ``wanted`` is ``networks`` of the stack's file for a Swarm, by key.
    """
    by_name = {network["Name"]: network for network in there}
    for key, settings in _own(wanted):
        name = str(settings.get("name") or f"{stack}_{key}")
        found = by_name.get(name)
        if found is None or not found.get("Driver"):  # the Swarm has yet to make it
            continue
        if what := options.network_differences(_declared_network(settings), _network(found)):
            yield Unchangeable(
                path=("networks", key),
                message=f"{', '.join(what)} of the network {name} cannot be changed: a Swarm "
                "leaves a network as it was made",
                hint="undo the change; or give the network another name:, which its services then "
                f"move to; or have it made anew: commitd suspend {stack}, docker stack rm {stack}, "
                f"commitd resume {stack}, commitd retry {stack} (volumes stay)",
            )


def volumes(
    stack: str, wanted: Mapping[str, Mapping[str, Any]], there: Iterable[Raw]
) -> Iterator[Unchangeable]:
    """The same for volumes, of which a node knows its own alone."""
    by_name = {volume["Name"]: volume for volume in there}
    names = volume_names(stack, wanted)
    for key, settings in _own(wanted):
        name = names[key]
        if (found := by_name.get(name)) is None:
            continue
        what = options.volume_differences(_declared(settings), _plain(found))
        if labels(found).get(STACK) != stack:
            what = [each for each in what if each != "labels"]  # somebody else has made it
        if what:
            yield Unchangeable(
                path=("volumes", key),
                message=f"{', '.join(what)} of the volume {name} cannot be changed: it was made "
                "with something else, and its data is in it",
                hint="undo the change; or give the volume a new name: and copy the data; or, when "
                f"its data is saved, commitd suspend {stack}, docker stack rm {stack}, docker "
                f"volume rm {name} on each node, commitd resume {stack}, commitd retry {stack}",
            )


def volume_names(stack: str, wanted: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What the engine calls the stack's own volumes, by key."""
    return {key: str(each.get("name") or f"{stack}_{key}") for key, each in _own(wanted)}


def _own(wanted: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, settings in sorted(wanted.items()):
        if not settings.get("external"):
            yield key, undoubled(settings)


def _declared_network(settings: Mapping[str, Any]) -> Raw:
    ipam = settings.get("ipam") or {}
    ranges = [{"subnet": _subnet(each["subnet"])} for each in ipam.get("config") or ()]
    ipam = {**ipam, "config": ranges}
    return {**_declared(settings), "driver": settings.get("driver") or _OVERLAY, "ipam": ipam}


def _declared(settings: Mapping[str, Any]) -> Raw:
    return {**settings, "labels": _labels(settings.get("labels"))}


def _network(found: Raw) -> Raw:
    kept = {key: value for key, value in _plain(found).items() if key not in _NOT_SAID}
    own = {k: v for k, v in (found.get("Options") or {}).items() if k != _OWN_OPTIONS}
    ipam = found.get("IPAM") or {}
    ranges = [{**each, "Subnet": _subnet(each.get("Subnet"))} for each in ipam.get("Config") or ()]
    ipam = {"Driver": ipam.get("Driver") or "default", "Config": ranges}
    return {**kept, "Options": own, "IPAM": ipam}


def _plain(found: Raw) -> Raw:
    return {**found, "Labels": _labels(found.get("Labels"))}


def _labels(found: Mapping[str, str] | None) -> dict[str, str]:
    return {key: value for key, value in (found or {}).items() if not key.startswith(_OWN_LABELS)}


def _subnet(text: Any) -> str:
    try:
        return str(ipaddress.ip_network(str(text), strict=False))
    except ValueError:
        return str(text)

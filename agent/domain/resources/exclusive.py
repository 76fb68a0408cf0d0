"""What a container has that no other can have meanwhile, and who has to make room because of it.

Compose starts the services of a new release before anybody ends those that left it. One that left
and still has a port, a name or an address that the new release wants must go first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct

from agent.domain.resources import ports


class ExclusiveKind(StrEnum):
    """What can be had once."""

    PORT = "port"
    NAME = "container name"
    ADDRESS = "address"


class Holding(Struct, frozen=True):
    """One such thing.

    A port (``8080/tcp``) is had on the address ``where``, an IP or MAC address in the network
    ``where``, a name everywhere.
    """

    kind: ExclusiveKind
    value: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.value}"

    def meets(self, other: Holding) -> bool:
        """Whether only one can be had."""
        if (self.kind, self.value) != (other.kind, other.value):
            return False
        if self.kind is ExclusiveKind.PORT:
            return ports.meet(self.where, other.where)
        return self.where == other.where


def wanted(project: str, name: str, scale: int, model: Mapping[str, Any]) -> frozenset[Holding]:
    """What one service of a resolved model will have, as far as its file says it exactly."""
    if not scale:
        return frozenset()
    raw = model["services"][name]
    names = [raw["container_name"]] if raw.get("container_name") else _names(project, name, scale)
    found = {Holding(ExclusiveKind.NAME, each) for each in names}
    for port in raw.get("ports") or []:
        if str(port.get("published") or "").isdecimal():
            value = f"{port['published']}/{port.get('protocol') or 'tcp'}"
            found.add(Holding(ExclusiveKind.PORT, value, str(port.get("host_ip") or "")))
    networks = raw.get("networks") or {}
    for key, network in networks.items():
        place = str(((model.get("networks") or {}).get(key) or {}).get("name") or key)
        addresses = [(network or {}).get(word) for word in _ADDRESSES]
        addresses += [raw.get("mac_address")] if len(networks) == 1 else []
        found |= {Holding(ExclusiveKind.ADDRESS, each.lower(), place) for each in addresses if each}
    return frozenset(found)


_ADDRESSES = ("ipv4_address", "ipv6_address", "mac_address")


def _names(project: str, name: str, scale: int) -> list[str]:
    return [f"{project}-{name}-{number}" for number in range(1, scale + 1)]


def had(raw: Mapping[str, Any]) -> frozenset[Holding]:
    """What an inspected container has now; one that does not run has only its name."""
    found = {Holding(ExclusiveKind.NAME, raw["Name"].lstrip("/"))}
    if not raw["State"].get("Running"):
        return frozenset(found)
    settings = raw.get("NetworkSettings") or {}
    for private, bindings in (settings.get("Ports") or {}).items():
        protocol = private.partition("/")[2] or "tcp"
        for binding in bindings or ():
            value = f"{binding.get('HostPort')}/{protocol}"
            found.add(Holding(ExclusiveKind.PORT, value, str(binding.get("HostIp") or "")))
    for network, endpoint in (settings.get("Networks") or {}).items():
        words = (endpoint.get(key) for key in ("IPAddress", "GlobalIPv6Address", "MacAddress"))
        found |= {Holding(ExclusiveKind.ADDRESS, word.lower(), network) for word in words if word}
    return frozenset(found)


def in_the_way(has: Iterable[Holding], wants: Collection[Holding]) -> list[str]:
    """What of it is wanted, for people."""
    return sorted({str(mine) for mine in has if any(mine.meets(other) for other in wants)})

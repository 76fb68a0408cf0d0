"""Address pools of networks: which of them the engine refuses beside each other."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


class Pool(Struct, frozen=True):
    """``part`` is the ``ip_range`` that addresses are taken from, if there is one."""

    subnet: Subnet
    part: str
    bridge: bool


def declared(network: Mapping[str, Any]) -> Iterator[tuple[int, Pool]]:
    """The fixed ones of an entry of ``networks:`` in a model, with their places in ``config:``."""
    ipam = network.get("ipam") or {}
    driver = network.get("driver") or "bridge"
    # Other drivers may have pools of their own; networks of a swarm have.
    if network.get("external") or driver == "overlay":
        return
    if (ipam.get("driver") or "default") != "default":
        return
    for i, entry in enumerate(ipam.get("config") or []):
        subnet = _subnet(entry.get("subnet"))
        if subnet and (subnet.version == 4 or network.get("enable_ipv6")):  # noqa: PLR2004
            yield i, Pool(subnet, str(entry.get("ip_range") or ""), driver == "bridge")


def made(network: Mapping[str, Any]) -> Iterator[Pool]:
    """Those of a network that the engine describes."""
    ipam = network.get("IPAM") or {}
    if network["Driver"] == "overlay" or (ipam.get("Driver") or "default") != "default":
        return
    for entry in ipam.get("Config") or []:
        if subnet := _subnet(entry.get("Subnet")):
            yield Pool(subnet, str(entry.get("IPRange") or ""), network["Driver"] == "bridge")


def clash(one: Pool, other: Pool) -> bool:
    """Whether they overlap. Parts of one pool are shared out; but bridges want it all."""
    if one.subnet.version != other.subnet.version or not one.subnet.overlaps(other.subnet):
        return False
    shared = one.subnet == other.subnet and one.part and other.part
    return not shared or (one.bridge and other.bridge)


def _subnet(text: Any) -> Subnet | None:
    try:
        return ipaddress.ip_network(str(text), strict=False)
    except ValueError:
        return None

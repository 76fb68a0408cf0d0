"""Networks and volumes: does the engine's one have the options that its file declares?

What is not declared has the engine's defaults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_COMPOSES_OWN = "com.docker.compose."
_RANGE = {"subnet": "Subnet", "gateway": "Gateway", "ip_range": "IPRange"}


def network_differences(declared: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """All keys in which the network ``found`` is not as ``declared``, whoever has made it.

    ``declared`` is an entry of ``networks`` in a model, ``found`` as the engine lists it.
    """
    return list(_network(declared, found))


def volume_differences(declared: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """The same for a volume."""
    return list(_common(declared, found, "local"))


def _network(declared: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    yield from _common(declared, found, "bridge")
    flags = {
        "internal": ("Internal", False),
        "attachable": ("Attachable", False),
        "enable_ipv4": ("EnableIPv4", True),
        "enable_ipv6": ("EnableIPv6", False),
    }
    for key, (theirs, default) in flags.items():
        if declared.get(key, default) is not found.get(theirs, default):
            yield key
    ipam, there = declared.get("ipam") or {}, found.get("IPAM") or {}
    driver = ipam.get("driver") or "default"
    if driver != there.get("Driver", driver) or not _same_ranges(ipam, there):
        yield "ipam"


def _common(declared: Mapping[str, Any], found: Mapping[str, Any], driver: str) -> Iterator[str]:
    wanted = declared.get("driver") or driver
    if found.get("Driver") not in {wanted, f"{wanted}:latest"}:  # a plugin has its tag
        yield "driver"
    options = {key: str(value) for key, value in (declared.get("driver_opts") or {}).items()}
    if options != (found.get("Options") or {}):
        yield "driver_opts"
    labels = {key: str(value) for key, value in (declared.get("labels") or {}).items()}
    there = found.get("Labels") or {}
    if labels != {k: v for k, v in there.items() if not k.startswith(_COMPOSES_OWN)}:
        yield "labels"


def _same_ranges(declared: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    wanted, there = declared.get("config") or [], found.get("Config") or []
    if not wanted:
        return True  # the engine chose them
    return len(wanted) == len(there) and all(
        any(_same_range(one, other) for other in there) for one in wanted
    )


def _same_range(declared: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    addresses = declared.get("aux_addresses") or {}
    return all(
        found.get(theirs) == declared[key] for key, theirs in _RANGE.items() if declared.get(key)
    ) and addresses == (found.get("AuxiliaryAddresses") or {})

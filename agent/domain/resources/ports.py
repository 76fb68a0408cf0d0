"""A port of the host that a container wants and somebody else has."""

from __future__ import annotations

import ipaddress
import re

from msgspec import Struct

ALL, NONE = 0, -1
"""Stand for the version of an IP address: every one, and what is none."""

_TAKEN = (
    re.compile(r"Bind for \S+:(?P<port>\d+) failed: port is already allocated"),
    re.compile(r"listen (?P<protocol>tcp|udp|sctp)\d? \S*?:(?P<port>\d+): bind: address already"),
    re.compile(
        r"failed to bind host port (?:for )?\S*?:(?P<port>\d+)[:/]\S*?(?P<protocol>tcp|udp|sctp)?:?"
        r" address already in use"
    ),
)
"""As the engine says it (20.10 to 29), of a port that a container has, or a process."""


class Port(Struct, frozen=True):
    """A port of the host; ``protocol`` is tcp, udp or sctp, None where the engine does not say."""

    number: int
    protocol: str | None = None

    def __str__(self) -> str:
        return f"{self.number}/{self.protocol}" if self.protocol else str(self.number)


class Listener(Struct, frozen=True):
    """Who has a port without Docker: a user, and where that can be seen its process."""

    user: str
    process: int | None = None
    command: str = ""


def taken(message: str) -> Port | None:
    """The port that somebody else has, if that is what the error says."""
    for pattern in _TAKEN:
        if found := pattern.search(message):
            groups = found.groupdict()
            return Port(int(groups["port"]), groups.get("protocol"))
    return None


def by_container(port: Port, name: str, project: str | None) -> str:
    """What to say when it is a container that publishes it."""
    whose = f" of the stack {project}" if project else ""
    return f"port {port} of this host is taken by the container {name}{whose}"


def by_process(port: Port, listener: Listener | None) -> str:
    """What to say when no container publishes it."""
    ask = f"ss -lpn sport = :{port.number} names it"
    if listener is None:
        return f"port {port} of this host is taken, and not by a container ({ask})"
    if listener.process is None:
        return f"port {port} of this host is taken by a process of {listener.user} ({ask})"
    return (
        f"port {port} of this host is taken by {listener.command}"
        f" (process {listener.process} of {listener.user})"
    )


def address(ip: str) -> tuple[int, str]:
    """The version of an address to listen on, and the address unless it is all of these."""
    if not ip:
        return ALL, ""
    try:
        found = ipaddress.ip_address(ip)
    except ValueError:
        return NONE, ip
    return found.version, "" if found.is_unspecified else str(found)


def meet(ip: str, other: str) -> bool:
    """Whether nobody can listen on a port of one address while somebody does on the other."""
    (version, one), (its_version, another) = address(ip), address(other)
    if ALL in {version, its_version}:
        return True
    return version == its_version and (not one or not another or one == another)

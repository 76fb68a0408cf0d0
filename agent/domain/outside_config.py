"""Sections of the host's own file that are about telling others: see :mod:`agent.domain.config`.

Nothing of it is on unless it is written down.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from agent.domain.documents import Path as Place

_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<four>[0-9.]+)):(?P<port>[0-9]{1,5})")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_GROUP = re.compile(r"[a-z_][a-z0-9_-]*")

Problem = tuple[Place, str, str | None]
"""Where in the file, what is wrong, and a hint."""


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A mapping of the file, none of whose keys is unknown."""


class Api(Section, frozen=True):
    """Who may ask: the token and the names of this host for TCP, who writes on the socket."""

    token_file: Path | None = None
    hosts: tuple[str, ...] = ()
    writers: str | None = None


def address(listen: str) -> tuple[str, int]:
    """The address and the port of ``listen``. Raises :class:`ValueError`."""
    found = _ADDRESS.fullmatch(listen)
    if not found:
        raise ValueError(f"{listen!r} is not an address with a port")
    host, port = ipaddress.ip_address(found["six"] or found["four"]), int(found["port"])
    if not 0 < port < 2**16:
        raise ValueError(f"{port} is not a port")
    return str(host), port


def problems(listen: str | None, api: Api) -> Iterator[Problem]:
    """What types cannot say."""
    if listen is not None:
        try:
            host, _ = address(listen)
        except ValueError as err:
            yield ("listen",), str(err), "write 127.0.0.1:8787 or [::1]:8787"
        else:
            if not ipaddress.ip_address(host).is_loopback and api.token_file is None:
                message = f"{listen} is open to other machines and needs a token"
                yield ("listen",), message, "set api.token_file, or listen on 127.0.0.1"
    elif api.token_file or api.hosts:
        what = "token_file" if api.token_file else "hosts"
        yield ("api", what), f"api.{what} is for TCP, where nothing listens", "set listen:"
    for i, name in enumerate(api.hosts):
        if not _NAME.fullmatch(name):
            message = f"{name!r} cannot be the name of a host"
            yield ("api", "hosts", i), message, "write the name alone, without scheme or port"
    if api.writers is not None and not _GROUP.fullmatch(api.writers):
        yield ("api", "writers"), f"{api.writers!r} cannot be the name of a group", None

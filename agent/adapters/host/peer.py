"""Who is at the other end of a Unix socket, as the kernel knows it; and the groups of this machine.

What a client says of itself does not count, nor does it that it could open the socket.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import socket
import struct
from array import array

from msgspec import Struct

GROUP = "commitd"
"""Made by the package, or by hand: its members may read."""
_CREDENTIALS = struct.Struct("3i")
_SO_PEERGROUPS = getattr(socket, "SO_PEERGROUPS", 59)
_NUMBER = re.compile(r"[0-9]{1,10}")
_MOST_GROUPS = 256
"""That fit into what Python takes of an answer; of a process with more its other groups count not.
"""


class Peer(Struct, frozen=True):
    """The process that has connected: its user, and its groups, all of them."""

    user: int
    groups: frozenset[int]

    @property
    def name(self) -> str:
        """Of its user, as a person knows it."""
        return named(self.user)


def named(user: int) -> str:
    """A user of this machine as a person knows it: ``ada (uid 1000)``. Blocks."""
    try:
        return f"{pwd.getpwuid(user).pw_name} (uid {user})"
    except (KeyError, OverflowError):
        return f"uid {user}"


def sudo_user() -> int | None:
    """Who has become root by sudo to run this process; None: nobody has."""
    said = os.environ.get("SUDO_UID", "")
    return int(said) if os.geteuid() == 0 and _NUMBER.fullmatch(said) else None


def ordering() -> str:
    """Who orders what this process does: its user, or who became root by sudo. Blocks."""
    user = sudo_user()
    return named(os.geteuid() if user is None else user)


def peer_of(connection: socket.socket) -> Peer:
    """The process at the other end, as it was when it connected. Raises :class:`OSError`."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, group = _CREDENTIALS.unpack(raw)
    groups = array("I")
    try:
        size = groups.itemsize * _MOST_GROUPS
        groups.frombytes(connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, size))
    except OSError:
        pass  # more of them
    return Peer(user, frozenset({group, *groups}))


def askers() -> int | None:
    """The number of the group whose members may ask the agent, None where there is none. Blocks."""
    return group(GROUP) if os.geteuid() == 0 else None  # nobody else could give it anything


def group(name: str) -> int | None:
    """The number of a group, None where there is none of that name. Blocks."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None

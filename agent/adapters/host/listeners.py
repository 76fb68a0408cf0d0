"""Which process of this host listens on a port, as far as /proc shows it (proc(5))."""

from __future__ import annotations

import pwd
import time
from pathlib import Path

from agent.domain.resources.ports import Listener, Port

_PROC = Path("/proc")
_LISTENS = {"tcp": "0A", "udp": "07"}
"""The state of a socket that waits for others, as the tables write it."""
_LOOK_S = 0.5
"""For the search among all processes: it only says more of an error."""


def find(port: Port) -> Listener | None:
    """Who listens there; None: nobody, or that cannot be seen. Blocks."""
    for protocol in (port.protocol,) if port.protocol else ("tcp", "udp"):
        for family in ("", "6"):
            for inode, user in _sockets(f"{protocol}{family}", port.number, _LISTENS.get(protocol)):
                process = _owner(inode)
                return Listener(_name(user), process, _command(process) if process else "")
    return None


def _sockets(table: str, port: int, state: str | None) -> list[tuple[str, int]]:
    """Inodes and users of the sockets that are bound to the port."""
    try:
        lines = (_PROC / "net" / table).read_text().splitlines()[1:]
    except OSError:
        return []
    rows = [line.split() for line in lines]
    return [
        (row[9], int(row[7]))
        for row in rows
        if int(row[1].rpartition(":")[2], 16) == port and state in {None, row[3]}
    ]


def _owner(inode: str) -> int | None:
    """The process that has the socket open; of other users' only who may sees it."""
    wanted, until = f"socket:[{inode}]", time.monotonic() + _LOOK_S
    for process in _PROC.iterdir():
        if not process.name.isdigit() or time.monotonic() > until:
            continue
        try:
            if any(str(fd.readlink()) == wanted for fd in (process / "fd").iterdir()):
                return int(process.name)
        except OSError:  # it ended, or may not be looked at
            continue
    return None


def _command(process: int) -> str:
    try:
        return (_PROC / str(process) / "comm").read_text().strip()
    except OSError:
        return "a process that ended"


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"

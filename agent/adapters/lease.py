"""One agent an engine, whatever its directories: a lease that ends with the process.

The mark is a socket in the kernel's abstract namespace, named after the engine: no file to be left
behind or to be in two places. It holds among the processes of one network namespace.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from agent.domain.errors import HeldError

_CREDENTIALS = struct.Struct("3i")


@contextmanager
def only_agent_of(engine_id: str) -> Iterator[None]:
    """Hold the lease on an engine. Raises :class:`HeldError` when another agent has it."""
    name = f"\0commitd-{engine_id}"
    with socket.socket(socket.AF_UNIX) as mark:
        try:
            mark.bind(name)
        except OSError:
            raise HeldError(
                f"another agent works on this engine (process {_holder(name)})",
                hint="its configuration has another state_dir; stop one of the two",
            ) from None
        mark.listen(1)
        yield


def _holder(name: str) -> str:
    """The process that has the lease, as the kernel tells it."""
    with socket.socket(socket.AF_UNIX) as asking:
        try:
            asking.settimeout(1)
            asking.connect(name)
            raw = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return "unknown"
    return str(_CREDENTIALS.unpack(raw)[0])

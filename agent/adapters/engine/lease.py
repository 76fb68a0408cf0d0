"""One agent an engine, whatever its directories: a lease that ends with the process.

The mark is a socket in the kernel's abstract namespace, named after the engine: no file to be left
behind or to be in two places. It holds among the processes of one network namespace.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread

from agent.domain.errors import HeldError

log = logging.getLogger("commitd")

_CREDENTIALS = struct.Struct("3i")


@asynccontextmanager
async def only_agent_of(engine_id: str) -> AsyncIterator[None]:
    """Hold the lease on an engine. Raises :class:`HeldError` when another agent has it."""
    name = f"\0commitd-{engine_id}"
    with socket.socket(socket.AF_UNIX) as mark:
        try:
            mark.bind(name)
            mark.listen(1)
        except OSError:
            process, user = await anyio.to_thread.run_sync(_holder, name)
            if user == os.getuid():
                raise HeldError(
                    f"another agent works on this engine (process {process})",
                    hint="its configuration has another state_dir; stop one of the two",
                ) from None
            # Any user may take a name; that is no agent, and no reason not to work.
            log.warning("process %d of user %d holds the name of the lease", process, user)
        yield


def _holder(name: str) -> tuple[int, int]:
    """Process and user that have the lease, as the kernel tells it; ours, if it does not."""
    with socket.socket(socket.AF_UNIX) as asking:
        try:
            asking.settimeout(1)
            asking.connect(name)
            raw = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return 0, os.getuid()
    process, user, _ = _CREDENTIALS.unpack(raw)
    return process, user

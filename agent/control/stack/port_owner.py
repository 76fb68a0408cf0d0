"""Saying who has the port that a start failed for."""

from __future__ import annotations

import anyio.to_thread

from agent.adapters.engine.engine import Engine
from agent.adapters.host import listeners
from agent.domain.errors import CommitdError, TransientError
from agent.domain.resources import ports


async def explained(engine: Engine, error: CommitdError) -> CommitdError:
    """The error, or one that names the container or process whose port was wanted."""
    port = ports.taken(error.message)
    if port is None or type(error) is not TransientError:
        return error
    try:
        found = await engine.publishing(port)
    except CommitdError:
        return error
    if found:
        return TransientError(ports.by_container(port, found[0].name, found[0].project))
    listener = await anyio.to_thread.run_sync(listeners.find, port)
    return TransientError(ports.by_process(port, listener))

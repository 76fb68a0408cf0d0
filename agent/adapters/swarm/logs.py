"""What tasks of a Swarm have said, wherever they ran: its managers ask their nodes."""

from __future__ import annotations

from agent.adapters.engine.client import unframed
from agent.adapters.engine.engine import Engine
from agent.domain.errors import CommitdError
from agent.domain.swarm.model import SwarmTask

_TIMEOUT_S = 5.0
"""A node that is away never answers."""
_LONGEST = 64 * 1024


async def last_words(engine: Engine, task: SwarmTask, lines: int) -> str:
    """The end of the task's log, standard output and error; empty if there is none to be had."""
    terminal = bool((task.spec.get("ContainerSpec") or {}).get("TTY"))
    wanted = {"stdout": "1", "stderr": "1", "tail": str(lines)}
    try:
        async with (
            engine.asking("read a log", _TIMEOUT_S) as docker,
            docker.answer("GET", f"tasks/{task.id}/logs", wanted) as answer,
        ):
            found = await answer.body(_LONGEST)
    except CommitdError:
        return ""
    return (found if terminal else unframed(found)).decode(errors="replace")

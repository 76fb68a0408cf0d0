"""Bringing back what was evicted: a container of a host, or a service of a Swarm."""

from __future__ import annotations

from agent.control.undeclared import undo as of_host
from agent.control.undeclared.undo import Restored
from agent.domain.config import Config


async def undo(config: Config, word: str, for_s: float, *, actor: str) -> Restored:
    """Bring back the one whose ID begins with ``word``, or that was called so; see there."""
    if config.docker.mode == "swarm":
        from agent.control.swarm import undo as of_swarm  # noqa: PLC0415  of no use to a host

        return await of_swarm.undo(config, word, for_s, actor=actor)
    return await of_host.undo(config, word, for_s, actor=actor)

"""Seeing that registries have the images of a stack, before anything of it is touched.

Its nodes pull them by themselves, and most only once they have stopped what ran before.
"""

from __future__ import annotations

from collections.abc import Collection

from agent.adapters.engine import images
from agent.adapters.engine.docker_config import DockerConfig
from agent.adapters.engine.engine import Engine
from agent.adapters.swarm import cluster


async def ask(engine: Engine, stack: str, references: Collection[str]) -> None:
    """Ask for those that no service of the stack runs yet, and that are not on this manager.

    Raises :class:`CommitdError` for the first that cannot be had.
    """
    run_already = {service.image for service in await cluster.services(engine, stack)}
    logins = DockerConfig()
    for reference in sorted({*references} - run_already):
        if not await images.present(engine, reference):
            await images.ask_registry(engine, reference, logins)

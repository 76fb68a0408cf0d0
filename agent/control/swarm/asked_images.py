"""Asking registries for the images of a stack, before anything of it is touched.

Its nodes pull them by themselves, and most only once they have stopped what ran before. They do so
with the login of the manager that deployed last, which the Swarm keeps with each service:
``docker stack deploy`` writes over it with what this manager has, be that nothing. So its logins
are passed on only where they get every image of the stack.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection

from agent.adapters.engine import images
from agent.adapters.engine.docker_config import DockerConfig
from agent.adapters.engine.engine import Engine
from agent.adapters.lru import Lru
from agent.adapters.swarm import cluster
from agent.domain.errors import CommitdError, PermanentError
from agent.domain.repository import image_reference

log = logging.getLogger("commitd.deploy")

_BELIEVED_S = 3600.0
_REMEMBERED = 1000


class AskedImages:
    """An image that a registry gave for a login is not asked for again within the hour."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._given: Lru[tuple[str, int], float] = Lru(_REMEMBERED)

    async def ask(self, stack: str, references: Collection[str]) -> None:
        """Ask for those that no service of the stack runs yet, and that are not on this manager.

        Raises :class:`CommitdError` for the first that cannot be had.
        """
        there = await cluster.services(self._engine, stack)
        logins = DockerConfig()
        for reference in sorted({*references} - {service.image for service in there}):
            if not await images.present(self._engine, reference):
                await self._ask(reference, logins)

    async def logins_serve(self, stack: str, references: Collection[str]) -> bool:
        """Whether all of them can be had with the logins of this manager; says which cannot."""
        logins = DockerConfig()
        for reference in sorted({*references}):
            try:
                await self._ask(reference, logins)
            except CommitdError as err:
                log.warning(
                    "%s: its services keep the logins for registries that they have, as this "
                    "manager does not get all images: %s (if it is private: docker login %s on "
                    "each manager)",
                    stack,
                    err.fact,
                    _registry(reference),
                )
                return False
        return True

    async def _ask(self, reference: str, logins: DockerConfig) -> None:
        key = (reference, await _identity(reference, logins))
        given = self._given.get(key)
        if given is not None and self._clock() - given < _BELIEVED_S:
            return
        await images.ask_registry(self._engine, reference, logins)
        self._given.put(key, self._clock())


def _registry(reference: str) -> str:
    return image_reference.parse(reference).registry


async def _identity(reference: str, logins: DockerConfig) -> int:
    """Tells one login from another."""
    try:
        return hash(await logins.login(_registry(reference)))
    except PermanentError:  # the registry is asked, and it is said then
        return 0

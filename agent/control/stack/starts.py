"""Having the engine start containers: only so many at a time, and each for a limited time."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from agent.adapters.engine.engine import Engine, OverdueError
from agent.control.stack import places
from agent.domain.container import Container
from agent.domain.errors import TransientError


class Starts:
    """Of all stacks together, whoever starts something of them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._places = places.for_starts()

    def taken(self) -> AbstractAsyncContextManager[None]:
        """One of the places, for as long as the block lasts."""
        return self._places.taken()

    async def start(self, container: Container) -> None:
        """Start it, in a place that was taken. Raises :class:`CommitdError`."""
        try:
            await self._engine.start(container.id)
        except OverdueError as err:  # by what it mounts, or is made of: no engine is down
            said = f"{container.name} has not started in {err.after_s:g} s"
            raise TransientError(said) from None

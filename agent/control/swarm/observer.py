"""Looking at a Swarm: a listing each of its services, its tasks and its nodes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from agent.adapters.engine.engine import Engine
from agent.adapters.swarm import cluster
from agent.domain.container import Container
from agent.domain.swarm import views
from agent.domain.swarm.model import SwarmNode


class SwarmObserver:
    """For the cycle. ``salt`` is the cluster's, for hashes of specs."""

    def __init__(self, engine: Engine, stacks_dir: str, salt: Callable[[], Awaitable[str]]) -> None:
        self._engine = engine
        self._stacks_dir = stacks_dir
        self._salt = salt
        self._opened: float | None = None
        self._found: tuple[Container, ...] = ()
        self.nodes: tuple[SwarmNode, ...] = ()
        """As they were at the last look."""

    def listen(self, *, on: bool) -> None:
        """Whether events tell of every change from now on."""
        self._opened = time.monotonic() if on else None

    def stream_age(self) -> float | None:
        """How many seconds ago the stream of events was opened; None: there is none now."""
        return None if self._opened is None else time.monotonic() - self._opened

    async def containers(self) -> tuple[Container, ...]:
        """All services as containers. Raises :class:`CommitdError`."""
        found = await self.of_stack(None)
        if found != self._found:  # equal ones are the same, so that nobody compares them again
            self._found = found
        return self._found

    async def of_stack(self, stack: str | None) -> tuple[Container, ...]:
        """The services of one stack. Raises :class:`CommitdError`."""
        services = await cluster.services(self._engine, stack)
        tasks = await cluster.tasks(self._engine, stack)  # after: a task has its service by then
        self.nodes = await cluster.nodes(self._engine)
        return views.containers(
            services, tasks, self.nodes, stacks_dir=self._stacks_dir, salt=await self._salt()
        )

"""The agent's own verdict on its host, by the function that ``commitd status`` asks too."""

from __future__ import annotations

from contextlib import suppress

import anyio
import anyio.to_thread

from agent.adapters.engine.engine import Engine
from agent.adapters.state.journal import Journal
from agent.control.source.remote_status import Remotes
from agent.control.status import status
from agent.control.status.looks import Looks
from agent.domain.config import Config
from agent.domain.container import Container
from agent.domain.errors import CommitdError
from agent.domain.status import verdict
from agent.domain.status.facts import Ongoing
from agent.domain.status.verdict import Verdict

_LOOK_S = 5.0
"""For the engine to answer once more, after a cycle that failed."""

_Containers = tuple[Container, ...] | None


class Judge:
    """Told of the end of each cycle, so that others know when the agent looked last."""

    def __init__(self, config: Config, journal: Journal, remotes: Remotes, engine: Engine) -> None:
        self._config = config
        self._journal = journal
        self._remotes = remotes
        self._engine = engine
        self._looks = Looks(journal, config.runtime_dir)

    async def ended(self, containers: _Containers) -> Verdict:
        """A cycle has looked at everything, last at these containers."""
        return await anyio.to_thread.run_sync(self._ended, containers, None)

    async def failed(self, error: str) -> Verdict:
        """A cycle could not look at everything. Raises :class:`CommitdError` for the journal."""
        containers: _Containers = None
        with suppress(CommitdError), anyio.move_on_after(_LOOK_S):
            containers = await self._engine.containers()
        return await anyio.to_thread.run_sync(self._ended, containers, error)

    async def midway(self, containers: _Containers) -> Verdict:
        """A cycle goes on: with what it is doing."""
        working = await anyio.to_thread.run_sync(status.working, self._journal)
        return await anyio.to_thread.run_sync(self._judge, containers, working)

    def keep(self) -> None:
        """Have what is only in the runtime directory survive a restart of the machine. Blocks."""
        with suppress(CommitdError):  # it is only for people to see
            self._looks.keep()
            self._remotes.keep()

    def _ended(self, containers: _Containers, error: str | None) -> Verdict:
        self._looks.ended(error)
        return self._judge(containers)

    def _judge(self, containers: _Containers, working: tuple[Ongoing, ...] = ()) -> Verdict:
        found = status.facts(
            self._config,
            self._journal,
            answers=self._remotes.seen,
            containers=containers,
            running=True,
            look=self._looks.last,
            working=working,
        )
        return verdict.judge(found)

"""The agent's own verdict on its host, by the function that ``commitd status`` asks too."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
from msgspec.structs import replace

from agent.adapters.state.async_journal import AsyncJournal
from agent.control.source.remote_status import Remotes
from agent.control.status import status
from agent.control.status.looks import Looks
from agent.control.status.standing import Standings
from agent.domain.config import Config
from agent.domain.container import Container
from agent.domain.errors import CommitdError
from agent.domain.status import held, stack_state, verdict
from agent.domain.status.facts import Facts, Ongoing
from agent.domain.status.held import Held
from agent.domain.status.stack_state import StackState
from agent.domain.status.verdict import Verdict

if TYPE_CHECKING:  # a host does without it
    from agent.domain.swarm.model import SwarmNode

_LOOK_S = 5.0
"""For the engine to answer once more, after a cycle that failed."""

_Containers = tuple[Container, ...] | None


class Judge:
    """Told of each cycle, so that others know when the agent looked last and how the host is."""

    def __init__(
        self,
        config: Config,
        journal: AsyncJournal,
        remotes: Remotes,
        listed: Callable[[], Awaitable[tuple[Container, ...]]],
        looks: Looks,
        *,
        nodes: Callable[[], tuple[SwarmNode, ...]],
    ) -> None:
        """``listed`` gives what runs now, ``nodes`` the Swarm's as they were then."""
        self._config = config
        self._journal = journal
        self._remotes = remotes
        self._listed = listed
        self._looks = looks
        self._nodes = nodes
        self.standings = Standings()
        self._began = time.monotonic()
        self._last: tuple[Facts, tuple[Held, ...], tuple[StackState, ...]] | None = None

    def begins(self) -> None:
        """A cycle begins."""
        self._began = time.monotonic()

    async def ended(self, containers: _Containers, *, repairing: bool = False) -> Verdict:
        """A cycle has looked at everything, last at these containers.

        ``repairing``: what drifts is being put right beside it.
        """
        await self._looks.ended()
        working = await self._journal.run(status.working) if repairing else ()
        return await self._judge(containers, working)

    async def failed(self, error: str) -> Verdict:
        """A cycle could not look at everything; ``error`` alone where the journal fails too."""
        containers: _Containers = None
        with suppress(CommitdError), anyio.move_on_after(_LOOK_S):
            containers = await self._listed()
        try:
            await self._looks.ended(error)
            return await self._judge(containers)
        except CommitdError:
            return verdict.failed(error)

    async def midway(self, containers: _Containers) -> Verdict:
        """A cycle is under way: with what it is doing."""
        working = await self._journal.run(status.working)
        return await self._judge(containers, working, under_way=True)

    async def keep(self) -> None:
        """Have what is only in the runtime directory survive a restart of the machine."""
        with suppress(CommitdError):  # it is only for people to see
            await self._looks.keep()
            await self._remotes.keep()

    async def _judge(
        self,
        containers: _Containers,
        working: tuple[Ongoing, ...] = (),
        *,
        under_way: bool = False,
    ) -> Verdict:
        found = await self._journal.run(
            status.facts,
            self._config,
            answers=self._remotes.seen,
            containers=containers,
            running=True,
            look=self._looks.last,
            working=working,
            nodes=self._nodes(),
        )
        holds = held.current(found)
        if self._last is None or self._last[1] != holds or not _alike(self._last[0], found):
            self._last = found, holds, stack_state.states(found, holds)
        states = self._last[2]
        judged = verdict.judge_states(found, holds, states)
        cycle = None if under_way else time.monotonic() - self._began
        self.standings.tell(found, holds, states, judged, cycle=cycle)
        return judged


def _alike(before: Facts, now: Facts) -> bool:
    """Whether stacks are the same in both: what was asked when, and by whom, is not about them."""
    return before == replace(now, now=before.now, look=before.look, remotes=before.remotes)

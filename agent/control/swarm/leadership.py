"""Whether this manager acts, asked before each cycle and before each effect on the Swarm.

    cycle ─▶ look ─┬▶ it leads: the cycle goes on; before each effect ─▶ confirm ─▶ cancelled
                   └▶ another one: the cycle follows the remotes; watch ─▶ wakes one once it leads

The election is the engine's own: the leader is that of the managers' Raft group.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio

from agent.adapters.engine.engine import Engine
from agent.adapters.guard import Guard
from agent.adapters.swarm import cluster
from agent.domain.errors import (
    CancelledError,
    CommitdError,
    PermanentError,
    TransientError,
    UnreachableError,
)
from agent.domain.swarm import leadership
from agent.domain.swarm.leadership import Place

log = logging.getLogger("commitd.swarm")

EVERY_S = 2.0
"""Between two looks while another manager leads: one small answer of the engine."""


class Leadership:
    """Of one manager. ``place`` is what it was at the last look; None: not known.

    ``cluster`` is the ID of the Swarm that it was in then.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._own: str | None = None
        self.place: Place | None = None
        self.cluster: str | None = None

    async def look(self) -> Place:
        """Where this manager stands now.

        Raises :class:`ConfigError` on a worker and outside of a Swarm, and
        :class:`TransientError` while it is not known who leads.
        """
        self.place = None
        found = await self._place() if self._own else None
        if found is None:  # not asked yet, or another Swarm, or not a manager any more
            member = await cluster.membership(self._engine)
            self._own, self.cluster = leadership.node_id(member), member.cluster
            found = await self._place()
        if found is None:
            raise leadership.no_leader("it does not list this manager")
        self.place = found
        return found

    async def confirm(self) -> None:
        """Before an effect on the Swarm. Raises :class:`CancelledError`: it is not ours any more.

        And :class:`UnreachableError` while the engine does not answer.
        """
        try:
            if await self._leads() or (place := await self.look()).leads:
                return
        except UnreachableError:
            raise
        except CommitdError as err:
            raise CancelledError(f"it is not known who leads: {err}") from None
        raise CancelledError(f"the leader is {place.leader} now")

    async def watch(self, wake: Callable[[str], None]) -> None:
        """Ask for a cycle once this manager leads, or the leader is unknown. Never returns."""
        guard = Guard("asking who leads the Swarm", log, longest_s=EVERY_S)

        async def turn() -> None:
            await anyio.sleep(EVERY_S)
            if self.place is None or (not self.place.leads and await self._leads()):
                wake("who leads may have changed")

        await guard.forever(turn)

    async def _leads(self) -> bool:
        if self._own is None:
            return (await self.look()).leads
        try:
            return (await cluster.node(self._engine, self._own)).leads
        except PermanentError:  # there is no such node any more
            return False

    async def _place(self) -> Place | None:
        """None where the engine is no manager, or of another Swarm."""
        try:
            nodes = await cluster.nodes(self._engine)
        except UnreachableError:
            raise
        except TransientError as err:
            leadership.node_id(await cluster.membership(self._engine))
            raise leadership.no_leader(err.message) from None
        return leadership.place(nodes, self._own or "")

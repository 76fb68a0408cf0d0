"""This manager among the others: asked at the beginning of each cycle and before each effect."""

from __future__ import annotations

import logging

import anyio

from agent.adapters.engine.engine import Engine
from agent.adapters.guard import Guard
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import STANDBY
from agent.control.swarm import remembered
from agent.control.swarm.leadership import Leadership
from agent.control.swarm.records import Records, Turn
from agent.domain.outcome import Reason
from agent.domain.reconcile.actions import Hold
from agent.domain.swarm.leadership import Place

log = logging.getLogger("commitd.swarm")

IDLE_S = 60.0
"""The agent of a new leader begins within seconds: who has not by then does not run."""


class Manager:
    """Of the cluster ``host``."""

    def __init__(self, engine: Engine, journal: AsyncJournal, host: str) -> None:
        self._journal = journal
        self._host = host
        self._said: Place | None = None
        self._idle_since: float | None = None
        self._ordered = anyio.Event()
        self.leadership = Leadership(engine)
        self.records = Records(engine, journal, host, self.leadership.confirm)

    def _say(self, place: Place) -> None:
        """Once, when it changes."""
        if place != self._said and place.leads:
            log.info("this manager (%s) leads the Swarm: it deploys", place.node)
        elif place != self._said:
            log.info("this manager (%s) stands by: the leader is %s", place.node, place.leader)
        self._said = place

    def idle(self, place: Place, led: str | None) -> tuple[Hold, ...]:
        """That nobody deploys, if the agent of the leader has not begun to; ``led`` last did."""
        if self._idle_since is None or led == place.leader_id:
            self._idle_since = anyio.current_time()
        if anyio.current_time() - self._idle_since < IDLE_S:
            return ()
        where = f"{place.leader}: systemctl status commitd there"
        return (Hold(self._host, Reason.LEADER_IDLE, where, needs_person=True),)

    def ordered(self) -> None:
        """A person may have given an order here: whoever leads next is to know of it."""
        self._ordered.set()

    async def share_orders(self) -> None:
        """For ever: tell the others of orders at once, also while a cycle waits for a stack."""
        guard = Guard("sharing orders with other managers", log)

        async def turn() -> None:
            await self._ordered.wait()
            self._ordered = anyio.Event()
            await self.records.share()

        await guard.forever(turn)

    async def _enter(self, cluster: str | None) -> None:
        """What the journal has of another Swarm is not about this one."""
        if cluster is None:
            return
        if await self._journal.run(remembered.enter, cluster):
            log.warning(
                "this engine is in another Swarm than before: what was known of stacks there, and"
                " that it was enrolled, is forgotten; commitd enroll agrees to removals here"
            )

    async def begin(self) -> Turn:
        """What this manager is now; its journal has what managers share by then.

        Raises :class:`ConfigError` on a worker and outside of a Swarm, and :class:`CommitdError`
        while it is not known who leads, or what is shared.
        """
        place = await self.leadership.look()
        self._say(place)
        await self._enter(self.leadership.cluster)
        if place.leads:
            self._idle_since = None
            turn = await self.records.lead(place.id)
        else:
            led = await self.records.follow()
            turn = Turn(leader=place.leader, holds=self.idle(place, led))
        await self._journal.put(STANDBY, turn.leader)
        return turn

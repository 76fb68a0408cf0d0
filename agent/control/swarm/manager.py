"""This manager among the others: asked at the beginning of each cycle and before each effect."""

from __future__ import annotations

import logging

from agent.adapters.engine.engine import Engine
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import STANDBY
from agent.control.swarm.leadership import Leadership
from agent.control.swarm.records import Records, Turn
from agent.domain.swarm.leadership import Place

log = logging.getLogger("commitd.swarm")


class Manager:
    """Of the cluster ``host``."""

    def __init__(self, engine: Engine, journal: AsyncJournal, host: str) -> None:
        self._journal = journal
        self._said: Place | None = None
        self.leadership = Leadership(engine)
        self.records = Records(engine, journal, host, self.leadership.confirm)

    def _say(self, place: Place) -> None:
        """Once, when it changes."""
        if place != self._said and place.leads:
            log.info("this manager (%s) leads the Swarm: it deploys", place.node)
        elif place != self._said:
            log.info("this manager (%s) stands by: the leader is %s", place.node, place.leader)
        self._said = place

    async def begin(self) -> Turn:
        """What this manager is now; its journal has what managers share by then.

        Raises :class:`ConfigError` on a worker and outside of a Swarm, and :class:`CommitdError`
        while it is not known who leads, or what is shared.
        """
        place = await self.leadership.look()
        self._say(place)
        if place.leads:
            turn = await self.records.lead(place.id)
        else:
            await self.records.follow()
            turn = Turn(leader=place.leader)
        await self._journal.put(STANDBY, turn.leader)
        return turn

"""What must not be touched, as known at this moment: by what is declared, and by order."""

from __future__ import annotations

from agent.adapters.engine.engine import Engine
from agent.adapters.state.async_journal import AsyncJournal
from agent.control.reconcile import observe
from agent.domain.reconcile.actions import ProtectionSet
from agent.domain.reconcile.exemptions import Exemptions


class Protection:
    """Asked before every eviction. Readers of ``protected`` get it without waiting."""

    def __init__(self, engine: Engine, journal: AsyncJournal) -> None:
        self._engine = engine
        self._journal = journal
        self.protected = ProtectionSet(services={}, doubt="the first full cycle is not done yet")
        self.ready = False
        self.stopped: set[str] = set()
        """Containers that somebody was seen to stop: an end with 0 is no success of theirs."""
        self.disturbed: set[str] = set()
        """Projects to which something happened since the last look; empty name: nobody knows."""

    def publish(self, protected: ProtectionSet) -> None:
        """From now on this counts."""
        self.protected = protected
        self.ready = True

    def withdraw(self) -> None:
        """Nothing is known any more of what is declared: another agent sees to it."""
        self.protected = ProtectionSet(services={}, doubt="another manager leads the Swarm")
        self.ready = False

    async def exemptions(self) -> Exemptions:
        """What is taken out of the agent's hands now."""
        return await self._journal.run(observe.exemptions, self._engine.helpers.ids())

    async def orders(self) -> tuple[list[str | None], Exemptions]:
        """What people have ordered, at the beginning of a cycle: what is over, and what counts."""
        return await self._journal.run(observe.orders, self._engine.helpers.ids())

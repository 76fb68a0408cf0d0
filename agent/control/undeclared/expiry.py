"""When what is kept is removed: once its time is over, and only while the clocks can be trusted.

A removal cannot be undone.
"""

from __future__ import annotations

import logging
import time

from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.evictions import Evicted

log = logging.getLogger("commitd.keeper")

_PRUNE_EVERY_S = 86400.0


class Expiry:
    """By the time that the journal counts. ``what`` is kept, for the log."""

    def __init__(self, journal: AsyncJournal, what: str) -> None:
        self._journal = journal
        self._what = what
        self._next_prune = 0.0
        self._waits = False

    def look(self) -> None:
        """Note how the clocks are; log once why nothing is removed now."""
        unsettled = self._journal.unsettled()
        if unsettled and not self._waits:
            log.info("removal of kept %s is paused: %s", self._what, unsettled)
        self._waits = unsettled is not None

    def over(self, record: Evicted) -> bool:
        """Whether it is to be removed now."""
        due = record.remove_at is not None and record.remove_at <= self._journal.now()
        return due and not self._waits

    async def prune(self) -> None:
        """Once a day, have the journal forget what is long over."""
        if not self._waits and time.monotonic() > self._next_prune:
            self._next_prune = time.monotonic() + _PRUNE_EVERY_S
            await self._journal.prune()

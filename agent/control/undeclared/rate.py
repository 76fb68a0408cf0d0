"""How many may be ended within a minute."""

from __future__ import annotations

import time
from collections import deque

from agent.domain.outcome import Reason
from agent.domain.reconcile.actions import Hold

_MINUTE_S = 60.0


class Rate:
    """A storm of what nobody declared is a mistake somewhere: say so, and evict no more."""

    def __init__(self, per_minute: int) -> None:
        self._limit = per_minute
        self._recent: deque[float] = deque()

    def many(self, *, one_more: bool = False) -> bool:
        """Whether there were too many within a minute. If not, count ``one_more``."""
        now = time.monotonic()
        while self._recent and now - self._recent[0] > _MINUTE_S:
            self._recent.popleft()
        many = len(self._recent) >= self._limit
        if one_more and not many:
            self._recent.append(now)
        return many

    def hold(self, name: str) -> Hold:
        """Why one of that name is left running."""
        return Hold(name, Reason.RATE, f"{self._limit} or more were ended within a minute")

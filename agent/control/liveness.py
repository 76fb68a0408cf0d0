"""Whether the loop gets on: each step says how long it may take; so long the watchdog is fed."""

from __future__ import annotations

import time

import anyio

from agent.adapters.host import systemd


class Liveness:
    """Of one loop, which may take ``first_s`` seconds until it says more."""

    def __init__(self, first_s: float) -> None:
        self.may_take(first_s)

    def may_take(self, seconds: float) -> None:
        """It gets on, and what it does now may take so long."""
        self._until = time.monotonic() + seconds

    def alive(self) -> bool:
        """Whether it is still within its time."""
        return time.monotonic() < self._until

    async def feed_watchdog(self) -> None:
        """Signs of life for systemd, where it wants them, only while the loop gets on."""
        allowed = systemd.watchdog_s()
        while allowed:
            if self.alive():
                systemd.notify("WATCHDOG=1")
            await anyio.sleep(allowed / 3)

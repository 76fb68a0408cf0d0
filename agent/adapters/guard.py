"""What keeps a long-lived task alive: an error in one of its passes is logged, and it continues."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

import anyio

from agent.domain.backoff import Backoff
from agent.domain.errors import CommitdError

STEADY_S = 10.0
"""A pass that lasted this long before it failed counts as good: the next wait is short again."""
FIRST_S = 0.2


class Guard:
    """Of one task, called ``what`` in the log.

    After a failed pass it waits with ``pause`` (seconds), twice as long after each that follows,
    but not longer than ``longest_s``. The same error again is logged only with ``--verbose``.
    """

    def __init__(
        self,
        what: str,
        log: logging.Logger,
        *,
        pause: Callable[[float], Awaitable[None]] = anyio.sleep,
        longest_s: float = 60.0,
    ) -> None:
        self._what = what
        self._log = log
        self._pause = pause
        self._backoff = Backoff(first_s=FIRST_S, longest_s=longest_s, quiet_s=STEADY_S)
        self._failures = 0
        self._said: str | None = None

    async def run(self, work: Callable[[], Awaitable[object]]) -> bool:
        """One pass of the task; whether it succeeded.

        Raises nothing but what ends the process or cancels the task.
        """
        began = time.monotonic()
        try:
            await work()
        except Exception as err:  # noqa: BLE001  that is what it is for
            self._failures = self._backoff.count(self._failures, time.monotonic() - began)
            wait_s = self._backoff.wait_s(self._failures)
            self.note(err, f"; again in {wait_s:.1f} s")
            await self._pause(wait_s)
            return False
        self._failures = 0
        self.recovered()
        return True

    async def until_done(self, work: Callable[[], Awaitable[object]]) -> None:
        """Do ``work``, again and again until it ends by itself."""
        while not await self.run(work):
            pass

    async def forever(self, work: Callable[[], Awaitable[object]]) -> None:
        """One pass after the other."""
        while True:
            await self.run(work)

    def note(self, err: Exception, then: str = "") -> None:
        """Log ``err``, with a traceback if nobody expected it."""
        known = isinstance(err, CommitdError)
        said = str(err) if known else f"unexpected {type(err).__name__}: {err}"
        if said == self._said:
            self._log.debug("%s: %s%s", self._what, said, then)
        elif known:
            self._log.warning("%s: %s%s", self._what, said, then)
        else:
            self._log.error("%s: %s%s", self._what, said, then, exc_info=err)
        self._said = said

    def recovered(self) -> None:
        """Nothing is wrong (any more)."""
        if self._said is not None:
            self._log.info("%s: works again", self._what)
        self._said = None


def brief(err: Exception) -> str:
    """What went wrong, for a status line; of what nobody expected just the kind."""
    if isinstance(err, CommitdError):
        return str(err)
    return f"unexpected {type(err).__name__}, see the log"

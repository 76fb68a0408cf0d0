"""The half of a start in which services wait for each other, beside the looks of the gate."""

from __future__ import annotations

import time
from collections.abc import Sequence

import anyio
from anyio.abc import TaskGroup

from agent.control.health.activity import Activity
from agent.control.health.awaited import Steps
from agent.domain.errors import CommitdError

_START_AGAIN_S = (1.0, 10.0)
"""First and longest pause before Compose is asked again to start what waits."""


class Starter:
    """``done`` once all is started; ``error`` is why it ended before that."""

    def __init__(self, group: TaskGroup, steps: Steps, activity: Activity) -> None:
        self._group = group
        self._steps = steps
        self._activity = activity
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()
        self._pause_s, self._due_at = _START_AGAIN_S[0], 0.0
        self._riddle: str | None = None
        self.runs = False
        self.done = not steps.waits
        self.error: CommitdError | None = None

    def begin_if_due(self, limit_s: float) -> None:
        """Unless it runs or is done, or has failed and is not to be begun again yet."""
        if self.runs or self.done or self.error or time.monotonic() < self._due_at:
            return
        self.runs = True
        self._scope, self._ended = anyio.CancelScope(), anyio.Event()
        self._group.start_soon(self._run, limit_s)

    async def _run(self, limit_s: float) -> None:
        try:
            with self._scope:
                await self._steps.start(max(limit_s, 0.1))
                self.done = True
        except CommitdError as err:
            self.error = err
        finally:
            self.runs = False
            self._ended.set()
            self._activity.wake()

    async def cancel(self) -> None:
        """End it; what was started runs on."""
        if self.runs:
            self._scope.cancel()
            await self._ended.wait()

    def again(self) -> None:
        """All of it is to be started again, if it is started in parts."""
        self.error, self.done = None, not self._steps.waits

    def again_later(self) -> None:
        """The same after a pause, which grows."""
        self.again()
        self._due_at = time.monotonic() + self._pause_s
        self._pause_s = min(self._pause_s * 2, _START_AGAIN_S[1])

    def unexplained(self, error: CommitdError | None) -> bool:
        """Whether it is the same error as the time before, and no look accounts for either.

        None: this time a look does.
        """
        before, self._riddle = self._riddle, str(error) if error else None
        return self._riddle is not None and before == self._riddle


class Pauses:
    """How often something was done, and when it may be done again."""

    def __init__(self, pauses_s: Sequence[float]) -> None:
        self._pauses_s = pauses_s
        self._count = 0
        self._last_at = 0.0

    def due_in_s(self) -> float | None:
        """Seconds until the next time; None: often enough."""
        if self._count == len(self._pauses_s):
            return None
        return self._last_at + self._pauses_s[self._count] - time.monotonic()

    def note(self) -> None:
        """It was done just now."""
        self._count += 1
        self._last_at = time.monotonic()

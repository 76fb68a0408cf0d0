"""One after the other, and what is urgent before the rest that waits."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio


class Turns:
    """For something that does one thing at a time."""

    def __init__(self) -> None:
        self._taken = False
        self._urgent: deque[anyio.Event] = deque()
        self._others: deque[anyio.Event] = deque()

    @asynccontextmanager
    async def turn(self, *, urgent: bool) -> AsyncIterator[None]:
        """Wait for it; the block is alone."""
        if self._taken:
            await self._wait(self._urgent if urgent else self._others)
        self._taken = True
        try:
            yield
        finally:
            self._hand_on()

    async def _wait(self, waiting: deque[anyio.Event]) -> None:
        mine = anyio.Event()
        waiting.append(mine)
        try:
            await mine.wait()
        except BaseException:
            if mine.is_set():
                self._hand_on()
            else:
                waiting.remove(mine)
            raise

    def _hand_on(self) -> None:
        if upcoming := self._urgent or self._others:
            upcoming.popleft().set()
        else:
            self._taken = False

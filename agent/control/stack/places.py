"""How much goes on at a time that keeps the machine busy or takes memory.

    waits ─▶ one of a few begins ─▶ done, or it takes long: the next one begins ─▶ … up to ``most``

What takes long waits itself, for a container that stops slowly or a disk that is away. It keeps its
memory, but nobody waits for it. Reading comes after everything else that waits: the engine has work
as soon as the first stack is read, and not only once all are.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

LONG_S = 2.0


@dataclass(slots=True, eq=False)
class _Turn:
    reading: bool
    came: anyio.Event = field(default_factory=anyio.Event)
    timer: asyncio.TimerHandle | None = None


class Places:
    """``most`` pieces of work at a time, of which ``begun`` have not taken long yet."""

    def __init__(self, most: int, begun: int) -> None:
        self._most, self._most_begun = most, begun
        self._waiting: list[_Turn] = []
        self._there: set[_Turn] = set()
        self._begun: set[_Turn] = set()

    @asynccontextmanager
    async def taken(self, *, reading: bool = False) -> AsyncIterator[None]:
        """One of them, for as long as the block lasts; ``reading`` others go first."""
        turn = _Turn(reading)
        self._waiting.append(turn)
        try:
            self._admit()
            await turn.came.wait()
            yield
        finally:
            self._leave(turn)

    def _admit(self) -> None:
        while (
            self._waiting and len(self._there) < self._most and len(self._begun) < self._most_begun
        ):
            turn = min(self._waiting, key=lambda each: each.reading)  # the first of these
            self._waiting.remove(turn)
            self._there.add(turn)
            self._begun.add(turn)
            turn.timer = asyncio.get_running_loop().call_later(LONG_S, self._takes_long, turn)
            turn.came.set()

    def _takes_long(self, turn: _Turn) -> None:
        self._begun.discard(turn)
        self._admit()

    def _leave(self, turn: _Turn) -> None:
        if turn.timer:
            turn.timer.cancel()
        else:  # its turn did not come
            self._waiting.remove(turn)
        self._there.discard(turn)
        self._begun.discard(turn)
        self._admit()


def for_compose(most: int) -> Places:
    """For processes of Compose: one a core computes, or waits for the engine."""
    return Places(most, _cores())


def for_starts() -> Places:
    """For containers that the engine starts."""
    return Places(64, 2 * _cores())


def _cores() -> int:
    return len(os.sched_getaffinity(0))

"""Work in bounded steps, each of which is a sign of life."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

_Result = TypeVar("_Result")


class Stepping:
    """``pulse`` is told whenever a step begins or ends."""

    def __init__(self, pulse: Callable[[], None]) -> None:
        self._pulse = pulse

    async def _step(self, work: Awaitable[_Result]) -> _Result:
        self._pulse()
        try:
            return await work
        finally:
            self._pulse()

"""Work that goes on beside the cycles: who needs its result waits a little, and asks again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

T = TypeVar("T")


class Beside(Generic[T]):
    """One piece of work at a time, in ``group``; ``wake`` when one ends that nobody waits for.

    For one that is just begun :meth:`ask` waits for ``patience_s``, later not at all.
    """

    def __init__(self, group: TaskGroup, patience_s: float, wake: Callable[[str], None]) -> None:
        self._group = group
        self._patience_s = patience_s
        self._wake = wake
        self._question: object = None
        self._ended = anyio.Event()
        self._result: T | None = None
        self._error: Exception | None = None
        self._awaited = False

    @property
    def busy(self) -> bool:
        """Whether work is under way, or its result was not taken yet."""
        return self._question is not None

    async def ask(self, question: object, work: Callable[[], Awaitable[T]]) -> T | None:
        """The result of ``work``, which answers ``question``; None while it is under way.

        What is under way for another question goes on to its end, and is None until then. Raises
        what ``work`` raises.
        """
        if self.busy and self._question != question:
            if not self._ended.is_set():
                return None
            self._question = None
        if not self.busy:
            self._question, self._ended = question, anyio.Event()
            self._result = self._error = None
            self._group.start_soon(self._run, work)
            self._awaited = True
            with anyio.move_on_after(self._patience_s):
                await self._ended.wait()
            self._awaited = False
        if not self._ended.is_set():
            return None
        self._question = None
        if self._error is not None:
            raise self._error
        return self._result

    async def _run(self, work: Callable[[], Awaitable[T]]) -> None:
        try:
            self._result = await work()
        except Exception as err:  # noqa: BLE001  it is raised where the result is asked for
            self._error = err
        self._ended.set()
        if not self._awaited:
            self._wake("a new commit was looked at")

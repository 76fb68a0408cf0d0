"""What wakes the loop between two cycles, and the repairer while one runs.

    remotes, engine, signals ─▶ look ──┬▶ wanted, until the loop takes it (``asked``)
                                       └▶ ``heard``
    a cycle or a repair ended ─▶ tell ──▶ ``heard``

Whoever looks, looks at everything; so one wish that is not taken yet stands for all. What is wished
during a cycle is left for the loop: the next cycle follows at once. One task waits at a time.
"""

from __future__ import annotations

import anyio


class Wakes:
    """Of one daemon. ``look`` and ``tell`` are for its event loop alone."""

    def __init__(self) -> None:
        self._wanted = False
        self._told = anyio.Event()

    def look(self, _why: str = "") -> None:
        """Something may have changed: a cycle is to look at it."""
        self._wanted = True
        self._told.set()

    def tell(self) -> None:
        """Something ended that the one who waits asked for."""
        self._told.set()

    async def heard(self) -> None:
        """Wait for either; what was said before nobody waited counts too."""
        await self._told.wait()
        self._told = anyio.Event()

    async def asked(self) -> None:
        """Wait until a cycle is wanted, and take that."""
        while not self._wanted:
            await self.heard()
        self._wanted = False

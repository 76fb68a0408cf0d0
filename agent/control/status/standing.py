"""How the host stands, as the agent judged it last: for consumers beside the work.

    judge ─▶ Standings.tell ─▶ latest          consumer: after(number) ─▶ the newest one since
                    └──────────────▲

Only the newest is kept. Who compares two of them sees what has changed in between, however many
cycles that took. Nothing is written down, so a restart begins anew with the first cycle.
"""

from __future__ import annotations

import anyio
from msgspec import Struct

from agent.domain.status.facts import Facts
from agent.domain.status.held import Held
from agent.domain.status.stack_state import StackState
from agent.domain.status.verdict import Verdict


class Standing(Struct, frozen=True, kw_only=True):
    """What one judgement was made of, and the verdict.

    ``number`` is higher in a later one. ``cycle`` is how many seconds the cycle took which ended
    with it; None: a cycle is still under way.
    """

    number: int
    cycle: float | None
    facts: Facts
    holds: tuple[Held, ...]
    stacks: tuple[StackState, ...]
    verdict: Verdict


class Standings:
    """The newest one, and a wait for the next."""

    def __init__(self) -> None:
        self.latest: Standing | None = None
        self.cycle: float | None = None
        """How many seconds the last cycle took that has ended."""
        self._told = anyio.Event()

    def tell(
        self,
        facts: Facts,
        holds: tuple[Held, ...],
        stacks: tuple[StackState, ...],
        verdict: Verdict,
        *,
        cycle: float | None,
    ) -> None:
        """There is a newer one. Costs next to nothing where nobody waits."""
        number = self.latest.number + 1 if self.latest else 1
        self.cycle = self.cycle if cycle is None else cycle
        self.latest = Standing(
            number=number, cycle=cycle, facts=facts, holds=holds, stacks=stacks, verdict=verdict
        )
        told, self._told = self._told, anyio.Event()
        told.set()

    async def after(self, number: int, *, ended: bool = False) -> Standing:
        """The newest one, when it is newer than ``number``; waits for it.

        ``ended``: only one with which a cycle has ended.
        """
        while True:
            told, latest = self._told, self.latest
            if latest and latest.number > number and not (ended and latest.cycle is None):
                return latest
            await told.wait()

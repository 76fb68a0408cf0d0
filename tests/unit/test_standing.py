"""Consumers beside the work wait for how the host stands."""

from __future__ import annotations

from typing import Any

import anyio

from agent.adapters.tasks import task_group
from agent.control.status.standing import Standings
from agent.domain.status.verdict import State, Verdict


def _tell(standings: Standings, line: str, **cycle: Any) -> None:
    facts: Any = None
    standings.tell(facts, (), (), Verdict(State.IN_SYNC, line), **{"cycle": 1.0, **cycle})


def test_who_waits_gets_the_newest_one_and_no_older() -> None:
    async def main() -> None:
        standings, seen = Standings(), []

        async def consumer() -> None:
            number = 0
            for _ in range(2):
                found = await standings.after(number)
                number = found.number
                seen.append(found.verdict.line)

        async with task_group() as group:
            group.start_soon(consumer)
            await anyio.wait_all_tasks_blocked()
            _tell(standings, "first")
            _tell(standings, "second")
            await anyio.wait_all_tasks_blocked()
            assert seen == ["second"]
            _tell(standings, "third")
        assert seen == ["second", "third"]

    anyio.run(main)


def test_who_wants_the_end_of_a_cycle_does_not_get_what_is_under_way() -> None:
    async def main() -> None:
        standings = Standings()
        _tell(standings, "working", cycle=None)
        with anyio.move_on_after(0):
            await standings.after(0, ended=True)
        assert (await standings.after(0)).verdict.line == "working"
        _tell(standings, "done", cycle=2.5)
        assert (await standings.after(0, ended=True)).cycle == 2.5

    anyio.run(main)

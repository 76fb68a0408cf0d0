from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import anyio

from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.adapters.state.turns import Turns
from agent.adapters.tasks import task_group

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_urgent_waits_for_the_one_that_works_alone(tmp_path: Path) -> None:
    """Each write waits for the disk; an eviction does not wait for those of twenty stacks."""
    file = Journal(tmp_path / "journal.db")
    journal = AsyncJournal(file)
    done: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def write(journal: Journal, name: str) -> None:
        journal.put(name, name)
        if name == "first":
            begun.set()
            go_on.wait(10)
        done.append(name)

    async def main() -> None:
        async with task_group() as group:
            group.start_soon(journal.run, write, "first")
            await anyio.to_thread.run_sync(begun.wait)
            for name in ("second", "third"):
                group.start_soon(journal.run, write, name)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(journal.urgent().run, write, "urgent")
            await anyio.wait_all_tasks_blocked()
            go_on.set()

    anyio.run(main)
    file.close()
    assert done == ["first", "urgent", "second", "third"]


def test_who_does_not_wait_any_more_takes_no_turn() -> None:
    turns, done = Turns(), list[str]()

    async def take(name: str, scope: anyio.CancelScope | None = None) -> None:
        with scope or anyio.CancelScope():
            async with turns.turn(urgent=False):
                done.append(name)

    async def main() -> None:
        gone = anyio.CancelScope()
        async with task_group() as group, turns.turn(urgent=True):
            group.start_soon(take, "gone", gone)
            group.start_soon(take, "next")
            await anyio.wait_all_tasks_blocked()
            gone.cancel()
            await anyio.wait_all_tasks_blocked()
        async with turns.turn(urgent=False):
            done.append("last")

    anyio.run(main)
    assert done == ["next", "last"]

"""How many pieces of work go on at a time."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from agent.adapters.tasks import task_group
from agent.control.stack import places
from agent.control.stack.places import Places


def test_who_takes_long_lets_the_next_begin_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(places, "LONG_S", 0.01)
    begun: list[str] = []
    ends = {name: anyio.Event() for name in "abcd"}

    async def work(place: Places, name: str, came: anyio.Event) -> None:
        async with place.taken():
            begun.append(name)
            came.set()
            await ends[name].wait()

    async def main() -> None:
        place, came = Places(2, 1), {name: anyio.Event() for name in ends}
        async with task_group() as group:
            for name in ends:
                group.start_soon(work, place, name, came[name])
                await anyio.wait_all_tasks_blocked()
            await came["b"].wait()  # the first one takes long
            assert begun == ["a", "b"]
            ends["a"].set()
            await came["c"].wait()
            assert begun == ["a", "b", "c"]  # no more than two
            for end in ends.values():
                end.set()
        assert sorted(begun) == ["a", "b", "c", "d"]

    anyio.run(main)


def test_reading_comes_after_what_else_waits_and_who_gives_up_is_not_waited_for() -> None:
    order: list[str] = []

    async def work(place: Places, name: str, scope: anyio.CancelScope) -> None:
        with scope:
            async with place.taken(reading=name.startswith("read")):
                order.append(name)
                await anyio.lowlevel.checkpoint()

    async def main() -> None:
        place = Places(4, 1)
        names = ["read 1", "read 2", "make 1", "gives up", "make 2", "read 3"]
        scopes = {name: anyio.CancelScope() for name in names}
        async with task_group() as group, place.taken():
            for name in names:
                group.start_soon(work, place, name, scopes[name])
            await anyio.wait_all_tasks_blocked()
            scopes["gives up"].cancel()
            await anyio.wait_all_tasks_blocked()

    anyio.run(main)
    assert order == ["make 1", "make 2", "read 1", "read 2", "read 3"]


def test_of_what_is_done_soon_one_goes_on_at_a_time() -> None:
    now: set[int] = set()
    most: list[int] = []

    async def work(place: Places, number: int) -> None:
        async with place.taken():
            now.add(number)
            await anyio.lowlevel.checkpoint()
            most.append(len(now))
            now.remove(number)

    async def main() -> None:
        place = Places(4, 1)
        async with task_group() as group:
            for number in range(10):
                group.start_soon(work, place, number)

    anyio.run(main)
    assert most == [1] * 10

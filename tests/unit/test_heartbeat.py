"""After each cycle a URL is asked for, which is shown nowhere."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from agent.adapters.lru import Lru
from agent.control.outside import heartbeat
from agent.control.outside.running import Running
from agent.control.status.standing import Standings
from agent.domain.config import Config, Remote
from agent.domain.outside_config import Heartbeat
from agent.domain.status.verdict import State, Verdict
from tests.receiver import Receiver

TOKEN = "5e3c-c0ffee"


@pytest.fixture
def server() -> Iterator[Receiver]:
    with Receiver(TOKEN) as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "EVERY_S", 0.0)
    monkeypatch.setattr(heartbeat, "CHANGE_S", 0.0)


def beat(
    url: str, place: Path, work: Callable[[Running, Callable[[State], Awaitable[None]]], Any]
) -> None:
    file = place / "url"
    file.write_text(f"{url}\n")
    file.chmod(0o600)
    config = Config(
        host="media",
        remotes=(Remote(name="gitea", url="file:///nowhere"),),
        heartbeat=Heartbeat(url_file=file),
    )
    journal: Any = None

    @asynccontextmanager
    async def running() -> AsyncIterator[Running]:
        found = Running(
            config=config, journal=journal, standings=Standings(), words=Lru(1),
            alive=lambda: True, ready=lambda: True, wake=lambda: None,
        )  # fmt: skip
        async with heartbeat.beating(found):
            yield found

    async def main() -> None:
        with anyio.fail_after(60):
            async with running() as found:

                async def cycle(state: State) -> None:
                    facts: Any = None
                    found.standings.tell(facts, (), (), Verdict(state, "it is so"), cycle=1.0)
                    await anyio.wait_all_tasks_blocked()

                await work(found, cycle)

    anyio.run(main)


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  it comes true in the server's thread
        await anyio.sleep(0.01)


def test_a_good_cycle_asks_for_the_url_and_a_bad_one_for_fail(
    server: Receiver, tmp_path: Path
) -> None:
    async def work(_: Running, cycle: Callable[[State], Awaitable[None]]) -> None:
        for number, state in enumerate((State.IN_SYNC, State.FAILED, State.WAITING, State.IN_SYNC)):
            await cycle(state)
            await _until(lambda: len(server.asked) > number)  # noqa: B023

    beat(f"http://127.0.0.1:{server.port}/ping/{TOKEN}?x=1", tmp_path, work)
    good = f"/ping/{TOKEN}?x=1"
    assert server.asked == [good, *[f"/ping/{TOKEN}/fail?x=1"] * 2, good]


def test_while_nothing_changes_it_is_asked_for_now_and_then(
    server: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "EVERY_S", 3600.0)

    async def work(_: Running, cycle: Callable[[State], Awaitable[None]]) -> None:
        for _number in range(5):
            await cycle(State.IN_SYNC)
        await _until(lambda: bool(server.asked))
        await cycle(State.FAILED)
        await _until(lambda: len(server.asked) > 1)

    beat(f"http://127.0.0.1:{server.port}/{TOKEN}", tmp_path, work)
    assert server.asked == [f"/{TOKEN}", f"/{TOKEN}/fail"]


def test_a_change_soon_after_the_last_question_is_told_without_another_cycle(
    server: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "EVERY_S", 3600.0)
    monkeypatch.setattr(heartbeat, "CHANGE_S", 0.5)

    async def work(_: Running, cycle: Callable[[State], Awaitable[None]]) -> None:
        await cycle(State.IN_SYNC)
        await _until(lambda: bool(server.asked))
        await cycle(State.IN_SYNC)
        await cycle(State.FAILED)
        await _until(lambda: len(server.asked) > 1)

    beat(f"http://127.0.0.1:{server.port}/{TOKEN}", tmp_path, work)
    assert server.asked == [f"/{TOKEN}", f"/{TOKEN}/fail"]


def test_a_cycle_beside_which_something_is_put_right_is_no_bad_one(
    server: Receiver, tmp_path: Path
) -> None:
    async def work(_: Running, cycle: Callable[[State], Awaitable[None]]) -> None:
        await cycle(State.WORKING)
        await cycle(State.IN_SYNC)
        await _until(lambda: bool(server.asked))

    beat(f"http://127.0.0.1:{server.port}/{TOKEN}", tmp_path, work)
    assert server.asked == [f"/{TOKEN}"]


@pytest.mark.parametrize(
    "case",
    [(500, "answers 500"), (302, "leads elsewhere"), ("hang", "no answer within")],
)
def test_what_is_wrong_with_it_is_shown_without_the_url(
    server: Receiver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    case: tuple[int | str, str],
) -> None:
    instead, said = case
    monkeypatch.setattr(heartbeat, "_LIMIT_S", 0.5)
    server.instead = instead
    caplog.set_level(logging.DEBUG)

    async def work(running: Running, cycle: Callable[[State], Awaitable[None]]) -> None:
        await cycle(State.IN_SYNC)
        await _until(lambda: "heartbeat" in running.trouble.current)
        assert said in running.trouble.current["heartbeat"].error
        server.instead = None
        await cycle(State.IN_SYNC)
        await _until(lambda: "heartbeat" not in running.trouble.current)

    beat(f"http://127.0.0.1:{server.port}/{TOKEN}", tmp_path, work)
    assert said in caplog.text
    assert TOKEN not in caplog.text
    assert server.asked == [f"/{TOKEN}"] * 2


@pytest.mark.parametrize(
    "url",
    ["ftp://x/5e3c-c0ffee", "http://[::1/5e3c-c0ffee", "5e3c-c0ffee", "", "http://x:0/5e3c-c0ffee"],
)
def test_what_is_no_url_is_said_without_it(tmp_path: Path, url: str) -> None:
    async def work(running: Running, cycle: Callable[[State], Awaitable[None]]) -> None:
        await cycle(State.IN_SYNC)
        await _until(lambda: "heartbeat" in running.trouble.current)
        error = running.trouble.current["heartbeat"].error
        assert str(tmp_path / "url") in error
        assert TOKEN not in error

    beat(url, tmp_path, work)


def test_a_file_that_others_may_read_is_not_used(server: Receiver, tmp_path: Path) -> None:
    async def work(running: Running, cycle: Callable[[State], Awaitable[None]]) -> None:
        (tmp_path / "url").chmod(0o644)
        await cycle(State.IN_SYNC)
        await _until(lambda: "heartbeat" in running.trouble.current)
        assert "chmod 600" in running.trouble.current["heartbeat"].error

    beat(f"http://127.0.0.1:{server.port}/{TOKEN}", tmp_path, work)
    assert server.asked == []

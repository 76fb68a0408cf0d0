"""A long-lived task outlives what goes wrong in it, says it once, and gives others room."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from agent.adapters.guard import STEADY_S, Guard
from agent.adapters.probes.base import Probe
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.adapters.tasks import task_group
from agent.control.source.poller import Poller
from agent.control.source.remote_status import Remotes, recall
from agent.domain.config import Remote, Seconds
from agent.domain.errors import TransientError
from agent.domain.source.decide import Answer
from agent.domain.source.git_protocol import RefAnswer

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("commitd.test")


class _Task:
    """Each pass does the next of these: an error is raised, a number is how long it takes."""

    def __init__(self, *passes: Exception | float, longest_s: float = 1.0) -> None:
        self._passes = list(passes)
        self.pauses: list[float] = []
        self._guard = Guard("work", log, pause=self._pause, longest_s=longest_s)

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def _pass(self) -> None:
        this = self._passes.pop(0)
        if isinstance(this, Exception):
            raise this

    async def _all(self) -> list[bool]:
        return [await self._guard.run(self._pass) for _ in self._passes[:]]

    def run(self) -> list[bool]:
        return anyio.run(self._all)


def test_a_failed_pass_is_followed_by_another_after_a_longer_wait_each_time() -> None:
    task = _Task(*[KeyError("a")] * 5, 0, KeyError("a"))
    assert task.run() == [*[False] * 5, True, False]
    assert task.pauses == [0.2, 0.4, 0.8, 1.0, 1.0, 0.2]


def test_what_nobody_expected_is_logged_with_its_place_and_the_same_only_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        _Task(KeyError("a"), KeyError("a"), TransientError("no disk"), 0, TransientError("b")).run()
    said = [(each.levelname, each.message, bool(each.exc_info)) for each in caplog.records]
    assert said == [
        ("ERROR", "work: unexpected KeyError: 'a'; again in 0.2 s", True),
        ("WARNING", "work: no disk; again in 0.8 s", False),
        ("INFO", "work: works again", False),
        ("WARNING", "work: b; again in 0.2 s", False),
    ]
    assert "test_guard.py" in caplog.text


def test_a_pass_that_lasted_before_it_failed_counts_as_a_good_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += STEADY_S + 1
        return now

    task = _Task(*[KeyError("a")] * 3)
    monkeypatch.setattr("agent.adapters.guard.time.monotonic", clock)
    task.run()
    assert task.pauses == [0.2, 0.2, 0.2]


class _Probe(Probe):
    """Says what it is given."""

    def __init__(self, said: RefAnswer | Exception) -> None:
        super().__init__(Remote("given", "file:///nowhere", poll=Seconds(0.01)), "main")
        self._said = said
        self._asked = 0
        self.asked_often = anyio.Event()

    async def ask(self) -> RefAnswer:
        self._asked += 1
        if self._asked > 2:
            self.asked_often.set()
        if isinstance(self._said, Exception):
            raise self._said
        return self._said

    async def aclose(self) -> None:
        if isinstance(self._said, Exception):
            raise self._said

    async def _ask(self) -> RefAnswer:
        return await self.ask()

    async def _drop(self) -> None:
        await self.aclose()


def test_what_nobody_expected_in_one_probe_makes_that_remote_down_and_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(tmp_path / "journal.db")
    memory = Remotes(recall(journal, ["odd", "sound"]), AsyncJournal(journal), tmp_path)
    probes = {"odd": _Probe(KeyError("refs")), "sound": _Probe(RefAnswer(Answer.HEAD, "a" * 40))}

    async def run() -> None:
        poller = Poller(probes, memory, lambda _: None)
        await poller.ask_all()
        with anyio.fail_after(60):
            async with task_group() as group:
                group.start_soon(poller.run)
                for probe in probes.values():
                    await probe.asked_often.wait()
                group.cancel_scope.cancel()
        await poller.aclose()

    anyio.run(run)
    assert memory.all_asked()
    assert memory.shown() == {"a" * 40}
    odd = next(head for head in memory.heads() if head.remote == "odd")
    assert (odd.answer, odd.error) == (Answer.DOWN, "odd: unexpected KeyError, see the log")
    assert caplog.text.count("Traceback") == 1

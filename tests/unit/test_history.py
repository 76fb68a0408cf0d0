"""The history in pages, and as it is followed: by the agent or by the journal, the same."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from agent.adapters.host import api_socket
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.control.status import history
from agent.control.status.history import Following, Wanted
from agent.domain.config import Config, Remote
from agent.domain.outcome import Action, Outcome, Reason, Status
from tests.unit.test_connections import serve

_ALL = Wanted()


def _event(phase: str, number: int, **more: Any) -> dict[str, Any]:
    usual = {
        "phase": phase, "id": number, "at": "2026-01-02T09:14:00.000Z", "action": "deploy",
        "subject": "web", "revision": "abcd1234",
        "status": "running" if phase == "begin" else "succeeded",
    }  # fmt: skip
    return {**usual, **more}


def _shown(following: Following, *batches: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(e["id"], e["status"]) for batch in batches for e in following.news(batch)]


def test_what_begins_is_shown_and_what_has_ended_again() -> None:
    shown = _shown(Following(_ALL, ()), [_event("begin", 7)], [_event("end", 7)])
    assert shown == [(7, "running"), (7, "succeeded")]


def test_what_was_over_before_anybody_could_look_is_shown_once() -> None:
    batch = [_event("begin", 7), _event("begin", 8), _event("end", 7)]
    assert _shown(Following(_ALL, ()), batch) == [(8, "running"), (7, "succeeded")]


def test_what_was_shown_to_begin_with_is_not_shown_again_but_for_its_end() -> None:
    begun = [_event("begin", 8), _event("end", 7)]
    batches = [_event("begin", 7), _event("end", 7)], [_event("begin", 8)], [_event("end", 8)]
    assert _shown(Following(_ALL, begun), *batches) == [(8, "succeeded")]


@pytest.mark.parametrize(
    ("wanted", "other"),
    [
        (Wanted(subject="web"), {"subject": "db"}),
        (Wanted(actions=[Action.DEPLOY]), {"action": "evict"}),
        (Wanted(since=datetime(2026, 1, 2, 9, tzinfo=UTC)), {"at": "2026-01-02T08:59:59.999Z"}),
        (Wanted(until=datetime(2026, 1, 2, 10, tzinfo=UTC)), {"at": "2026-01-02T10:00:00.000Z"}),
        (Wanted(commit="abcd"), {"revision": "ffff"}),
        (Wanted(commit="abcd"), {"revision": None}),
    ],
)
def test_only_what_is_wanted_is_followed(wanted: Wanted, other: dict[str, Any]) -> None:
    batch = [_event("end", 1), _event("end", 2, **other)]
    assert _shown(Following(wanted, ()), batch) == [(1, "succeeded")]


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="api-") as name:  # short enough for a socket
        yield Path(name)


def _config(place: Path) -> Config:
    remote = Remote(name="gitea", url="file:///nowhere")
    return Config(host="media", remotes=(remote,), state_dir=place, runtime_dir=place)


def _act(journal: Journal, subject: str) -> None:
    number = journal._begin(Action.DEPLOY, subject, Reason.NEW)
    journal._finish(number, Outcome(subject=subject, status=Status.SUCCEEDED), 1.0)


def test_pages_follow_each_other_without_a_gap(place: Path) -> None:
    with closing(Journal(place / "journal.db")) as journal:
        for number in range(7):
            _act(journal, f"web{number}")
    seen: list[int] = []
    while page := history.newest(_config(place), _ALL, 3, seen[-1] if seen else 0):
        seen += [each["id"] for each in page]
    assert seen == [7, 6, 5, 4, 3, 2, 1]


def test_the_journal_tells_the_same_events_as_the_agent(place: Path) -> None:
    config = _config(place)

    def hear(stream: Iterator[Any]) -> tuple[int, list[Any]]:
        """Where it began, and its first two events."""
        begins, told = next(stream)[0], list[Any]()
        while len(told) < 2:
            told += next(stream)[1]
        return begins, told

    async def work(_: Path, journal: AsyncJournal) -> None:
        async with journal.recording(Action.DEPLOY, "before", Reason.NEW):
            pass
        stream = api_socket.events(place, None)
        assert (
            await anyio.to_thread.run_sync(next, stream) == (2, []) == history.events(config, None)
        )
        async with journal.recording(Action.DEPLOY, "web", Reason.NEW):
            pass
        told = history.events(config, 2)
        assert told[0] == 4
        assert [event["phase"] for event in told[1]] == ["begin", "end"]
        first = await anyio.to_thread.run_sync(hear, itertools.chain([(2, [])], stream))
        again = await anyio.to_thread.run_sync(hear, api_socket.events(place, 2))
        assert first == again == (2, told[1])

    serve(place, work)


def test_where_no_agent_answers_there_is_no_stream(place: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        next(api_socket.events(place, None))

"""An event can be earlier than the engine's listing: no look takes what has ended for running."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from agent.adapters.engine.engine import Engine
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.control.reconcile.listing import Observer
from agent.domain.container import Container
from agent.domain.errors import UnreachableError
from tests.unit.builders import container

APP, DB = container("web-app-1", "web", "app"), container("web-db-1", "web", "db")


class _Late(Engine):
    """One whose listing shows that the app has ended once somebody has inspected it."""

    def __init__(self, state: str = "running") -> None:
        super().__init__("unix:///nowhere")
        self.state = state
        self.asked: list[str] = []
        self.fails = False

    async def containers(self, project: str | None = None) -> tuple[Container, ...]:
        assert project is None
        self.asked.append("list")
        return replace(APP, state=self.state), DB

    async def inspect(self, container_id: str) -> dict[str, Any] | None:
        self.asked.append(container_id)
        if self.fails:
            raise UnreachableError("the engine does not answer")
        self.state = "exited"
        return None


def _look(tmp_path: Path, engine: _Late, *ended: str) -> tuple[Observer, list[str]]:
    observer = Observer(engine, AsyncJournal(Journal(tmp_path / "journal.db")))
    for container_id in ended:
        observer.ended(container_id)
    return observer, [c.state for c in anyio.run(observer.containers)]


def test_what_an_event_says_has_ended_is_waited_for_before_it_is_listed(tmp_path: Path) -> None:
    engine = _Late()
    observer, states = _look(tmp_path, engine, APP.id)
    assert states == ["exited", "running"]
    assert engine.asked == ["list", APP.id, "list"]
    anyio.run(observer.containers)
    assert engine.asked[3:] == ["list"]


@pytest.mark.parametrize("ended", [(), (APP.id,), ("another",)])
def test_a_listing_that_shows_it_already_is_the_only_request(
    tmp_path: Path, ended: tuple[str, ...]
) -> None:
    engine = _Late("exited")
    _look(tmp_path, engine, *ended)
    assert engine.asked == ["list"]


def test_a_look_that_failed_leaves_it_to_the_next(tmp_path: Path) -> None:
    engine = _Late()
    engine.fails = True
    observer = Observer(engine, AsyncJournal(Journal(tmp_path / "journal.db")))
    observer.ended(APP.id)
    with pytest.raises(UnreachableError):
        anyio.run(observer.containers)
    engine.fails = False
    assert [c.state for c in anyio.run(observer.containers)] == ["exited", "running"]


def test_the_age_of_the_events_is_that_of_the_stream_that_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("agent.control.reconcile.listing.time.monotonic", lambda: now[0])
    observer = Observer(_Late(), AsyncJournal(Journal(tmp_path / "journal.db")))
    assert observer.stream_age() is None
    observer.listen(on=True)
    now[0] += 5
    assert observer.stream_age() == 5
    observer.listen(on=True)  # another one, in its place
    assert observer.stream_age() == 0
    observer.listen(on=False)
    assert observer.stream_age() is None

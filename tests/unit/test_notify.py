"""What a target is told over restarts, outages and disks that are full."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from agent.adapters.lru import Lru
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.control.outside import notify
from agent.control.outside.running import Running
from agent.control.status.standing import Standings
from agent.domain.config import Config, Remote
from agent.domain.errors import PermanentError, TransientError
from agent.domain.outcome import Action, Reason
from agent.domain.outside import folding
from agent.domain.outside.texts import Message
from agent.domain.outside_config import Target
from agent.domain.status import held, stack_state, verdict
from agent.domain.status.facts import LastLook
from tests.unit.builders import release
from tests.unit.judged import LOOKED, facts

PHONE = Target(name="phone", url_file=Path("/nowhere"))
Work = Callable[[Running], Awaitable[None]]


class Service:
    """One that takes messages, or not."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.tried = 0
        self.works = True
        self.wrong: Exception = TransientError("the service answers 500")

    async def deliver(self, _: Target, message: Message) -> None:
        self.tried += 1
        if not self.works:
            raise self.wrong
        self.told.append(message.title)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    found = Service()
    monkeypatch.setattr(notify, "deliver", found.deliver)
    monkeypatch.setattr(notify, "AGAIN_S", 0.01)
    monkeypatch.setattr(folding, "GAP_S", 0.01)
    monkeypatch.setattr(folding, "_SHORT", (0.0, 0.0))
    return found


def agent(place: Path, work: Work, *targets: Target) -> None:
    """One that runs until ``work`` is done."""
    remote = Remote(name="gitea", url="file:///nowhere")
    config = Config(host="media", remotes=(remote,), state_dir=place, notify=targets or (PHONE,))

    async def main() -> None:
        journal = AsyncJournal(Journal(place / "journal.db"))
        running = Running(
            config=config, journal=journal, standings=Standings(), words=Lru(1),
            alive=lambda: True, ready=lambda: True, wake=lambda: None,
        )  # fmt: skip
        try:
            with anyio.fail_after(60):
                async with notify.notifying(running):
                    await _ready(journal, config)
                    await work(running)
        finally:
            journal.close()

    anyio.run(main)


async def _ready(journal: AsyncJournal, config: Config) -> None:
    """Each target knows from where on it is told, which its own task writes down."""
    for target in config.notify:
        while await journal.get(f"notify/{target.name}") is None:  # noqa: ASYNC110  the journal says so
            await anyio.sleep(0.01)


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  threads of the journal have to get on
        await anyio.sleep(0.01)


async def fails(running: Running, name: str) -> None:
    """A deploy ends so."""
    with pytest.raises(PermanentError):
        async with running.journal.recording(Action.DEPLOY, name, Reason.CHANGED):
            raise PermanentError("it ended with 1")


def record(place: Path, *names: str) -> None:
    """What was done while nobody told anybody."""

    async def main() -> None:
        journal = AsyncJournal(Journal(place / "journal.db"))
        running: Any = type("Running", (), {"journal": journal})
        for name in names:
            await fails(running, name)
        journal.close()

    anyio.run(main)


def test_the_first_start_tells_no_old_story(tmp_path: Path, service: Service) -> None:
    record(tmp_path, "old")

    async def work(running: Running) -> None:
        await fails(running, "new")
        await _until(lambda: bool(service.told))

    agent(tmp_path, work)
    assert service.told == ["media: new failed"]


def test_what_was_not_told_before_a_restart_is_told_after_it(
    tmp_path: Path, service: Service
) -> None:
    async def nothing(_: Running) -> None:
        pass

    async def told(_: Running) -> None:
        await _until(lambda: bool(service.told))

    agent(tmp_path, nothing)
    record(tmp_path, "late")
    agent(tmp_path, told)
    agent(tmp_path, nothing)
    assert service.told == ["media: late failed"]


def test_who_was_not_wanted_for_long_is_told_no_old_story(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(_: Running) -> None:
        pass

    async def new(running: Running) -> None:
        await fails(running, "new")
        await _until(lambda: bool(service.told))

    agent(tmp_path, nothing)
    record(tmp_path, "old")
    monkeypatch.setattr(notify, "_AWAY_S", -1.0)
    agent(tmp_path, new)
    assert service.told == ["media: new failed"]


@pytest.mark.parametrize(
    "case",
    [
        (TransientError("the service answers 500"), "the service answers 500"),
        (ValueError("of our own"), "unexpected ValueError, see the log"),
    ],
)
def test_a_message_that_nobody_takes_is_given_up_and_said_in_the_log(
    tmp_path: Path,
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    case: tuple[Exception, str],
) -> None:
    service.wrong, said = case
    monkeypatch.setattr(notify, "TRIES", 3)
    caplog.set_level(logging.INFO)
    service.works = False

    async def work(running: Running) -> None:
        await fails(running, "one")
        await _until(lambda: "phone is not told of 1 × failed" in caplog.text)
        assert service.tried == 3
        assert running.trouble.current["notify:phone"].error == said
        service.works = True
        await fails(running, "two")
        await _until(lambda: not running.trouble.current)

    agent(tmp_path, work)
    assert service.told == ["media: two failed"]


def test_a_journal_that_cannot_be_written_silences_nobody(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(running: Running) -> None:
        def full(*_: object) -> None:
            raise TransientError("the journal cannot be written: the disk is full")

        monkeypatch.setattr(Journal, "put", full)
        given = facts([release("web")], look=LastLook(LOOKED, "the disk is full"))
        holds = held.current(given)
        states = stack_state.states(given, holds)
        monkeypatch.setattr(folding, "PATIENCE_S", 0.0)
        running.standings.tell(given, holds, states, verdict.failed("the disk is full"), cycle=1.0)
        await _until(lambda: bool(service.told))

    agent(tmp_path, work)
    assert service.told == ["media: media cannot be kept as declared"]


def test_one_target_that_is_down_delays_no_other(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def deliver(target: Target, message: Message) -> None:
        if target.name == "phone":
            await anyio.sleep_forever()
        service.told.append(message.title)

    monkeypatch.setattr(notify, "deliver", deliver)
    monkeypatch.setattr(notify, "END_S", 0.1)

    async def work(running: Running) -> None:
        await fails(running, "web")
        await _until(lambda: bool(service.told))

    agent(tmp_path, work, PHONE, Target(name="mail", url_file=Path("/nowhere")))
    assert service.told == ["media: web failed"]

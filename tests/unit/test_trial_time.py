"""The time of a trial: it runs while it is the new version's own doing that it is not healthy."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from threading import Thread

import anyio
import pytest

from agent.adapters.host.programs import Programs
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.control.trial import Trial
from agent.domain.config import Config, Docker, Remote
from agent.domain.status.verdict import HostTrouble, State, Verdict, VerdictKind
from agent.domain.upgrade.gate import Before


class _Engine(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        """Nothing of it is to be told."""


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Config]:
    """An engine that answers, and one remote that can be connected to."""
    listens = str(tmp_path / "engine.sock")
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as forge,
        ThreadingUnixStreamServer(listens, _Engine) as engine,
    ):
        Thread(target=engine.serve_forever, daemon=True).start()
        port = forge.getsockname()[1]
        yield Config(
            host="media",
            remotes=(Remote(name="home", url=f"https://127.0.0.1:{port}/x.git"),),
            docker=Docker(socket=f"unix://{listens}"),
        )
        engine.shutdown()


UNKNOWN = Verdict(State.UNKNOWN, "not known: no remote has answered since 2026-01-01")
WRONG = Verdict(State.FAILED, "w", (HostTrouble(VerdictKind.FAILED, "web", "why"),))


@pytest.mark.parametrize(
    ("silent", "verdict", "runs"),
    [
        (set(), UNKNOWN, True),  # it answered the version before
        ({"home"}, UNKNOWN, False),  # a token that has expired, a proxy that refuses
        ({"home"}, WRONG, True),
        ({"home"}, None, True),  # no cycle has ended at all
    ],
)
def test_the_time_does_not_run_for_a_remote_that_did_not_answer_the_version_before(
    tmp_path: Path, config: Config, silent: set[str], verdict: Verdict | None, runs: bool
) -> None:
    async def main() -> None:
        journal = AsyncJournal(Journal(tmp_path / "journal.db"))
        before = Before(silent=frozenset(silent))
        trial = Trial(Programs(tmp_path, "1.1"), config, before)
        if verdict:
            await trial.judged(verdict, journal)
        assert await trial._may_be_judged(journal) is runs
        journal.close()

    anyio.run(main)

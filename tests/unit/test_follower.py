"""Moving a host to a commit, with a real clone and a journal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from agent.adapters.git.repository import Repository
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.adapters.tasks import task_group
from agent.control.source.remote_status import Remotes, recall
from agent.domain.config import Config, Remote
from agent.domain.outcome import Reason
from agent.domain.source.decide import Answer
from tests.unit.git_servers import Origin
from tests.unit.upstream import following

FILES: dict[str, str | bytes] = {"host/media/stacks.yaml": "[]\n"}


class Host:
    """A follower of one remote that is asked by hand."""

    def __init__(self, place: Path, journal: Journal) -> None:
        self.origin = Origin(place / "origin.git")
        self.journal = journal
        remote = Remote(name="gitea", url=self.origin.url)
        self._config = Config(
            host="media", remotes=(remote,), state_dir=place / "state", runtime_dir=place / "run"
        )
        self.repository = Repository.of(self._config)
        self._remotes = Remotes(recall(journal, ["gitea"]), AsyncJournal(journal), place / "run")

    async def sees(self, sha: str) -> tuple[str | None, set[Reason]]:
        """Have the remote show ``sha``; the applied commit then, and why it is no other."""
        self.origin.point(sha)
        self._remotes.tell("gitea", Answer.HEAD, sha=sha, error=None, at="now")
        async with task_group() as group:
            follower = following(
                self._config,
                self.repository,
                self._remotes,
                AsyncJournal(self.journal),
                group=group,
            )
            followed = await follower.follow()
        return await self.repository.applied(), {hold.reason for hold in followed.holds}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "run").mkdir(mode=0o700)
    journal = Journal(tmp_path / "state/journal.db")
    host = Host(tmp_path, journal)
    anyio.run(host.repository.prepare)
    yield host
    journal.close()


def test_a_commit_with_a_link_out_of_the_checkout_is_held(host: Host) -> None:
    first = host.origin.commit(FILES)
    second = host.origin.commit({**FILES, "stacks/a/data": "/etc"}, links=["stacks/a/data"])

    async def main() -> None:
        assert await host.sees(first) == (first, set())
        assert await host.sees(second) == (first, {Reason.TREE})
        assert not (host.repository.root / "stacks/a/data").is_symlink()

    anyio.run(main)

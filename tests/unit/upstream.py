"""A repository on this machine as a remote, and the agent's clone of it, with the real Git."""

from __future__ import annotations

import math
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from agent.adapters.git.repository import Repository
from agent.adapters.git.signatures import Verifier
from agent.control.source.beside import Beside
from agent.control.source.examine import Examiner
from agent.control.source.follower import Follower
from agent.domain.config import Remote
from tests.files import write

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from anyio.abc import TaskGroup

    from agent.adapters.state.async_journal import AsyncJournal
    from agent.control.source.remote_status import Remotes
    from agent.domain.config import Config


def git(where: Path, *words: str | Path, stdin: bytes = b"") -> str:
    """What Git says in ``where``, without the last newline."""
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
    command = ["git", *identity, *map(str, words)]
    said = subprocess.run(command, cwd=where, input=stdin, capture_output=True, check=True)
    return said.stdout.decode().removesuffix("\n")


def do(work: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
    return anyio.run(partial(work, *args, **options))


async def fetched(repository: Repository, remote: Remote, sha: str) -> str:
    """``sha``, which is in the agent's clone then, whatever anybody thinks of it."""
    await repository.incoming.fetch(remote, sha)
    await repository.take_over(sha)
    return sha


def following(
    config: Config,
    repository: Repository,
    remotes: Remotes,
    journal: AsyncJournal,
    *,
    group: TaskGroup,
    patience_s: float = math.inf,
) -> Follower:
    """As the agent puts it together."""
    verifier = Verifier(config.signatures, repository.incoming.commits, config.runtime_dir)
    examiner = Examiner(config, repository, verifier, {}, tuple)
    beside: Beside[Any] = Beside(group, patience_s, lambda _: None)
    return Follower(config, repository, remotes, journal, examiner=examiner, beside=beside)


class Upstream:
    """A person's clone in ``directory`` / upstream; the agent's state is in ``directory`` / state.

    The agent has fetched nothing yet.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "upstream"
        self.path.mkdir()
        git(self.path, "init", "--quiet", "--initial-branch=main")
        self.remote = Remote(name="gitea", url=f"file://{self.path}")
        self.state = directory / "state"
        self.state.mkdir(mode=0o700)
        self.repo = self.state / "repo"
        self.export = self.state / "export"

    def agent(self, declared: str | None = None) -> Repository:
        """The clone of an agent that starts now, whose journal says that this was applied."""
        repository = Repository(self.state, "main", self.state / "askpass")
        do(repository.prepare, declared)
        return repository

    def commit(self, files: Mapping[str, str | bytes | None]) -> str:
        write(self.path, files)
        git(self.path, "add", "--all")
        git(self.path, "commit", "--quiet", "--allow-empty", "--message", "x")
        return git(self.path, "rev-parse", "HEAD")

    def back_to(self, sha: str) -> None:
        git(self.path, "reset", "--quiet", "--hard", sha)

    def fetched(self, files: Mapping[str, str | bytes | None], repository: Repository) -> str:
        """A commit that the agent has fetched."""
        sha = self.commit(files)
        do(fetched, repository, self.remote, sha)
        return sha

    def followed(self, files: Mapping[str, str | bytes | None], repository: Repository) -> str:
        """A commit that the agent has checked out."""
        sha = self.fetched(files, repository)
        assert do(repository.look, sha) == []
        do(repository.reset, sha)
        return sha

    def files(self, root: Path) -> dict[str, bytes]:
        """What is in a work tree."""
        return {
            path.relative_to(root).as_posix(): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file()
        }

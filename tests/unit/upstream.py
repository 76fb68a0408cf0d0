"""A repository on this machine as a remote, and the agent's clone of it, with the real Git."""

from __future__ import annotations

import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from agent.adapters.git.repository import Repository
from agent.domain.config import Remote
from tests.files import write

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping


def git(where: Path, *words: str | Path, stdin: bytes = b"") -> str:
    """What Git says in ``where``, without the last newline."""
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
    command = ["git", *identity, *map(str, words)]
    said = subprocess.run(command, cwd=where, input=stdin, capture_output=True, check=True)
    return said.stdout.decode().removesuffix("\n")


def do(work: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
    return anyio.run(partial(work, *args, **options))


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

    def agent(self) -> Repository:
        """The clone of an agent that starts now."""
        repository = Repository(self.state, "main", self.state / "askpass")
        do(repository.prepare)
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
        assert do(repository.fetch, self.remote, sha) == sha
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

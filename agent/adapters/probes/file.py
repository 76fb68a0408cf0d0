"""The probe of a repository on this machine: Git reads the branch, one short process an ask."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import anyio

from agent.adapters import process
from agent.adapters.git import git
from agent.adapters.probes.base import ASK_S, Probe
from agent.domain.config import Remote
from agent.domain.errors import TransientError, UnreachableError
from agent.domain.source.decide import Answer
from agent.domain.source.git_protocol import RefAnswer

_HEADS = "refs/heads/"
_NO_FETCH = {"GIT_NO_LAZY_FETCH": "1"}
"""The repository's own configuration can name a program to fetch missing objects with."""


class FileProbe(Probe):
    """Asks the directory that a ``file://`` url names, as Git finds the repository in it."""

    def __init__(self, remote: Remote, branch: str) -> None:
        super().__init__(remote, branch)
        self._path = Path(unquote(urlsplit(remote.url).path))

    async def _ask(self) -> RefAnswer:
        directory = await _git_dir(self._path)
        listed = await _run(directory, "for-each-ref", "--format=%(objectname) %(refname)", _HEADS)
        if "not a git repository" in listed.err.decode(errors="replace"):
            raise UnreachableError(f"{self._path} is not a repository")
        if listed.code != 0:
            raise UnreachableError(f"Git cannot read {directory}")
        name = f"{_HEADS}{self.branch}"
        for line in listed.out.splitlines():  # in bytes: the names of others may be Latin-1
            sha, _, other = line.partition(b" ")
            if other == name.encode():
                return RefAnswer(Answer.HEAD, sha.decode())
        # A branch that cannot be read is left out of a listing; asked for it, Git says so.
        complaints = (await _run(directory, "rev-parse", "--verify", "--quiet", name)).err
        if any(line.endswith(f" {name}".encode()) for line in complaints.splitlines()):
            raise UnreachableError(f"{name} in {directory} is broken")
        return RefAnswer(Answer.NO_BRANCH if listed.out else Answer.EMPTY)

    async def _drop(self) -> None:
        """Nothing is kept."""


async def _git_dir(path: Path) -> Path:
    """Where Git would look: a work tree's ``.git``, a bare repository, with or without ``.git``."""
    for suffix in ("/.git", "", ".git/.git", ".git"):
        candidate = anyio.Path(f"{path}{suffix}")
        if await candidate.is_file() or await (candidate / "HEAD").exists():
            return Path(candidate)
    raise UnreachableError(f"{path} is not a repository")


async def _run(directory: Path, *args: str) -> process.Result:
    try:
        environment = git.environment() | _NO_FETCH
        command = git.command(f"--git-dir={directory}", *args)
        return await process.run(command, env=environment, timeout_s=ASK_S)
    except TransientError as err:
        raise UnreachableError(err.message) from None

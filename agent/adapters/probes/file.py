"""The probe of a repository on this machine: reads the branch from its files.

No child process for the usual format of refs (loose files over ``packed-refs``), which has not
changed in fifteen years and takes a tenth of a millisecond to read; the rarer reftable format is
left to Git, which is asked in a child process then.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import anyio
import anyio.to_thread

from agent.adapters import process
from agent.adapters.probes.base import ASK_S, Warm
from agent.domain.config import Remote
from agent.domain.errors import TransientError, UnreachableError
from agent.domain.source.decide import Answer
from agent.domain.source.git_protocol import RefAnswer

_REF_MAX = 4096
_PACKED_MAX = 16 * 1024 * 1024
_HOPS = 5
"""Symbolic refs followed, as many as Git does."""

_OID = re.compile(r"([0-9a-f]{64}|[0-9a-f]{40})(?:\s|$)")
_SYMBOLIC = re.compile(r"ref:\s*(refs/heads/[^\s~^:?*\[\\]+)")
_HEADS = "refs/heads/"


class _ForGitError(Exception):
    """The refs in ``directory`` are kept in a way that only Git should read."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory


class FileProbe(Warm):
    """Asks the directory that a ``file://`` url names, as Git finds the repository in it."""

    def __init__(self, remote: Remote, branch: str) -> None:
        super().__init__(remote, branch)
        self._path = Path(unquote(urlsplit(remote.url).path))
        # A read that hangs, as on a lost network file system, keeps this one thread and no other.
        self._limiter = anyio.CapacityLimiter(1)

    async def _ask(self) -> RefAnswer:
        try:
            return await anyio.to_thread.run_sync(
                read, self._path, self.branch, abandon_on_cancel=True, limiter=self._limiter
            )
        except _ForGitError as err:
            return await by_git(err.directory, self.branch)
        except OSError as err:
            raise UnreachableError(f"{self._path} cannot be read: {err.strerror}") from None

    async def _drop(self) -> None:
        """Nothing is kept."""


def read(path: Path, branch: str) -> RefAnswer:
    """The head of ``branch`` in the repository at ``path``.

    Raises OSError for what the system refuses, UnreachableError for what is no repository.
    """
    directory = _common(_git_dir(path))
    heads = directory / "refs" / "heads"
    if (directory / "reftable").is_dir() or heads.is_file():
        raise _ForGitError(directory)
    name = f"{_HEADS}{branch}"
    for _ in range(_HOPS):
        # Loose before packed: Git packs a ref first and removes its file after.
        content = _content(directory / name, _REF_MAX)
        if content is None:
            break
        if match := _OID.match(content):
            return RefAnswer(Answer.HEAD, match[1])
        symbolic = _SYMBOLIC.match(content)
        if symbolic is None or ".." in symbolic[1]:
            raise UnreachableError(f"{name} in {directory} is broken")
        name = symbolic[1]
    else:
        raise UnreachableError(f"{name} in {directory} leads nowhere")
    packed = dict(_packed(directory))
    if name in packed:
        return RefAnswer(Answer.HEAD, packed[name])
    if any(other.startswith(_HEADS) for other in packed) or _any_file(heads):
        return RefAnswer(Answer.NO_BRANCH)
    return RefAnswer(Answer.EMPTY)


async def by_git(directory: Path, branch: str) -> RefAnswer:
    """The same, told by Git. Raises UnreachableError."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
    }
    listing = ("for-each-ref", "--format=%(objectname) %(refname)", _HEADS)
    try:
        result = await process.run(
            ["git", f"--git-dir={directory}", *listing], env=environment, timeout_s=ASK_S
        )
    except TransientError as err:
        raise UnreachableError(err.message) from None
    if result.code != 0:
        raise UnreachableError(f"Git cannot read {directory}")
    listed = result.out.decode(errors="surrogateescape")  # the names of others may be Latin-1
    found = {name: oid for oid, _, name in (line.partition(" ") for line in listed.splitlines())}
    if sha := found.get(f"{_HEADS}{branch}"):
        return RefAnswer(Answer.HEAD, sha)
    return RefAnswer(Answer.NO_BRANCH if found else Answer.EMPTY)


def _git_dir(path: Path) -> Path:
    """Where Git would look: a work tree's ``.git``, a bare repository, with or without ``.git``."""
    for suffix in ("/.git", "", ".git/.git", ".git"):
        candidate = Path(f"{path}{suffix}")
        if candidate.is_file():  # of a work tree or submodule: says where
            target = (_content(candidate, _REF_MAX) or "").removeprefix("gitdir:").strip()
            candidate = candidate.parent / target
        if (candidate / "HEAD").exists() and _common(candidate).joinpath("objects").is_dir():
            return candidate
    raise UnreachableError(f"{path} is not a repository")


def _common(git_dir: Path) -> Path:
    """Where the branches are: elsewhere for a work tree that shares a repository."""
    elsewhere = _content(git_dir / "commondir", _REF_MAX)
    return git_dir / elsewhere.strip() if elsewhere else git_dir


def _content(path: Path, limit: int) -> str | None:
    """The text of a regular file, or None where there is none."""
    try:
        # Non-blocking, as a pipe put there would otherwise hold the open up.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        info = os.fstat(handle)
        if stat.S_ISDIR(info.st_mode):
            return None
        if not stat.S_ISREG(info.st_mode) or info.st_size > limit:
            raise UnreachableError(f"{path} is not what Git keeps there")
        parts = []
        while part := os.read(handle, limit):
            parts.append(part)
    finally:
        os.close(handle)
    return b"".join(parts).decode(errors="replace")


def _packed(directory: Path) -> Iterator[tuple[str, str]]:
    """Name and object of each packed ref."""
    for line in (_content(directory / "packed-refs", _PACKED_MAX) or "").split("\n"):
        if match := _OID.match(line):
            yield line[match.end() :], match[1]


def _any_file(directory: Path) -> bool:
    def fail(err: OSError) -> None:
        raise err  # what cannot be read is not empty

    return any(
        not name.endswith(".lock")
        for _, _, files in os.walk(directory, onerror=fail)
        for name in files
    )

"""Git as a program: a closed configuration, credentials by file, errors without advice.

Git runs with no hooks, filters, submodules, fsmonitor or foreign config, nothing that a repository
or a user's dot files could bring along, and talks by no protocol but the one that a call names.
Credentials reach it by files that it or ssh opens, never by URL, argument or configuration.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from agent.adapters import process
from agent.adapters.git.session import Session, complaint
from agent.domain.config import Remote
from agent.domain.errors import PermanentError, TransientError, UnreachableError

LOCAL_TIMEOUT_S = 120.0
_TRANSPORTS = {"ssh", "https", "http", "file"}
_UMASK = 0o022
"""Containers that do not run as root mount what is checked out; the state directory is closed."""

_CLOSED = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "core.autocrlf=false",
    "safe.bareRepository=explicit",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=no",
    "transfer.fsckObjects=true",
    "transfer.bundleURI=false",
    "transfer.credentialsInUrl=die",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=20",
    "http.followRedirects=false",
    "credential.helper=",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
)


class Channel(NamedTuple):
    """Both ends of a talk with a remote's ``git upload-pack``: file descriptors of two pipes."""

    read: int
    write: int


class Git:
    """Runs Git on the work tree ``root``, whose history is in ``git_dir`` (``root``'s ``.git``).

    ``index`` is the file in ``git_dir`` that says what Git has put in the work tree, unless it is
    the usual one. Objects are also read in the directory ``objects``.
    """

    def __init__(
        self,
        root: Path,
        askpass: Path,
        *,
        git_dir: Path | None = None,
        index: str | None = None,
        objects: Path | None = None,
    ) -> None:
        self.root = root
        self.dir = git_dir or root / ".git"
        self._askpass = askpass
        self._index = str(self.dir / index) if index else ""
        self._objects = str(objects or "")

    def with_objects(self, more: Path) -> Git:
        """The same for reading: it also knows the objects in the directory ``more``."""
        return Git(self.root, self._askpass, git_dir=self.dir, objects=more)

    async def check(
        self,
        *args: str,
        env: dict[str, str] | None = None,
        stdin: bytes = b"",
        max_output: int = process.MAX_OUTPUT,
        timeout_s: float = LOCAL_TIMEOUT_S,
    ) -> bytes:
        """Run one command that has to succeed; its output. Raises :class:`TransientError`."""
        result = await self.run(
            *args, env=env, stdin=stdin, max_output=max_output, timeout_s=timeout_s
        )
        if result.code != 0:
            raise broken(f"git {args[0]} failed", result)
        return result.out

    async def run(
        self,
        *args: str,
        env: dict[str, str] | None = None,
        stdin: bytes = b"",
        timeout_s: float = LOCAL_TIMEOUT_S,
        max_output: int = process.MAX_OUTPUT,
        max_file: int | None = None,
        pass_fds: Sequence[int] = (),
        nice: int = 0,
        cut: bool = False,
    ) -> process.Result:
        """Run one command; ``env`` adds to Git's environment, an empty value takes out."""
        return await process.run(
            command(*args),
            env={k: v for k, v in {**self._environment(), **(env or {})}.items() if v},
            cwd=self.root,
            stdin=stdin,
            timeout_s=timeout_s,
            max_output=max_output,
            max_file=max_file,
            pass_fds=pass_fds,
            nice=nice,
            cut=cut,
            umask=_UMASK,
        )

    async def holds(self, sha: str) -> bool:
        """Whether this very clone has the commit, and not only what is read beside it."""
        return (await self.run("cat-file", "-e", f"{sha}^{{commit}}")).code == 0

    def session(self, *args: str) -> Session:
        """A Git that answers questions for as long as there are any."""
        env = {k: v for k, v in self._environment().items() if v}
        return Session(args[0], command(*args), env, _UMASK)

    def _environment(self) -> dict[str, str]:
        return environment() | {
            "GIT_DIR": str(self.dir),
            "GIT_WORK_TREE": str(self.root),
            "GIT_INDEX_FILE": self._index,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": self._objects,
        }

    def remote_env(self, remote: Remote) -> dict[str, str]:
        """By which protocol Git asks ``remote``, and with which files it proves who it is."""
        known = remote.scheme in _TRANSPORTS  # ext:: would be a command
        by = {"GIT_ALLOW_PROTOCOL": remote.scheme if known else "none"}
        if remote.scheme == "ssh":
            options = {
                "IdentitiesOnly": "yes",
                "BatchMode": "yes",
                "StrictHostKeyChecking": "yes",
                "UserKnownHostsFile": f'"{remote.known_hosts}"',
                "GlobalKnownHostsFile": "/dev/null",
                "UpdateHostKeys": "no",
                "ConnectTimeout": "10",
                "ServerAliveInterval": "5",
                "ServerAliveCountMax": "3",
            }
            words = ["ssh", "-F", "/dev/null", "-i", str(remote.ssh_key)]
            for key, value in options.items():
                words += ["-o", f"{key}={value}"]
            return by | {"GIT_SSH_COMMAND": shlex.join(words), "GIT_SSH_VARIANT": "ssh"}
        if remote.token_file:
            return by | {
                "GIT_ASKPASS": str(self._askpass),
                "COMMITD_USERNAME": remote.username or "git",
                "COMMITD_TOKEN_FILE": str(remote.token_file),
            }
        return by


def over(channel: Channel) -> dict[str, str]:
    """Have Git talk to an ssh remote over ``channel``, which it inherits, whatever it is called."""
    words = f"cat /dev/fd/{channel.read} 2>/dev/null & exec cat >/dev/fd/{channel.write} #"
    return {"GIT_SSH_COMMAND": words, "GIT_SSH_VARIANT": "ssh"}


def command(*args: str) -> list[str]:
    """Git's command line with the closed configuration."""
    return ["git", *(word for setting in _CLOSED for word in ("-c", setting)), *args]


def environment() -> dict[str, str]:
    """All that Git gets of the agent's environment, and what shuts other configuration out."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        # Stands above every protocol.allow and protocol.NAME.allow; who fetches names another.
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_LFS_SKIP_SMUDGE": "1",
    }


def remote_options(remote: Remote) -> list[str]:
    """Arguments in front of a command that talks to ``remote``."""
    options: list[str] = []
    if remote.scheme == "file":
        options += ["-c", "safe.directory=*"]
    if remote.ca_file:
        options += ["-c", f"http.sslCAInfo={remote.ca_file}"]
    return options


_NO_BRANCH = re.compile(r"couldn't find remote ref")


def fetch_error(remote: Remote, branch: str, stderr: str) -> UnreachableError | PermanentError:
    """What a failed fetch means, in one line of Git's or ssh's own words."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    if _NO_BRANCH.search(stderr):
        return PermanentError(f"{remote.name} has no branch {branch}")
    # The last line but the general advice that Git and ssh append says what happened.
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "ssh:", "remote:"))]
    said = (telling or lines or ["no answer"])[0]
    for known in lines:
        if any(word in known for word in ("Permission denied", "Host key", "refused", "timed out")):
            said = known
            break
    return UnreachableError(f"{remote.name}: {said.removeprefix('fatal: ')[:200]}")


@contextmanager
def on_disk(place: Path) -> Iterator[None]:
    """Work on files below ``place``. Raises :class:`TransientError` where the disk refuses."""
    try:
        yield
    except OSError as err:
        raise TransientError(
            f"the disk refuses: {err.strerror or err}",
            where=str(err.filename or place),
            hint=f"see whether {place} has room and can be written to",
        ) from None


def broken(message: str, result: process.Result) -> TransientError:
    """An unexpected failure of a command on the clone."""
    return TransientError(f"{message}: {complaint(result.err) or f'exit {result.code}'}")

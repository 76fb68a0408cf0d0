"""``docker stack deploy``, and which Docker command line of this machine does it.

What it reads comes by standard input, what it says may quote a secret, and is redacted. Never with
``--prune``: what left a stack is removed by the agent, once what is new is healthy.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import anyio.to_thread

from agent.adapters import process
from agent.domain.compose import redact
from agent.domain.errors import (
    CommitdError,
    MissingError,
    PermanentError,
    TransientError,
    UnreachableError,
)

_PLACES = ("/usr/local/bin", "/usr/bin", "/bin")
_RUNTIME = {"GOGC": "off", "GOMEMLIMIT": "64MiB", "GOMAXPROCS": "1"}
_MEMORY = 192 * 1024**2
_NICE = 10
_MAX_CHARS = 500
_AWAY = re.compile(
    r"is the docker daemon|error during connect|connection refused|reset by peer|EOF|broken pipe",
    re.IGNORECASE,
)
_NEVER = re.compile(r"Unknown mode|Additional property|must be a |unsupported Compose file")
"""It refuses the file, and has changed no service."""
_WORDS = ("--resolve-image", "never", "--compose-file", "-")
_LOGINS = "--with-registry-auth"


class StackDeploy:
    """The program at ``binary``, talking to the engine at ``docker_host``."""

    def __init__(self, binary: Path, docker_host: str, timeout_s: float) -> None:
        self._binary = binary
        self._docker_host = docker_host
        self._timeout_s = timeout_s

    async def deploy(self, stack: str, file: bytes, hidden: Sequence[str], *, logins: bool) -> None:
        """Make the services of the ``stack`` what the ``file`` says; ends before their tasks run.

        With ``logins``, nodes pull by those that this machine has now, also if it has none; else by
        what each service has. Raises :class:`CommitdError` without any of the ``hidden`` texts.
        """
        words = (*((_LOGINS,) if logins else ()), *_WORDS)
        argv = [str(self._binary), "--host", self._docker_host, "stack", "deploy", *words, stack]
        result = await process.run(
            argv,
            env={**_environment(), **_RUNTIME},
            timeout_s=self._timeout_s,
            max_memory=_MEMORY,
            nice=_NICE,
            stdin=file,
        )
        if result.code != 0:
            raise await anyio.to_thread.run_sync(_meaning, result, hidden)


async def find(docker_host: str, timeout_s: float) -> StackDeploy:
    """The Docker command line of this machine. Raises :class:`MissingError` if there is none."""
    binary = await anyio.to_thread.run_sync(_binary)
    if binary is None:
        hint = "install Docker's command line: the package docker-ce-cli or docker-cli"
        raise MissingError("the command docker is not on this machine", hint=hint)
    return StackDeploy(binary, docker_host, timeout_s)


def _binary() -> Path | None:
    found = shutil.which("docker") or shutil.which("docker", path=os.pathsep.join(_PLACES))
    return Path(found) if found else None


def _environment() -> dict[str, str]:
    """What it needs to find the credentials of registries, and the programs that keep them."""
    named = {k: v for k in ("DOCKER_CONFIG", "HOME") if (v := os.environ.get(k))}
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/root", **named}


def _meaning(result: process.Result, hidden: Sequence[str]) -> CommitdError:
    raw = result.err.decode(errors="replace")
    lines = [line.strip() for line in raw.splitlines() if line.strip()]
    said = redact.text(" / ".join(lines[-3:]), hidden)[-_MAX_CHARS:]
    message = said or f"docker stack deploy ended with {result.code}"
    if _NEVER.search(raw):
        hint = "a newer Docker command line on each manager may take it"
        return PermanentError(message, hint=hint)
    return UnreachableError(message) if _AWAY.search(raw) else TransientError(message)

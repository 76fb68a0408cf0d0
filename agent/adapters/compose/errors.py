"""What it means that Compose failed, by what it said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from agent.adapters import process
from agent.domain.compose import redact
from agent.domain.errors import CommitdError, PermanentError, TransientError, UnreachableError
from agent.domain.repository import dotenv

_MAX_CHARS = 500
_INVALID = re.compile(
    r"validating |yaml: |invalid |undefined |is not allowed|required variable|unsupported"
    r"|no such service|no configuration file|env file .* not found|couldn't find env file"
    r"|refers to undefined|has neither an image|circular|conflicts with|unable to parse"
    r"|parsing |unexpected ",
    re.IGNORECASE,
)
_NOT_WELL = re.compile(r"dependency failed to start|didn't complete successfully")
"""A service of the stack that others wait for is at fault."""
_HOOK = re.compile(
    r".*(?:pre_start\[\d+\] exited with code|hook exited with status) (?!137|143)\d+"
)
"""A hook failed by itself; what it has said may follow."""
_KEPT = re.compile(r" \(hook container \w+ retained for inspection\)")
_UNKNOWN_KEY = re.compile(r"'?(pre_start|post_start|pre_stop)'? (?:is )?not allowed")
_KNOWN_FROM = {"pre_start": "5.3", "post_start": "2.30", "pre_stop": "2.30"}
_BUSY = re.compile(
    r"connection refused|timeout|EOF|temporar|i/o|reset by peer|is the docker daemon"
)
_ENV_FILE = re.compile(r"failed to parse env_file (/\S+?): ")
"""One in the raw format."""
_AWAY = re.compile(
    r"is the docker daemon|error during connect|connection refused|reset by peer|EOF|broken pipe"
    r"|closed network connection",
    re.IGNORECASE,
)
"""The engine ended or began anew."""


class HookError(PermanentError):
    """A hook of a service failed; ``words`` is what it has said, as far as that is known.

    ``message`` names the service and the hook.
    """

    def __init__(self, message: str, words: str) -> None:
        super().__init__(message)
        self.words = words


def meaning(result: process.Result, secrets: Sequence[str], *, reading: bool) -> CommitdError:
    """Why Compose failed, without any secret value in it. Blocks.

    Only what was said while ``reading`` the stack's files can be meant for good: a registry or an
    engine in trouble uses the same words ("unexpected", "parsing", "invalid") for what passes.
    """
    raw = result.err.decode(errors="replace")
    if (found := _ENV_FILE.search(raw)) and (fault := _env_file_fault(Path(found[1]))):
        return fault
    if not reading and (hook := _HOOK.search(raw)):
        rest = _KEPT.sub("", raw[hook.end() :]).removeprefix(":")
        words = " / ".join(line.strip() for line in rest.splitlines() if line.strip())
        said = redact.text(hook[0].strip(), secrets)
        return HookError(said, redact.text(words, secrets)[-_MAX_CHARS:])
    lines = [line for line in raw.splitlines() if line.strip() and " level=warning " not in line]
    said = redact.text(" / ".join(lines[-3:]), secrets)[-_MAX_CHARS:]
    message = said or f"Compose ended with {result.code}"
    if not reading and _NOT_WELL.search(raw):
        return PermanentError(message)
    if reading and _INVALID.search(raw) and not _BUSY.search(raw):
        key = _UNKNOWN_KEY.search(raw)
        hint = f"{key[1]}: needs Docker Compose {_KNOWN_FROM[key[1]]} or newer" if key else None
        return PermanentError(message, hint=hint)
    if not reading and _AWAY.search(raw):
        return UnreachableError(message)
    return TransientError(message)


def _env_file_fault(path: Path) -> PermanentError | None:
    """The line of a raw env file that Compose cannot read, and which it would show."""
    with suppress(OSError):
        for line, message, hint in dotenv.raw_faults(path.read_bytes()):
            return PermanentError(message, where=f"{path}:{line}", hint=hint)
    return None

"""What it means that Compose failed, by what it said."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agent.adapters import process
from agent.domain import redact
from agent.domain.errors import CommitdError, PermanentError, TransientError, UnreachableError

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
_BUSY = re.compile(
    r"connection refused|timeout|EOF|temporar|i/o|reset by peer|is the docker daemon"
)
_AWAY = re.compile(
    r"is the docker daemon|error during connect|connection refused|reset by peer|EOF|broken pipe"
    r"|closed network connection",
    re.IGNORECASE,
)
"""The engine ended or began anew."""


def meaning(result: process.Result, secrets: Sequence[str], *, reading: bool) -> CommitdError:
    """Why Compose failed, without any secret value in it.

    Only what was said while ``reading`` the stack's files can be meant for good: a registry or an
    engine in trouble uses the same words ("unexpected", "parsing", "invalid") for what passes.
    """
    raw = result.err.decode(errors="replace")
    lines = [line for line in raw.splitlines() if line.strip() and " level=warning " not in line]
    said = redact.text(" / ".join(lines[-3:]), secrets)[-_MAX_CHARS:]
    message = said or f"Compose ended with {result.code}"
    if not reading and _NOT_WELL.search(raw):
        return PermanentError(message)
    if reading and _INVALID.search(raw) and not _BUSY.search(raw):
        return PermanentError(message)
    if not reading and _AWAY.search(raw):
        return UnreachableError(message)
    return TransientError(message)

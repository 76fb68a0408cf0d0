"""What of a stack's files differs between two commits, for people who may read the repository.

Of a secret it is only told that it changed; a value whose name says that nobody should know it is
masked in every other file, too.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from agent.domain.compose.redact import MASK
from agent.domain.repository.secret_files import is_secret
from agent.domain.sops.heuristics import looks_secret, with_credentials

LARGEST = 64 * 1024
"""Bytes of a file that is compared line by line."""
_MOST_LINES = 2000
_MOST_FILES = 100
_SHOWN_LINES = 400
_LONGEST_LINE = 400
_LONGEST_KEY = 100
_CONTEXT = 3
_PAIR = re.compile(r"(?P<key>\w[\w.-]{0,99})[\"']?\s*[:=]\s*[\"']?(?P<value>[^\s\"',}\]]+)")
"""One of several in a line: ``{NAME: value}``, ``--name=value``."""
_VALUE = re.compile(
    r"^(?P<name>[-+ ]\s*(?:-\s+)?(?:export\s+)?[\"']?(?P<key>[\w.-]+)[\"']?\s*[:=]\s*)"
    r"(?P<value>\S.*)$"
)


class FileChange(Struct, frozen=True, kw_only=True):
    """One file. ``diff`` has lines as ``diff -u`` writes them; None: ``note`` says why not."""

    path: str
    change: str
    diff: str | None = None
    note: str | None = None

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"path": self.path, "change": self.change, "diff": self.diff, "note": self.note}


def paths(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """The paths whose versions differ."""
    names = sorted(before.keys() | after.keys())
    return [path for path in names if before.get(path) != after.get(path)]


def readable(path: str) -> bool:
    """Whether its content may be shown to who may read the repository."""
    return not is_secret(path)


def change(
    path: str, before: bytes | None, after: bytes | None, *, was: bool, becomes: bool
) -> FileChange:
    """The change of one file.

    Contents are None where they are too long, or the file is not there: ``was`` and ``becomes``
    say whether it is.
    """
    kind = "changed" if was and becomes else "added" if becomes else "removed"
    if not readable(path):
        return FileChange(path=path, change=kind, note="a secret: its content is not shown")
    if (was and before is None) or (becomes and after is None):
        return FileChange(path=path, change=kind, note="too long to be compared here")
    if before == after:
        return FileChange(path=path, change=kind, note="only its mode changed")
    try:
        old, new = (before or b"").decode().splitlines(), (after or b"").decode().splitlines()
    except UnicodeDecodeError:
        return FileChange(path=path, change=kind, note="not text")
    if max(len(old), len(new)) > _MOST_LINES:
        return FileChange(path=path, change=kind, note="too long to be compared here")
    lines = list(difflib.unified_diff(old, new, lineterm="", n=_CONTEXT))[2:]
    shown = [_masked(line)[:_LONGEST_LINE] for line in lines[:_SHOWN_LINES]]
    more = len(lines) - len(shown)
    note = f"{more} more lines" if more else None
    return FileChange(path=path, change=kind, diff="\n".join(shown), note=note)


def some(names: list[str]) -> tuple[list[str], int]:
    """Those that are shown, and how many are not."""
    return names[:_MOST_FILES], max(0, len(names) - _MOST_FILES)


def _masked(line: str) -> str:
    found = _VALUE.match(line)
    if found and looks_secret(found["key"][-_LONGEST_KEY:], found["value"].strip("\"'")):
        return found["name"] + MASK
    hides = any(looks_secret(pair["key"], pair["value"]) for pair in _PAIR.finditer(line))
    return line[:1] + MASK if hides or with_credentials(line) else line

"""How the Go runtime of Compose works: a short life, in which it need not collect garbage.

A Compose lives for some hundred milliseconds, of which it spent a third on its garbage and on
threads. What is set is in its environment, where a stack may use the same names for values of its
own (a service written in Go), or pass on what nothing sets: such a stack's Compose runs as Go
itself sees fit, and so does one whose files may hide a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from agent.adapters.compose.invocation import Invocation
from agent.domain.repository import interpolation

SETTINGS = {"GOGC": "off", "GOMEMLIMIT": "64MiB", "GOMAXPROCS": "1"}
"""Above that limit it does collect, so that a large stack has what it needs."""
_NAMES = re.compile("|".join(SETTINGS).encode())
_LARGEST = 1024 * 1024
"""Bytes of a file that are searched; no Compose file is larger."""


def settings(call: Invocation) -> dict[str, str]:
    """What to set where Compose reads the files of ``call``. Blocks."""
    files = [call.file, *call.env_files, *(call.root / path for path, _ in call.stack.inputs)]
    values = (text.encode() for text in (*call.names, *call.hidden))
    named = any(map(_NAMES.search, values)) or any(map(_in_file, dict.fromkeys(files)))
    return {} if named else SETTINGS


def settings_for(text: bytes, names: Iterable[str]) -> dict[str, str]:
    """What to set where Compose reads a model, as ``text``, and variables with these ``names``."""
    named = _NAMES.search(text) or not SETTINGS.keys().isdisjoint(names)
    return {} if named else SETTINGS


def _in_file(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:
        text = file.read(_LARGEST)
        return _NAMES.search(text) is not None or interpolation.hides_names(str(path), text)
    return False

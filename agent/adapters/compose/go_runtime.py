"""How the Go runtime of Compose works: a short life, in which it need not collect garbage.

A Compose lives for some hundred milliseconds, of which it spent a third on its garbage and on
threads. What is set is in its environment, where a stack may use the same names for values of its
own (a service written in Go): such a stack's Compose runs as Go itself sees fit.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from agent.adapters.compose.invocation import Invocation

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


def _in_file(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:
        return _NAMES.search(file.read(_LARGEST)) is not None
    return False

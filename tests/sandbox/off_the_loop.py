"""Catches an agent that waits for a disk on its event loop, where everything else waits with it.

What is caught is written to a file in the home directory, with the place, and fails the test.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
import traceback
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")
_FILE = "waited-on-the-loop"


def _watched(call: Callable[..., _Result]) -> Callable[..., _Result]:
    @wraps(call)
    def watched(*args: Any, **kwargs: Any) -> _Result:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            stack = traceback.extract_stack(limit=12)[:-1]
            with Path("~", _FILE).expanduser().open("a") as file:
                file.write("".join(traceback.format_list(stack)) + "\n")
        return call(*args, **kwargs)

    return watched


class _Connection(sqlite3.Connection):
    execute = _watched(sqlite3.Connection.execute)
    executemany = _watched(sqlite3.Connection.executemany)
    close = _watched(sqlite3.Connection.close)


def watch() -> None:
    """From now on, in this process."""
    vars(sqlite3)["connect"] = partial(sqlite3.connect, factory=_Connection)
    os.fsync = _watched(os.fsync)
    time.sleep = _watched(time.sleep)


def caught() -> str:
    """What was caught since the last call."""
    file = Path("~", _FILE).expanduser()
    if not file.exists():
        return ""
    found = file.read_text()
    file.unlink()
    return found

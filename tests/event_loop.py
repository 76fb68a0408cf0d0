"""What the agent must not do to its event loop: hold it up, and leave tasks in it at the end.

Where everything else waits with a call for a disk, Blockbuster raises an error. That, and each task
that is left, is also written to a file in the home directory: an agent may go on after an error.
"""

from __future__ import annotations

import asyncio
import asyncio.runners
import functools
import inspect
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blockbuster import BlockBuster, BlockingError, blockbuster
from blockbuster.blockbuster import BlockBusterFunction

if TYPE_CHECKING:
    from collections.abc import Callable

_FILE = "blocked-the-loop"
_TESTS = str(Path(__file__).parent)
_WAITS = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_MORE = (
    "builtins.open",
    "fcntl.flock",
    "io.open",
    "os.chmod",
    "os.chown",
    "os.fdatasync",
    "os.fsync",
    "os.lstat",
    "os.open",
    "os.scandir",
    "sqlite3.Connection.close",
    "sqlite3.connect",
    "subprocess.Popen",
)
"""Beside those that Blockbuster knows."""
_MAY_BLOCK = (
    ("logging/__init__.py", {"emit"}),
    ("<frozen importlib._bootstrap>", {"_find_and_load"}),
    ("linecache.py", {"checkcache", "updatecache"}),  # of a traceback that is logged
    ("asyncio/base_events.py", {"subprocess_exec"}),
    ("agent/adapters/memory_file.py", {"holding"}),  # no disk is behind it
    ("agent/adapters/host/systemd.py", {"notify"}),  # systemd reads at once
    ("agent/adapters/state/database.py", {"__del__"}),  # the collector comes when it likes
    # Of verbs, where nothing else waits; for the API they run in a loop of their own, too:
    ("agent/control/operator/orders.py", {"approve", "resume"}),
    ("agent/control/release/preview.py", {"__init__"}),
    ("agent/control/review/plan_view.py", {"of_commit", "planned"}),
    ("agent/control/status/why.py", {"document"}),
)


def _note(text: str) -> None:
    with Path("~", _FILE).expanduser().open("a") as file:
        file.write(f"{text}\n")


class _NotedError(BlockingError):
    def __init__(self, function: str) -> None:
        super().__init__(function)
        stack = traceback.format_list(traceback.extract_stack(limit=16)[:-2])
        _note(f"{self}\n{''.join(stack)}")


@functools.cache
def forbidden() -> BlockBuster:
    """To be activated: from then on no code of the agent blocks a loop of this process."""
    vars(blockbuster)["BlockingError"] = _NotedError
    found = BlockBuster("agent")
    del found.functions["os.path.abspath"]  # of absolute paths: asks nobody
    for name in _MORE:
        found.functions[name] = BlockBusterFunction(None, name, scanned_modules="agent")
    for function in found.functions.values():
        function.can_block_predicate = functools.partial(_may, function.can_block_predicate)
        for file, names in _MAY_BLOCK:
            function.can_block_in(file, names)
    return found


def _may(also: Callable[..., bool], *args: Any, **kwargs: Any) -> bool:
    """What a test itself calls; else the innermost task or part of one is the agent's."""
    frame = inspect.currentframe()
    while frame and not frame.f_code.co_flags & _WAITS:
        frame = frame.f_back
    return (frame is not None and _TESTS in frame.f_code.co_filename) or also(*args, **kwargs)


def watch() -> None:
    """From now on, in this process, whose loop is the only one."""
    forbidden().activate()
    cancel = vars(asyncio.runners)["_cancel_all_tasks"]

    def noted(loop: asyncio.AbstractEventLoop) -> None:
        for task in asyncio.all_tasks(loop):
            _note(f"a task is left: {task}")
        cancel(loop)

    vars(asyncio.runners)["_cancel_all_tasks"] = noted


def caught() -> str:
    """What was caught since the last call."""
    file = Path("~", _FILE).expanduser()
    if not file.exists():
        return ""
    found = file.read_text()
    file.unlink()
    return found

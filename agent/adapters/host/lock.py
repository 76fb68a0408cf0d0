"""One agent for one state directory: a lock that ends with the process."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from agent.domain.config import Config
from agent.domain.errors import DeniedError, HeldError


@contextmanager
def only_agent(config: Config) -> Iterator[None]:
    """Hold the host's lock. Raises :class:`HeldError` when another agent has it."""
    path = config.state_dir / "lock"
    with path.open("a+") as file:
        try:
            _lock(file.fileno())
        except BlockingIOError:
            file.seek(0)
            raise HeldError(
                f"another agent works on this host (process {file.read().strip() or 'unknown'})",
                where=str(path),
                hint="commitd sync has it look now; systemctl stop commitd, to take its place",
            ) from None
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield
        file.seek(0)
        file.truncate()


def _lock(handle: int) -> None:
    """Take the lock; a moment's patience, for ``running_agent`` holds it while it looks."""
    for _ in range(9):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        else:
            return
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def running_agent(config: Config) -> int | None:
    """The process ID of the agent that holds the lock, or None."""
    try:
        with (config.state_dir / "lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = file.read().strip()
                return int(text) if text.isdigit() else None
    except FileNotFoundError:
        pass
    except PermissionError:
        raise DeniedError(
            "this user may not see whether the agent runs", where=str(config.state_dir)
        ) from None
    return None

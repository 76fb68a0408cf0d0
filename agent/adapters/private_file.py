"""Files that only their owner may read: whole or not there, and never written over by accident."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from itertools import count
from pathlib import Path


def make(path: Path, content: str) -> None:
    """Put a new file there, and its directory if that is missing.

    Raises :class:`FileExistsError` where something is there already, :class:`OSError`.
    """
    temporary = _written(path, content)
    try:
        # A link, unlike a rename, never takes the place of what somebody else made now.
        os.link(temporary, path)
    finally:
        temporary.unlink()
    _keep_names(path.parent)


def replace(path: Path, content: str, mode: int = 0o600) -> None:
    """Put the file there in the place of another, at once. Raises :class:`OSError`."""
    temporary = _written(path, content)
    try:
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    _keep_names(path.parent)


def set_aside(path: Path, whose: str, ends: Sequence[str] = ()) -> Path:
    """Give the file another name, ``PATH.of-WHOSE``, that nothing has; that name.

    Files beside it that are called as it is, with one of ``ends`` behind, go before it and keep
    that end. Raises :class:`OSError`.
    """
    names = (f"{path.name}.of-{whose}{f'-{n}' if n > 1 else ''}" for n in count(1))
    other = next(p for name in names if not os.path.lexists(p := path.with_name(name)))
    for end in (*ends, ""):
        with suppress(FileNotFoundError) if end else nullcontext():
            path.with_name(path.name + end).rename(other.with_name(other.name + end))
    _keep_names(path.parent)
    return other


def _written(path: Path, content: str) -> Path:
    """A temporary file beside ``path``, on the disk with all it holds."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(temporary, flags, 0o600), "w") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _keep_names(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

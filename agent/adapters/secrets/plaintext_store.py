"""Decrypted files beside their ciphertext: 0600, whole or not at all, never through a symlink.

With a ``runtime`` directory (on a tmpfs) the plaintext is there, and beside the ciphertext stands a
symlink to it. Only that very link is ours; whatever else is in its place is replaced, not followed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from agent.domain.errors import PermanentError

Owner = tuple[int, int]
"""Numeric user and group."""

_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
"""A directory on the way that is missing, a file or a symlink: nothing of ours is behind it."""
_MODE = 0o600
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class PlaintextStore:
    """Files below ``root``, the checkout, named by paths relative to it. All methods block.

    ``runtime`` is where they are when they are ``volatile``, and where they may be left from when
    they were. An owner that is None is the agent's own user.
    """

    def __init__(self, root: Path, runtime: Path, *, volatile: bool = False) -> None:
        self.root = root
        self._runtime = runtime
        self._volatile = volatile

    @property
    def _base(self) -> Path:
        return self._runtime if self._volatile else self.root

    def present(self, path: str, owner: Owner | None = None) -> bool:
        """Whether the file is there; its mode and its owner are put right."""
        try:
            with ExitStack() as stack:
                directory, name = _enter(self._base, path, stack)
                handle = os.open(name, _READ, dir_fd=directory)
                stack.callback(os.close, handle)
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    return False
                _give(handle, owner)
                return not self._volatile or self._linked(path, stack)
        except OSError:
            return False

    def read(self, path: str) -> bytes:
        """The bytes; raises OSError."""
        with ExitStack() as stack:
            directory, name = _enter(self._base, path, stack)
            with os.fdopen(os.open(name, _READ, dir_fd=directory), "rb") as file:
                return file.read()

    def write(self, path: str, content: bytes, owner: Owner | None = None) -> None:
        """Put ``content`` there, durably: temporary file, fsync, rename, fsync of the directory.

        Raises :class:`PermanentError` when a directory on the way is a symlink or missing, OSError
        when the disk refuses; the old file then stays as it was.
        """

        def create(name: str, directory: int) -> None:
            with os.fdopen(os.open(name, _CREATE, _MODE, dir_fd=directory), "wb") as file:
                _give(file.fileno(), owner)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())

        def link(name: str, directory: int) -> None:
            os.symlink(self._runtime / path, name, dir_fd=directory)

        with ExitStack() as stack:
            try:
                beside = _enter(self.root, path, stack)
            except OSError as err:
                raise PermanentError(
                    f"the plaintext cannot be written: {err.strerror}", where=path
                ) from None
            if self._volatile:
                _replace(*_enter(self._runtime, path, stack, make=True), create)
                if not self._linked(path, stack):
                    _replace(*beside, link)
            else:
                _replace(*beside, create)
                _delete(self._runtime, path)

    def delete(self, path: str) -> None:
        """Remove the file if it is there. Raises OSError when it stays."""
        _delete(self._runtime, path)
        _delete(self.root, path)

    def _linked(self, path: str, stack: ExitStack) -> bool:
        """Whether beside the ciphertext there is our link."""
        directory, name = _enter(self.root, path, stack)
        try:
            return os.readlink(name, dir_fd=directory) == str(self._runtime / path)
        except OSError:
            return False


def _give(handle: int, owner: Owner | None) -> None:
    """Have the file belong to ``owner`` and be readable by nobody else."""
    info = os.fstat(handle)
    if stat.S_IMODE(info.st_mode) != _MODE:
        os.fchmod(handle, _MODE)
    wanted = owner or (os.geteuid(), os.getegid())
    if (info.st_uid, info.st_gid) != wanted:
        os.fchown(handle, *wanted)


def _replace(directory: int, name: str, create: Callable[[str, int], None]) -> None:
    """Put what ``create`` makes in the place of ``name``, at once."""
    # Always the same name: what a killed agent left of it goes here or with the file itself.
    temporary = _temporary(name)
    with suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=directory)
    try:
        create(temporary, directory)
        try:
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        except IsADirectoryError:
            # The engine makes one where a file that it is to mount is missing.
            os.rmdir(name, dir_fd=directory)
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=directory)
        raise
    os.fsync(directory)


def _delete(base: Path, path: str) -> None:
    with ExitStack() as stack:
        try:
            directory, name = _enter(base, path, stack)
        except OSError as err:
            if err.errno not in _GONE:
                raise
            return
        for each in (_temporary(name), name):
            try:
                os.unlink(each, dir_fd=directory)
            except FileNotFoundError:
                continue
            except IsADirectoryError:
                with suppress(OSError):  # with something in it, it is not the engine's, nor ours
                    os.rmdir(each, dir_fd=directory)


def _temporary(name: str) -> str:
    return f"{name}.tmp"


def _enter(base: Path, path: str, stack: ExitStack, *, make: bool = False) -> tuple[int, str]:
    """Open the directory of ``path`` step by step; its descriptor and the file's name.

    Only with ``make`` missing ones are made, closed to others.
    """
    *steps, name = path.split("/")
    if make:
        base.mkdir(mode=0o700, exist_ok=True)
    here = os.open(base, _DIRECTORY)
    stack.callback(os.close, here)
    for step in steps:
        if make:
            with suppress(FileExistsError):
                os.mkdir(step, 0o700, dir_fd=here)
        here = os.open(step, _DIRECTORY, dir_fd=here)
        stack.callback(os.close, here)
    return here, name

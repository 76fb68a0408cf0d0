"""Decrypted files beside their ciphertext: 0600, whole or not at all, never through a symlink."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import ExitStack
from pathlib import Path

from agent.domain.errors import PermanentError

_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
"""A directory on the way that is missing, a file or a symlink: nothing of ours is behind it."""


class PlaintextStore:
    """Files below ``root``, named by paths relative to it. All methods block."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def exists(self, path: str) -> bool:
        """Whether a regular file is there."""
        try:
            with ExitStack() as stack:
                directory, name = self._enter(path, stack)
                info = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except OSError:
            return False
        return stat.S_ISREG(info.st_mode)

    def read(self, path: str) -> bytes:
        """The bytes; raises OSError."""
        with ExitStack() as stack:
            directory, name = self._enter(path, stack)
            handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            with os.fdopen(handle, "rb") as file:
                return file.read()

    def write(self, path: str, content: bytes) -> None:
        """Put ``content`` there, durably: temporary file, fsync, rename, fsync of the directory.

        Raises :class:`PermanentError` when a directory on the way is a symlink or missing, OSError
        when the disk refuses; the old file then stays as it was.
        """
        with ExitStack() as stack:
            try:
                directory, name = self._enter(path, stack)
            except OSError as err:
                raise PermanentError(
                    f"the plaintext cannot be written: {err.strerror}", where=path
                ) from None
            temporary = f"{name}.{secrets.token_hex(6)}.tmp"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            handle = os.open(temporary, flags, 0o600, dir_fd=directory)
            try:
                with os.fdopen(handle, "wb") as file:
                    os.fchmod(file.fileno(), 0o600)
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                os.unlink(temporary, dir_fd=directory)
                raise
            os.fsync(directory)

    def delete(self, path: str) -> None:
        """Remove the file if it is there. Raises OSError when it stays."""
        with ExitStack() as stack:
            try:
                directory, name = self._enter(path, stack)
                os.unlink(name, dir_fd=directory)
            except OSError as err:
                if err.errno not in _GONE:
                    raise

    def _enter(self, path: str, stack: ExitStack) -> tuple[int, str]:
        """Open the directory of ``path`` step by step; its descriptor and the file's name."""
        *steps, name = path.split("/")
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        here = os.open(self._root, flags)
        stack.callback(os.close, here)
        for step in steps:
            here = os.open(step, flags, dir_fd=here)
            stack.callback(os.close, here)
        return here, name

"""A file in memory for a child process: it has no path, and can be read again from its start.

A pipe can be read once. SOPS opens the file of its age key once for each recipient of a file, so a
pipe is empty when it comes to the second.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from agent.domain.errors import TransientError

_NOEXEC_SEAL = 0x8
"""``MFD_NOEXEC_SEAL``: ``vm.memfd_noexec=2`` demands it, and Linux before 6.3 refuses it."""
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


@contextmanager
def holding(content: bytes) -> Iterator[int]:
    """A descriptor of a read-only file with ``content``, mode 0600, at its first byte.

    It is for the standard input of a child, or for ``pass_fds``: children that open :func:`path` of
    it read at their own pace. Raises :class:`TransientError` when the kernel has no memory for it.
    """
    try:
        handle = create()
    except OSError as err:
        raise TransientError(f"the kernel gives no file in memory: {err.strerror}") from None
    try:
        os.fchmod(handle, 0o600)
        view = memoryview(content)
        while view:
            view = view[os.write(handle, view) :]
        os.lseek(handle, 0, os.SEEK_SET)
        fcntl.fcntl(handle, fcntl.F_ADD_SEALS, _SEALS)
        yield handle
    finally:
        os.close(handle)


@contextmanager
def several(contents: Iterable[bytes]) -> Iterator[dict[int, str]]:
    """Descriptors of such files, each with its :func:`path`, in order."""
    with ExitStack() as held:
        handles = [held.enter_context(holding(content)) for content in contents]
        yield {handle: path(handle) for handle in handles}


def path(handle: int) -> str:
    """How a child that has ``handle`` opens the file anew, from its first byte."""
    return f"/proc/self/fd/{handle}"


def create() -> int:
    """The descriptor of an empty one that can be written to, for nobody else. Raises OSError."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create("commitd", flags | _NOEXEC_SEAL)
    except OSError as err:
        if err.errno != errno.EINVAL:
            raise
    return os.memfd_create("commitd", flags)

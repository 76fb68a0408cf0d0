"""The checkout, a tree in which containers can write: looked at without trust in what is there.

Nothing here follows a link that is not Git's, waits for a FIFO or a device, or reads without end.
All functions block and belong into a thread.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path, PurePosixPath

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_MOST_LINKS = 40
"""As many as the kernel follows."""


def enter(base: Path, path: str, held: ExitStack, *, make: bool = False) -> tuple[int, str]:
    """Open the directory of ``path`` step by step; its descriptor and the file's name.

    Only with ``make`` missing ones are made, closed to others. Raises OSError.
    """
    *steps, name = path.split("/")
    if make:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
    here = os.open(base, _DIRECTORY)
    held.callback(os.close, here)
    for step in steps:
        if make:
            with suppress(FileExistsError):
                os.mkdir(step, 0o700, dir_fd=here)
        here = os.open(step, _DIRECTORY, dir_fd=here)
        held.callback(os.close, here)
    return here, name


def open_regular(name: str, directory: int, held: ExitStack) -> int:
    """The descriptor of a regular file, for reading. Raises OSError, also for anything else."""
    handle = os.open(name, _READ, dir_fd=directory)
    held.callback(os.close, handle)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", name)
    return handle


def read(handle: int, limit: int) -> bytes:
    """At most ``limit`` bytes of a file, from its beginning. Raises OSError."""
    parts: list[bytes] = []
    at = 0
    while at < limit and (part := os.pread(handle, limit - at, at)):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def foreign_link(
    checkout: Path, root: Path, path: str, ours: Callable[[str], str | None] = lambda _: None
) -> str | None:
    """The first link on the way along ``path`` that is not Git's; None: there is none.

    Paths are relative to ``checkout``, of which ``root`` is the copy in which nobody writes.
    ``ours`` is where a link of the agent's own at a path leads. Raises OSError.
    """
    steps, here = list(reversed(PurePosixPath(path).parts)), PurePosixPath()
    links = 0
    while steps:
        step = steps.pop()
        if step == "..":
            here = here.parent
            continue
        here /= step
        try:
            target = os.readlink(checkout / here)  # noqa: PTH115  as it is written
        except OSError as err:
            if err.errno == errno.EINVAL:
                continue
            if err.errno in {errno.ENOENT, errno.ENOTDIR}:
                return None
            raise
        if target == ours(str(here)):
            return None
        links += 1
        if links > _MOST_LINKS or target != _target(root / here):
            return str(here)
        steps += reversed(PurePosixPath(target).parts)
        here = here.parent
    return None


def foreign_link_to(
    checkout: Path, root: Path, source: str, ours: Callable[[str], str | None] = lambda _: None
) -> str | None:
    """The same on the way to ``source``, an absolute path; None also for one outside of it."""
    if root == checkout:
        return None
    for place in (f"{checkout}/", f"{os.path.realpath(checkout)}/"):
        if source.startswith(place):
            return foreign_link(checkout, root, source.removeprefix(place), ours)
    return None


def _target(link: Path) -> str | None:
    try:
        return os.readlink(link)  # noqa: PTH115
    except OSError:
        return None

"""What files and file systems of this machine look like, for who only looks. All of it blocks."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

from agent.domain.doctor.disk import Space
from agent.domain.doctor.files import File, Missing


def file(path: Path, *, directory: bool = False) -> File | Missing:
    """The file that is found there, through links, and the directory that it is in.

    Raises :class:`OSError` where the disk does not tell.
    """
    try:
        found = path.stat()
        real = Path(os.path.realpath(path))
        parent = real.parent.stat()
    except PermissionError:
        return Missing.DENIED
    except (FileNotFoundError, NotADirectoryError):
        return Missing.ABSENT
    if not (stat.S_ISDIR if directory else stat.S_ISREG)(found.st_mode):
        return Missing.NOT_A_FILE
    return File(
        path=str(path),
        mode=found.st_mode,
        owner=found.st_uid,
        parent=str(real.parent),
        parent_mode=parent.st_mode,
        parent_owner=parent.st_uid,
    )


def space(path: Path) -> Space:
    """The file system that holds ``path``, or will. Raises :class:`OSError`."""
    there = next(p for p in (path, *path.parents) if os.path.lexists(p))
    seen = os.statvfs(there)
    return Space(
        size=seen.f_blocks * seen.f_frsize,
        free=seen.f_bfree * seen.f_frsize,
        files=seen.f_files,
        free_files=seen.f_ffree,
        read_only=bool(seen.f_flag & os.ST_RDONLY),
    )


def began(process: int) -> float | None:
    """When it began, in seconds since the epoch; None: it cannot be seen.

    By the kernel's own clock: the time of boot that ``/proc/stat`` tells is that of the container,
    where this machine is one, and processes count from that of the kernel.
    """
    try:
        ticks = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age_s


def changed(directory: Path) -> float:
    """When a file of a program came to lie there last, in seconds since the epoch.

    By the inode: packages keep the time at which a file was made. Raises :class:`OSError`.
    """
    return max(path.lstat().st_ctime for path in directory.rglob("*.py"))


def passable(directory: Path) -> bool:
    """Whether this user may pass through the directory, as to a socket in it, if it is there."""
    return os.access(directory, os.X_OK) or not os.path.lexists(directory)

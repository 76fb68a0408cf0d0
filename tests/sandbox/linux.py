"""The three system calls that make a private world and that Python 3.11 does not offer."""

from __future__ import annotations

import ctypes
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags` (CLONE_NEW*); a new PID namespace is for children."""
    _check(_libc.unshare(flags), "unshare")


def in_network_of(pid: int, call: Callable[[], T]) -> T:
    """Call in the network namespace of this process, in which a socket that is made there stays.

    That is in a thread of its own; all others stay where they are.
    """

    def enter_and_call() -> T:
        with Path(f"/proc/{pid}/ns/net").open("rb") as namespace:
            _check(_libc.setns(namespace.fileno(), CLONE_NEWNET), "setns")
        return call()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(enter_and_call).result()


def die_with_parent() -> None:
    """Have the kernel send this process SIGKILL as soon as its parent is gone, however it went."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def mount(
    source: str | Path, target: str | Path, kind: str = "", *, flags: int = 0, options: str = ""
) -> None:
    """mount(2); `kind` is the file system type, `options` its comma-separated settings."""
    words = (str(source).encode(), str(target).encode(), kind.encode())
    _check(
        _libc.mount(*words, ctypes.c_ulong(flags), options.encode()),
        f"mount {kind or 'bind'} {source} on {target}",
    )


def unmount(target: str | Path) -> None:
    """Take a mount out of this namespace now; the kernel lets it go when nothing uses it."""
    _check(_libc.umount2(str(target).encode(), MNT_DETACH), f"umount {target}")


def unmount_below(directory: Path) -> None:
    """Take everything that is mounted on or below `directory` out of this namespace."""
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for target in reversed(mounted):
        if Path(target).is_relative_to(directory):
            unmount(target)

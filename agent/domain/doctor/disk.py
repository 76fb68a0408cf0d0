"""Whether a directory of the host has room, in bytes and in files."""

from __future__ import annotations

from msgspec import Struct

from agent.domain.doctor.finding import Code, Finding, ok, problem, warning

_MIB = 1024**2
_LEAST, _LOW = 256 * _MIB, 2048 * _MIB
"""Below the first nothing can be pulled, decrypted or written down for long."""
_LEAST_FILES, _LOW_FILES = 1_000, 20_000
_LOW_SHARE = 0.1
"""Of a small disk, less than the above is no trouble before it is also this part of it."""


class Space(Struct, frozen=True, kw_only=True):
    """A file system as root finds it. ``files`` 0: it has no limit of its own. ``read_only``: it
    is mounted so, by whoever mounted it or by the kernel after an error of the disk.
    """

    size: int
    free: int
    files: int
    free_files: int
    read_only: bool = False


def space(what: str, path: str, seen: Space) -> Finding:
    """Room for data; ``what`` names what is there."""
    if seen.read_only:
        remedy = f"findmnt -T {path} shows how; dmesg, whether its disk has failed"
        return problem(Code.SPACE, f"{what} ({path}) is mounted read-only", remedy)
    said = f"{what} ({path}) has {_size(seen.free)} free of {_size(seen.size)}"
    if seen.free < _LEAST:
        return problem(Code.SPACE, said, _remedy(path))
    if seen.free < _LOW and seen.free < seen.size * _LOW_SHARE:
        return warning(Code.SPACE, said, _remedy(path))
    return ok(Code.SPACE, said)


def inodes(what: str, path: str, seen: Space) -> Finding:
    """Room for files."""
    if seen.files == 0:
        return ok(Code.INODES, f"{what} ({path}) has no limit of files")
    said = f"{what} ({path}) has room for {seen.free_files:,} files of {seen.files:,}"
    few = seen.free_files < seen.files * _LOW_SHARE
    if seen.free_files < _LEAST_FILES:
        return problem(Code.INODES, said, _remedy(path, inodes=True))
    if seen.free_files < _LOW_FILES and few:
        return warning(Code.INODES, said, _remedy(path, inodes=True))
    return ok(Code.INODES, said)


def _remedy(path: str, *, inodes: bool = False) -> str:
    shown = f"du {'--inodes' if inodes else '-h'} -xd1 {path} | sort {'-n' if inodes else '-h'}"
    return f"see what takes it: {shown}; what Docker keeps: docker system df"


def _size(size: int) -> str:
    if size >= 10 * 1024 * _MIB:
        return f"{size / 1024**3:.0f} GiB"
    if size >= 1024 * _MIB:
        return f"{size / 1024**3:.1f} GiB"
    return f"{size // _MIB} MiB"

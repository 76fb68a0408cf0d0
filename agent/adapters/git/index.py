"""What Git's index says, read without Git: what it has put in a work tree, and how it looked then.

    header, entries (sorted by path), extensions, checksum      gitformat-index(5), versions 2 and 3

By the times, the inode and the size of an entry a file is known as untouched without being read, as
Git itself does it; one that was written in the same second as the index is read all the same. Git
alone writes it. All functions block.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct

from agent.domain.errors import TransientError
from agent.domain.repository import checkout_safety
from agent.domain.repository.tree import EXECUTABLE, PLAIN, SYMLINK, Tree

_HEADER = struct.Struct(">4sLL")
_ENTRY = struct.Struct(">10L20sH")
_EXTENSION = struct.Struct(">4sL")
_CHECKSUM = 20
_VERSIONS = (2, 3)
_LONGER = 0x4000
"""In an entry's flags: there are two more bytes of them."""
_STAGE = 0x3000
_BITS = 0xFFFFFFFF
"""Of a size, an inode and the like Git keeps the lowest 32 bits."""


class Entry(Struct, frozen=True):
    """One file: its mode as a tree has it, its object, and what ``lstat`` said of it then."""

    mode: str
    oid: str
    seen: tuple[int, ...]
    written_s: int


Index = Mapping[str, Entry]


class Read(Struct, frozen=True):
    """The entries by path; ``at_s`` is when the file was written, in seconds since 1970."""

    entries: Index
    at_s: int


def read(path: Path) -> Read:
    """The index in the file ``path``; one that is not there is empty.

    Raises :class:`TransientError` for what cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read()
            at_s = int(os.fstat(file.fileno()).st_mtime)
    except FileNotFoundError:
        return Read({}, 0)
    except OSError as err:
        raise TransientError(
            f"Git's index cannot be read: {err.strerror}", where=str(path)
        ) from None
    try:
        return Read(_parsed(content), at_s)
    except (struct.error, ValueError, IndexError) as err:
        raise TransientError(f"Git's index is damaged: {err}", where=str(path)) from None


def _parsed(content: bytes) -> dict[str, Entry]:
    body, checksum = content[:-_CHECKSUM], content[-_CHECKSUM:]
    if hashlib.sha1(body, usedforsecurity=False).digest() != checksum and any(checksum):
        raise ValueError("its checksum is wrong")
    kind, version, count = _HEADER.unpack_from(body)
    if kind != b"DIRC" or version not in _VERSIONS:
        raise ValueError(f"its version {version} is unknown")
    found: dict[str, Entry] = {}
    at = _HEADER.size
    for _ in range(count):
        (*seen, oid, flags) = _ENTRY.unpack_from(body, at)
        if flags & _STAGE:
            raise ValueError("a merge is under way")
        name_at = at + _ENTRY.size + (2 if flags & _LONGER else 0)
        end = body.index(b"\0", name_at)
        mode = f"{seen[6]:o}"
        path = body[name_at:end].decode(errors="replace")
        found[path] = Entry(mode, oid.hex(), tuple(seen), seen[2])
        at += (end - at) // 8 * 8 + 8
    while at < len(body):
        name, size = _EXTENSION.unpack_from(body, at)
        if name[:1].islower():  # who does not know it must not read on
            raise ValueError(f"its extension {name!r} is unknown")
        at += _EXTENSION.size + size
    return found


def differing(index: Index, tree: Tree) -> set[str]:
    """Paths that are in one of them alone, or not the same in both."""
    return {
        path
        for path in index.keys() | tree.keys()
        if path not in index
        or path not in tree
        or (index[path].mode, index[path].oid) != (tree[path].mode, tree[path].oid)
    }


class Looked(Struct, frozen=True):
    """Paths where surely something else lies than what Git put there, and where it may."""

    edited: list[str]
    unsure: list[str]


def look(root: Path, index: Read) -> Looked:
    """What ``lstat`` alone says of the entries below ``root``; the unsure ones must be read."""
    outside = _not_ours(root, index.entries)
    found: list[str] = []
    unsure: list[str] = []
    for path, entry in index.entries.items():
        if path.rpartition("/")[0] in outside:
            found.append(path)
            continue
        try:
            info = os.lstat(root / path)
        except OSError:
            found.append(path)
            continue
        if _mode(info.st_mode) != entry.mode:
            found.append(path)
        elif _seen(info) != entry.seen[:6] + entry.seen[7:] or entry.written_s >= index.at_s:
            unsure.append(path)
    return Looked(found, unsure)


def others(root: Path, index: Index, but: str) -> bool:
    """Whether a file lies below ``root`` that Git has not put there, and none that begins so."""
    for base, directories, names in os.walk(root):
        inside = Path(base).relative_to(root).as_posix()
        prefix = "" if inside == "." else f"{inside}/"
        links = [name for name in directories if (Path(base) / name).is_symlink()]
        if any(prefix + n not in index for n in (*names, *links) if not n.startswith(but)):
            return True
    return False


def _not_ours(root: Path, paths: Iterable[str]) -> set[str]:
    """Directories that are none, or lie behind a link: what is there is not what Git put there."""
    found: set[str] = set()
    for directory in sorted(checkout_safety.parents(paths)):  # each after those above it
        above = directory.rpartition("/")[0]
        try:
            real = above not in found and stat.S_ISDIR(os.lstat(root / directory).st_mode)
        except OSError:
            real = False
        if not real:
            found.add(directory)
    return found


def _mode(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return SYMLINK
    if not stat.S_ISREG(mode):
        return ""
    return EXECUTABLE if mode & stat.S_IXUSR else PLAIN


def _seen(info: os.stat_result) -> tuple[int, ...]:
    """As an entry has it, without the mode."""
    second = 10**9
    whole = (
        info.st_ctime_ns // second, info.st_ctime_ns % second,
        info.st_mtime_ns // second, info.st_mtime_ns % second,
        info.st_dev, info.st_ino, info.st_uid, info.st_gid, info.st_size,
    )  # fmt: skip
    return tuple(number & _BITS for number in whole)

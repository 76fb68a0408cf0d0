"""What is on disk where a commit is checked out, read without Git. Blocks.

Containers write there meanwhile: no link is followed, and nothing but a regular file is opened.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from agent.adapters import shared_tree
from agent.domain.repository import checkout_safety
from agent.domain.repository.tree import PLAINTEXT_PREFIX, SYMLINK, TreeEntry

Signature = dict[str, tuple[int, int, int, int]]
"""For each tracked path what a local edit would change: mtime (ns), size, inode, mode."""

_CHUNK = 1024 * 1024


def signature(root: Path, paths: Iterable[str]) -> Signature:
    """Of those of ``paths`` below ``root`` that are there."""
    found: Signature = {}
    top = f"{root}/"  # asked in every cycle, of every file
    for path in paths:
        try:
            info = os.lstat(top + path)
        except OSError:
            continue
        found[path] = (info.st_mtime_ns, info.st_size, info.st_ino, info.st_mode)
    return found


def present(root: Path, tracked: Iterable[str]) -> dict[str, bool]:
    """Which of ``tracked`` and their parents are below ``root``; whether each is a directory."""
    paths = set(tracked)
    found: dict[str, bool] = {}
    for path in paths | checkout_safety.parents(paths):
        try:
            found[path] = stat.S_ISDIR(os.lstat(root / path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            continue
    return found


def with_untracked(
    root: Path, directories: Iterable[str], current: Iterable[str]
) -> frozenset[str]:
    """Those of ``directories`` that hold anything but files in ``current`` and plaintext.

    A link is data, and so is a directory in which Git had no file.
    """
    files = frozenset(current)
    known = files | checkout_safety.parents(files)
    holding = set()
    for directory in directories:
        for base, below, names in os.walk(root / directory):
            inside = f"{Path(base).relative_to(root).as_posix()}/"
            plain = {name for name in names if not name.startswith(PLAINTEXT_PREFIX)}
            if any(inside + name not in known for name in (*below, *plain)):
                holding.add(directory)
                break
    return frozenset(holding)


def same(root: Path, entries: Iterable[TreeEntry]) -> list[TreeEntry]:
    """Those of ``entries`` that lie below ``root`` with just that content."""
    return [entry for entry in entries if _content(root, entry) == entry.oid]


def shorter(root: Path, entries: Iterable[TreeEntry]) -> list[TreeEntry]:
    """Those of ``entries`` whose place holds a file with fewer bytes."""
    found = []
    for entry in entries:
        with suppress(OSError):
            info = os.lstat(root / entry.path)
            if stat.S_ISREG(info.st_mode) and info.st_size < entry.size:
                found.append(entry)
    return found


def begun(root: Path, entries: Mapping[str, bytes]) -> list[str]:
    """Paths where a file is only the beginning of what ``entries`` says that it is to hold."""
    found = []
    for path, content in entries.items():
        with suppress(OSError), ExitStack() as held:
            directory, name = shared_tree.enter(root, path, held)
            with opened(name, directory) as file:
                head = file.read(len(content) + 1)
            if len(head) < len(content) and content.startswith(head):
                found.append(path)
    return found


def unlink(root: Path, paths: Iterable[str]) -> None:
    """Remove files, links and empty directories; whatever else is there stays."""
    for path in paths:
        with suppress(OSError), ExitStack() as held:
            directory, name = shared_tree.enter(root, path, held)
            try:
                os.unlink(name, dir_fd=directory)
            except IsADirectoryError:
                os.rmdir(name, dir_fd=directory)


def unlink_plaintext(root: Path, directories: Iterable[str]) -> None:
    """Remove decrypted files below ``directories``, which a commit makes files or links."""
    for directory in directories:
        for base, _, names in os.walk(root / directory):
            inside = Path(base).relative_to(root).as_posix()
            unlink(root, (f"{inside}/{n}" for n in names if n.startswith(PLAINTEXT_PREFIX)))


def _content(root: Path, entry: TreeEntry) -> str | None:
    """The Git object that is at the entry's path now; None if that cannot be the entry's."""
    digest = hashlib.sha1(b"blob %d\0" % entry.size, usedforsecurity=False)
    try:
        with ExitStack() as held:
            directory, name = shared_tree.enter(root, entry.path, held)
            if entry.mode == SYMLINK:
                digest.update(os.fsencode(os.readlink(name, dir_fd=directory)))
                return digest.hexdigest()
            with opened(name, directory) as file:
                if os.fstat(file.fileno()).st_size != entry.size:
                    return None
                left = entry.size + 1  # somebody may go on writing while it is read
                while left > 0 and (chunk := file.read(min(_CHUNK, left))):
                    digest.update(chunk)
                    left -= len(chunk)
    except OSError:
        return None
    return digest.hexdigest()


@contextmanager
def opened(name: str, directory: int) -> Iterator[BinaryIO]:
    """The regular file ``name`` in an opened ``directory``.

    Anything else raises :class:`OSError` and is not waited for.
    """
    with ExitStack() as held:
        handle = shared_tree.open_regular(name, directory, held)
        with os.fdopen(handle, "rb", closefd=False) as file:
            yield file

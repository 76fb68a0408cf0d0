"""What is on disk where a commit is checked out, read without Git. Blocks."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from agent.domain.repository import checkout_safety
from agent.domain.repository.tree import PLAINTEXT_PREFIX, Tree

Signature = dict[str, tuple[int, int, int, int]]
"""For each tracked path what a local edit would change: mtime (ns), size, inode, mode."""


def signature(root: Path, paths: Iterable[str]) -> Signature:
    """Of those of ``paths`` below ``root`` that are there."""
    found: Signature = {}
    for path in paths:
        try:
            info = os.lstat(root / path)
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


def with_untracked(root: Path, directories: Iterable[str], current: Tree) -> frozenset[str]:
    """Those of ``directories`` that hold files which are neither in ``current`` nor plaintext."""
    holding = set()
    for directory in directories:
        for base, _, files in os.walk(root / directory):
            relative = Path(base).relative_to(root)
            if any(
                (relative / name).as_posix() not in current
                and not name.startswith(PLAINTEXT_PREFIX)
                for name in files
            ):
                holding.add(directory)
                break
    return frozenset(holding)

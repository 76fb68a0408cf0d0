"""The export: what is checked out, once more, where only the agent can write.

Containers mount from the checkout and may write where they do, so that nothing which decides what
runs is read there. The export is never mounted. It has an index of its own, by which Git knows
without reading them which files are in step: a move to another commit writes what differs.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import anyio.to_thread

from agent.adapters.git import edits, git_dir, index
from agent.adapters.git.commits import Commits
from agent.adapters.git.git import Git, on_disk
from agent.domain.errors import CommitdError, TransientError
from agent.domain.repository.tree import PLAINTEXT_PREFIX, Tree


class Export:
    """The work tree of ``git``, which has an index of its own."""

    def __init__(self, git: Git, commits: Commits) -> None:
        self._git = git
        self._commits = commits
        self._place = git.root

    async def follow(self, commit: str) -> None:
        """Make it hold exactly the files of ``commit``. Raises :class:`TransientError`."""
        if not await anyio.to_thread.run_sync(_closed, self._place):
            await self._begin()
        await self._git.check("read-tree", "--reset", "-u", commit)

    async def verify(self, commit: str) -> None:
        """The same, whatever the index of the export says.

        After a start, or a move of it that was cut short: then files of the other commit are
        there that its index does not know.
        """
        tree = await self._commits.tree(commit)
        known = await anyio.to_thread.run_sync(self._index_of, tree)
        if known and not await edits.edited(self._commits, self._place, known):
            return
        await self._begin()
        try:
            await self.follow(commit)
        except CommitdError:  # half of it would only take room
            await self._begin()
            raise

    def _index_of(self, tree: Tree) -> index.Read | None:
        """Its index, if by that just the files of ``tree`` are there, and there are no others.

        The links to plaintext are the agent's.
        """
        if not _closed(self._place):
            return None
        try:
            known = index.read(self._git.dir / git_dir.EXPORT_INDEX)
        except TransientError:  # it is made anew
            return None
        if index.differing(known.entries, tree):
            return None
        return None if index.others(self._place, known.entries, PLAINTEXT_PREFIX) else known

    async def _begin(self) -> None:
        with on_disk(self._place.parent):
            await anyio.to_thread.run_sync(self._empty)

    def _empty(self) -> None:
        (self._git.dir / git_dir.EXPORT_INDEX).unlink(missing_ok=True)
        git_dir.remove(self._place)
        self._place.mkdir(mode=0o700)


def _closed(place: Path) -> bool:
    """Whether it is a directory of our own that is open to nobody else."""
    try:
        info = place.lstat()
    except FileNotFoundError:
        return False
    ours = info.st_uid == os.getuid() and not info.st_mode & 0o077
    return ours and stat.S_ISDIR(info.st_mode)

"""Which files of a work tree are no longer what Git has put there.

    lstat of all ──▶ in doubt ──▶ Git says how long the file has to be ──▶ only such a one is read

A container decides how long a file in the checkout is, and may make it endless: the index keeps
the lowest 32 bits of a length alone, and at times 0.
"""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread

from agent.adapters.git import index, work_tree
from agent.adapters.git.commits import Commits
from agent.domain.repository.tree import TreeEntry


async def edited(commits: Commits, root: Path, known: index.Read) -> list[str]:
    """Paths where something else, or nothing, lies below ``root`` than what Git has put there.

    Raises :class:`TransientError` when ``commits`` cannot be asked.
    """
    looked = await anyio.to_thread.run_sync(index.look, root, known)
    if not looked.unsure:
        return sorted(looked.edited)
    entries = {path: known.entries[path] for path in looked.unsure}
    sizes = await commits.sizes({entry.oid for entry in entries.values()})
    suspects = [
        TreeEntry(path, entry.mode, entry.oid, sizes[entry.oid])
        for path, entry in entries.items()
        if entry.oid in sizes
    ]
    same = {e.path for e in await anyio.to_thread.run_sync(work_tree.same, root, suspects)}
    return sorted({*looked.edited, *looked.unsure} - same)

"""Moving the checkout to another commit, over whatever containers have written between its files.

What Git has put there is what its index says; everything else is somebody's data.

    look ──▶ faults: a hold names them, nothing has been touched
      │
    move:  files that lie there already as the new commit has them, byte for byte ──▶ into the index
           edited files of the old one ──▶ unlinked, with their content; a directory never
           git checkout OLD ▶ NEW ──▶ Git refuses by itself to go over what is not in its index,
      │                               so that data which came after the look stays, too
      ▼    git checkout-index ──▶ puts back what was unlinked, over nothing

What is in the index, and what of it was edited, is read without Git (index.py): where nobody has
interfered, a move is one process. ``HEAD`` stands on the tree of the index before Git compares the
two commits: after a move that was cut short it may have been left behind. Ignored files count as
data: ``read-tree -m -u`` would take them for nothing worth, and what ``.gitignore`` names is just
what containers write.
"""

from __future__ import annotations

from collections.abc import Container

import anyio.to_thread

from agent.adapters import process
from agent.adapters.git import edits, git_dir, index, overlay, work_tree
from agent.adapters.git.commits import Commits
from agent.adapters.git.git import broken
from agent.domain.errors import CommitdError, HeldError
from agent.domain.finding import Fault
from agent.domain.repository import checkout_safety
from agent.domain.repository.tree import Tree, TreeEntry, small

_HEAD = "HEAD"


class Checkout:
    """The work tree of ``commits``' clone."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        self._git = commits.git
        self._root = commits.git.root

    async def collisions(self, new: Tree) -> list[Fault]:
        """Data on the host that the files of ``new`` would take the place of, as it is now."""
        current = (await self._read()).entries.keys()
        on_disk = await anyio.to_thread.run_sync(work_tree.present, self._root, new)
        suspects = [path for path, is_dir in on_disk.items() if is_dir and path in new]
        holding = await anyio.to_thread.run_sync(
            work_tree.with_untracked, self._root, suspects, current
        )
        same = await anyio.to_thread.run_sync(work_tree.same, self._root, _added(new, current))
        ours = current | {entry.path for entry in same}
        return checkout_safety.collisions(new, ours, on_disk, holding)

    async def move(self, commit: str) -> None:
        """Make the tracked files those of ``commit``.

        Raises :class:`HeldError`, with all as it was, when data is in the way that came after the
        look, and :class:`TransientError`.
        """
        new, known = await self._commits.tree(commit), await self._read()
        edited = await self._edited(known)
        candidates = [*_added(new, known.entries), *(new[path] for path in edited if path in new)]
        if await self._take_in(candidates):
            edited = await self._edited(await self._read())
        await self._drop_edits(edited, new)
        on_disk = await anyio.to_thread.run_sync(work_tree.present, self._root, new)
        suspects = [path for path, is_dir in on_disk.items() if is_dir and path in new]
        await anyio.to_thread.run_sync(work_tree.unlink_plaintext, self._root, suspects)
        await self._stand_on_index()
        moved = await self._git.run(
            "checkout", "--quiet", "--detach", "--no-overwrite-ignore", "--no-recurse-submodules",
            commit, "--",
        )  # fmt: skip
        if edited:
            await self._git.run("checkout-index", "--all", "-u", "--quiet")
        if moved.code != 0:
            faults = await self.collisions(new)
            raise _held(faults) if faults else _refused(moved)

    async def finish(self, commit: str) -> None:
        """After a move to ``commit`` that was cut short: no file of it stays half written.

        Those that are whole go into the index, so that the move back removes them.
        """
        new, known = await self._commits.tree(commit), await self._read()
        added = _added(new, known.entries)
        shorter = await anyio.to_thread.run_sync(work_tree.shorter, self._root, added)
        contents = await self._commits.contents(small({e.path: e for e in shorter}))
        begun = await anyio.to_thread.run_sync(work_tree.begun, self._root, contents)
        await anyio.to_thread.run_sync(work_tree.unlink, self._root, begun)
        await self._take_in(added)

    async def edits(self) -> list[str]:
        """Tracked paths whose content on disk is not what Git has put there."""
        known, head = await self._read(), await self._commits.tree(_HEAD)
        return sorted({*await self._edited(known), *index.differing(known.entries, head)})

    async def index_head(self) -> None:
        """Where the index is lost: all that ``HEAD`` says has been put there."""
        if head := await self._commits.commit(_HEAD):
            await self._git.check("read-tree", head)
            await self._refresh()

    async def _read(self) -> index.Read:
        return await anyio.to_thread.run_sync(index.read, self._git.dir / git_dir.INDEX)

    async def _refresh(self) -> None:
        await self._git.run("update-index", "-q", "--refresh")

    async def _take_in(self, entries: list[TreeEntry]) -> bool:
        """Whether any of them lies there already."""
        same = await anyio.to_thread.run_sync(work_tree.same, self._root, entries)
        if same:
            lines = "".join(f"{e.mode} {e.oid}\t{e.path}\0" for e in same)
            await self._git.check("update-index", "-z", "--index-info", stdin=lines.encode())
            await self._refresh()
        return bool(same)

    async def _drop_edits(self, edited: list[str], new: Tree) -> None:
        await anyio.to_thread.run_sync(work_tree.unlink, self._root, edited)
        # Whatever is in their place now is not Git's, and nobody wants them back.
        if gone := [path for path in edited if path not in new]:
            lines = "".join(f"{path}\0" for path in gone)
            words = ("update-index", "--force-remove", "-z", "--stdin")
            await self._git.check(*words, stdin=lines.encode())

    async def _edited(self, known: index.Read) -> list[str]:
        return await edits.edited(self._commits, self._root, known)

    async def _stand_on_index(self) -> None:
        head = await self._commits.commit(_HEAD)
        known = await self._read()
        if head and not index.differing(known.entries, await self._commits.tree(head)):
            return
        tree = (await self._git.check("write-tree")).decode().strip()
        left = await overlay.commit_tree(self._git, tree, "commitd: what is checked out")
        await self._git.check("update-ref", _HEAD, left)


def _added(new: Tree, current: Container[str]) -> list[TreeEntry]:
    return [entry for path, entry in new.items() if path not in current]


def _held(faults: list[Fault]) -> HeldError:
    return HeldError(faults[0].message, where=faults[0].where, hint=faults[0].hint)


def _refused(result: process.Result) -> CommitdError:
    """What Git did not want to go over: it names each path on a line that begins with a tab."""
    said = result.err.decode(errors="replace")
    paths = [line.strip() for line in said.splitlines() if line.startswith("\t")]
    if not paths or "untracked" not in said:
        return broken("the commit cannot be checked out", result)
    return HeldError(checkout_safety.IN_THE_WAY, where=", ".join(paths), hint=checkout_safety.MOVE)

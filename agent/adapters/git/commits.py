"""What a clone knows of its commits: who descends from whom, what is in them. Changes nothing."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import partial

import anyio.to_thread
from msgspec import Struct

from agent.adapters import process
from agent.adapters.git import objects
from agent.adapters.git.git import LOCAL_TIMEOUT_S, Git, broken
from agent.adapters.git.session import Session
from agent.adapters.lru import Lru
from agent.domain.errors import PermanentError, TransientError
from agent.domain.finding import Fault
from agent.domain.repository import checkout_safety, layout
from agent.domain.repository.desired import DesiredState
from agent.domain.repository.tree import MAX_LINK, SYMLINK, Snapshot, Tree
from agent.domain.revision import Revision, lists_commits

MAX_CONTENTS = 64 * 1024 * 1024
"""Bytes of all files read from one commit."""
TREE_S = 20.0
"""To list the files of one commit: of the most that are allowed it takes less than a second."""
MOST_BETWEEN = 500
"""Commits between two that are read at once; further apart they are compared by Git."""
_TREES = 3
"""The applied one, a new one, and one with older files of some stacks."""
_REVISIONS = 1000
_REVISION = "%H%x00%P%x00%an <%ae>%x00%cI%x00%s%x00%(trailers:only,unfold)%x00%b"
_FIELDS = 7
_SHA = re.compile(r"[0-9a-f]{40,64}")


class Line(Struct, frozen=True, kw_only=True):
    """How two commits stand: whether ``newer`` descends from ``older``, or the other way round.

    ``lag`` counts the commits that ``newer`` has and ``older`` has not; None: too many to count.
    """

    ahead: bool
    behind: bool
    lag: int | None


class Remembered:
    """What was read of commits lately. It never changes."""

    def __init__(self) -> None:
        self.trees: Lru[str, Tree] = Lru(_TREES)
        self.revisions: Lru[str, Revision] = Lru(_REVISIONS)


class Commits:
    """Reads with ``git``, or as ``other`` does. Raises :class:`TransientError` for what cannot be.

    Names, trees and contents come from one Git that stays, see session.py.
    """

    def __init__(self, git: Git, other: Commits | None = None) -> None:
        self.git = git
        self.session: Session = other.session if other else git.session(*objects.COMMAND)
        self.remembered: Remembered = other.remembered if other else Remembered()

    async def commit(self, ref: str) -> str | None:
        """The commit that ``ref`` names, if there is one."""
        return (await self.named([ref]))[0]

    async def named(self, refs: Sequence[str]) -> list[str | None]:
        """The commit that each of ``refs`` names, if there is one."""
        names = [f"{ref}^{{commit}}" for ref in refs]
        look_up = partial(objects.look_up, names=names)
        try:
            found = await self.session.ask(look_up, LOCAL_TIMEOUT_S)
        except TransientError:
            if await anyio.to_thread.run_sync((self.git.dir / "HEAD").exists):
                raise
            return [None for _ in refs]  # there is no clone yet
        return [known and known.oid for known in found]

    async def commits_only(self, refs: Sequence[str]) -> bool:
        """Whether each of ``refs`` that is there is a commit."""
        found = await self.session.ask(partial(objects.look_up, names=refs), LOCAL_TIMEOUT_S)
        return all(known is None or known.kind == "commit" for known in found)

    async def knows(self, sha: str) -> bool:
        """Whether the commit is here."""
        return await self.commit(sha) is not None

    async def descends(self, newer: str, older: str) -> bool:
        """Whether ``older`` is an ancestor of ``newer``; both are known here."""
        result = await self.git.run("merge-base", "--is-ancestor", older, newer)
        if result.code not in {0, 1}:
            raise broken("cannot compare commits", result)
        return result.code == 0

    async def line(self, older: str, newer: str) -> Line:
        """How two different commits stand, which are known here.

        What is between them says all: nothing, where ``newer`` is an ancestor; a commit whose
        parent is ``older``, where it is a descendant.
        """
        most = ("-n", str(MOST_BETWEEN + 1))
        try:
            found = await self._log(*most, f"{older}..{newer}")
        except process.TooMuchError:
            found = None
        if found is None or len(found) > MOST_BETWEEN:
            ahead = await self.descends(newer, older)
            return Line(ahead=ahead, behind=False, lag=None)
        ahead = any(older in parents for parents in found)
        return Line(ahead=ahead, behind=not found, lag=len(found))

    async def count(self, behind: str, ahead: str) -> int:
        """How many commits ``ahead`` has that ``behind`` has not."""
        return int(await self.git.check("rev-list", "--count", f"{behind}..{ahead}", "--"))

    async def signers(
        self, commits: list[str], options: list[str], env: dict[str, str]
    ) -> list[tuple[str, str, str, str]]:
        """For each of ``commits`` (as for git log): SHA, Git's verdict, signer, subject."""
        result = await self.git.run(
            *options, "log", "-z", "--format=%H%x00%G?%x00%GS%x00%s", *commits, "--", env=env
        )
        if result.code != 0:
            raise broken("cannot read signatures", result)
        words = result.out.decode(errors="replace").split("\0")
        return list(zip(words[0::4], words[1::4], words[2::4], words[3::4], strict=False))

    async def revision(self, sha: str) -> Revision:
        """Author, date, subject and trailers of a commit."""
        commit = sha if _SHA.fullmatch(sha) else await self._here(sha)
        known = self.remembered.revisions.get(commit)
        if known is None:
            await self._log("-1", commit)
            known = self.remembered.revisions.get(commit)
        if known is None:
            raise TransientError(f"no commit {sha[:40]} is here")
        return known

    async def _here(self, name: str) -> str:
        commit = await self.commit(name)
        if commit is None:
            raise TransientError(f"no commit {name[:40]} is here")
        return commit

    async def _log(self, *commits: str) -> list[list[str]]:
        """The parents of each of ``commits`` (as for git log); the first is remembered."""
        out = await self.git.check("log", "-z", f"--format={_REVISION}", *commits, "--")
        words = out.decode(errors="replace").split("\0")
        if len(words) >= _FIELDS:
            self._remember(words[:_FIELDS])
        return [parents.split() for parents in words[1::_FIELDS]]

    def _remember(self, words: list[str]) -> None:
        sha, _, author, when, subject, trailers, body = words
        pairs = tuple(
            (key.strip(), value.strip())
            for key, sep, value in (line.partition(":") for line in trailers.splitlines())
            if sep
        )
        revision = Revision(
            sha=sha,
            author=author,
            committed_at=when,
            subject=subject,
            trailers=pairs,
            squashed=lists_commits(body),
        )
        self.remembered.revisions.put(sha, revision)

    async def tree(self, sha: str) -> Tree:
        """Every path of a commit.

        Raises :class:`PermanentError` for one that is too large, by what it says of itself: a few
        directories that hold each other many times over are more paths than can ever be listed.
        """
        commit = await self._here(sha)
        found = self.remembered.trees.get(commit)
        if found is None:
            try:
                found = await self.session.ask(partial(objects.tree, commit=commit), TREE_S)
            except process.OverdueError:
                raise PermanentError(
                    f"its files cannot be listed in {TREE_S:g} s", where="."
                ) from None
            except process.TooMuchError:  # directories that are as large by themselves
                raise PermanentError(
                    f"more than {process.MAX_OUTPUT:,} bytes of paths", where="."
                ) from None
            self.remembered.trees.put(commit, found)
        return found

    async def faults(self, tree: Tree) -> list[Fault]:
        """What in a commit itself forbids a checkout."""
        links = await self.contents(
            {p: e.oid for p, e in tree.items() if e.mode == SYMLINK and e.size <= MAX_LINK}
        )
        return checkout_safety.faults(
            tree, {p: c.decode(errors="replace") for p, c in links.items()}
        )

    async def contents(self, wanted: Mapping[str, str]) -> dict[str, bytes]:
        """The bytes of Git objects; both mappings are by path."""
        names = list(dict.fromkeys(wanted.values()))
        if not names:
            return {}
        read = partial(objects.read, names=names, most=MAX_CONTENTS)
        found = dict(zip(names, await self.session.ask(read, LOCAL_TIMEOUT_S), strict=True))
        return {path: found[oid] for path, oid in wanted.items()}

    async def sizes(self, oids: Collection[str]) -> dict[str, int]:
        """The length in bytes of each of these objects that is here."""
        names = list(oids)
        look_up = partial(objects.look_up, names=names)
        found = await self.session.ask(look_up, LOCAL_TIMEOUT_S)
        return {known.oid: known.size for known in found if known}

    async def declared(
        self, sha: str, host: str, tree: Tree | None = None
    ) -> tuple[DesiredState, Snapshot]:
        """What the commit declares for ``host``, and the files that say so; its ``tree`` if known.

        Raises :class:`PermanentError` as :func:`layout.read` does.
        """
        tree = await self.tree(sha) if tree is None else tree
        files = Snapshot(tree, await self.contents(layout.wanted(tree, host)))
        return layout.survey(files, await self.revision(sha), host).desired, files

"""What a clone knows of its commits: who descends from whom, what is in them. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping

from agent.adapters import process
from agent.adapters.git.git import Git, broken
from agent.domain.errors import PermanentError
from agent.domain.finding import Fault
from agent.domain.repository import checkout_safety, layout
from agent.domain.repository.desired import DesiredState
from agent.domain.repository.tree import MAX_LINK, SYMLINK, Snapshot, Tree, TreeEntry
from agent.domain.revision import Revision, lists_commits

MAX_CONTENTS = 64 * 1024 * 1024
"""Bytes of all files read from one commit."""
TREE_S = 20.0
"""To list the files of one commit: of the most that are allowed it takes less than a second."""


class Commits:
    """Reads with ``git``. Raises :class:`TransientError` for what cannot be read."""

    def __init__(self, git: Git) -> None:
        self.git = git

    async def commit(self, ref: str) -> str | None:
        """The commit that ``ref`` names, if there is one."""
        result = await self.git.run("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
        return result.out.decode().strip() if result.code == 0 else None

    async def descends(self, newer: str, older: str) -> bool:
        """Whether ``older`` is an ancestor of ``newer``; both are known here."""
        result = await self.git.run("merge-base", "--is-ancestor", older, newer)
        if result.code not in {0, 1}:
            raise broken("cannot compare commits", result)
        return result.code == 0

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

    async def knows(self, sha: str) -> bool:
        """Whether the commit is in the clone."""
        return (await self.git.run("cat-file", "-e", f"{sha}^{{commit}}")).code == 0

    async def revision(self, sha: str) -> Revision:
        """Author, date, subject and trailers of a commit."""
        form = "%an <%ae>%x00%cI%x00%s%x00%(trailers:only,unfold)%x00%b"
        out = await self.git.check("log", "-1", f"--format={form}", sha, "--")
        author, when, subject, trailers, body = out.decode(errors="replace").split("\0", 4)
        pairs = tuple(
            (key.strip(), value.strip())
            for key, sep, value in (line.partition(":") for line in trailers.splitlines())
            if sep
        )
        return Revision(
            sha=sha,
            author=author,
            committed_at=when,
            subject=subject,
            trailers=pairs,
            squashed=lists_commits(body),
        )

    async def tree(self, sha: str) -> dict[str, TreeEntry]:
        """Every path of a commit.

        Raises :class:`PermanentError` for one that is too large, by what it says of itself: a few
        directories that hold each other many times over are more paths than can ever be listed.
        """
        words = ("ls-tree", "-r", "-z", "-l", "--full-tree", sha, "--")
        try:
            result = await self.git.run(*words, timeout_s=TREE_S, cut=True)
        except process.TooMuchError:
            raise PermanentError(
                f"more than {process.MAX_OUTPUT:,} bytes of paths", where="."
            ) from None
        except process.OverdueError:
            raise PermanentError(f"its files cannot be listed in {TREE_S:g} s", where=".") from None
        if result.code != 0:
            raise broken("the files cannot be listed", result)
        entries: dict[str, TreeEntry] = {}
        for record in result.out.decode(errors="replace").split("\0"):
            if record:
                meta, path = record.split("\t", 1)
                mode, _, oid, size = meta.split()
                entries[path] = TreeEntry(path, mode, oid, 0 if size == "-" else int(size))
        return entries

    async def faults(self, tree: Tree) -> list[Fault]:
        """What in a commit itself forbids a checkout."""
        links = await self.contents(
            {p: e.oid for p, e in tree.items() if e.mode == SYMLINK and e.size <= MAX_LINK}
        )
        return checkout_safety.faults(
            tree, {p: c.decode(errors="replace") for p, c in links.items()}
        )

    async def contents(self, objects: Mapping[str, str]) -> dict[str, bytes]:
        """The bytes of Git objects; both mappings are by path."""
        if not objects:
            return {}
        out = await self.git.check(
            "cat-file", "--batch",
            stdin="".join(f"{oid}\n" for oid in objects.values()).encode(),
            max_output=MAX_CONTENTS,
        )  # fmt: skip
        found: dict[str, bytes] = {}
        at = 0
        for path in objects:
            header_end = out.index(b"\n", at)
            size = int(out[at:header_end].split()[2])
            found[path] = out[header_end + 1 : header_end + 1 + size]
            at = header_end + size + 2
        return found

    async def declared(
        self, sha: str, host: str, tree: Tree | None = None
    ) -> tuple[DesiredState, Snapshot]:
        """What the commit declares for ``host``, and the files that say so; its ``tree`` if known.

        Raises :class:`PermanentError` as :func:`layout.read` does.
        """
        tree = await self.tree(sha) if tree is None else tree
        files = Snapshot(tree, await self.contents(layout.wanted(tree, host)))
        return layout.survey(files, await self.revision(sha), host).desired, files

"""One clone, fetched from any remote, and what is checked out of it, moved only by whole commits.

In ``state_dir``:

    git      Git's own directory, see git_dir.py
    repo     the checkout: containers mount from it, and may write where they do
    export   the same commit once more, for the agent alone, see export_tree.py
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread

from agent.adapters import process
from agent.adapters.git import git_dir, overlay, work_tree
from agent.adapters.git.checkout import Checkout
from agent.adapters.git.commits import Commits
from agent.adapters.git.export_tree import Export
from agent.adapters.git.git import Git, broken, fetch_error, remote_options
from agent.adapters.git.work_tree import Signature
from agent.adapters.tasks import to_the_end
from agent.domain.config import Config, Remote
from agent.domain.errors import CommitdError, PermanentError, UnreachableError
from agent.domain.finding import Fault
from agent.domain.repository import checkout_safety
from agent.domain.repository.tree import MAX_LINK, SYMLINK

log = logging.getLogger("commitd.repository")

APPLIED = "refs/commitd/applied"
"""The commit whose tree is checked out whole; moved only after a reset succeeded."""

PENDING = "refs/commitd/pending"
"""The commit that a reset has begun to check out."""

FETCH_TIMEOUT_S = 300.0
MOVE_S = 600.0
"""For the look at every object of a history that comes out of a checkout; once for each host."""
MAX_PACK = 1024**3
"""Bytes of one file that a fetch may write: an endless pack ends here."""
_SHA = re.compile(r"[0-9a-f]{40,64}")


class Repository(Commits):
    """The clone in ``state_dir``, fetching ``branch``.

    ``root`` is the checkout, ``export`` the same files where nobody but the agent can write.
    """

    def __init__(self, state_dir: Path, branch: str, askpass: Path) -> None:
        self.root, self.export = state_dir / "repo", state_dir / "export"
        self._branch = branch
        self._dir, self._broken = state_dir / "git", state_dir / "git-broken"
        super().__init__(Git(self.root, askpass, git_dir=self._dir))
        self._checkout = Checkout(self)
        self._unsettled = True
        self._exported = Export(
            Git(self.export, askpass, git_dir=self._dir, index=git_dir.EXPORT_INDEX)
        )

    @classmethod
    def of(cls, config: Config) -> Repository:
        """The agent's own clone."""
        return cls(config.state_dir, config.branch, config.state_dir / "askpass")

    async def prepare(self) -> None:
        """Make the clone if there is none or it is broken; clear what a killed Git left behind.

        The checkout is only touched to finish what was cut short: containers mount from it. A clone
        that is broken is put aside and begun anew; the next fetch fills it.
        """
        there = await anyio.to_thread.run_sync(self._clear)
        there = there or await self._take_over_old()
        if there and not await self._whole():
            await anyio.to_thread.run_sync(self._put_aside)
            there = False
        if not there:
            await self.git.check("init", "--quiet", "--template=", "--initial-branch=commitd")
            await self._keep_index()
        await anyio.to_thread.run_sync(git_dir.write_anew, self._dir)
        await anyio.to_thread.run_sync(git_dir.remove, self.root / ".git")
        if not await anyio.to_thread.run_sync((self._dir / git_dir.INDEX).exists):
            await self._checkout.index_head()
        try:
            await self.settle()
        except CommitdError as err:  # it is tried again in each cycle
            log.warning("a move of the checkout was cut short and cannot be undone: %s", err)
        if there and (head := await self.commit("HEAD")):
            await self._exported.verify(head)

    def _clear(self) -> bool:
        """Drop what a killed Git left behind; whether there is a clone."""
        self._drop_scratch()
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not (self._dir / "HEAD").exists():
            return False
        git_dir.write_anew(self._dir)
        self._drop_locks()
        for pack in (self._dir / "objects").glob("**/tmp_*"):
            pack.unlink(missing_ok=True)
        return True

    async def _take_over_old(self) -> bool:
        """Bring in the history of an agent that kept it in the checkout; whether there is any."""
        old, new = self.root / ".git", self._dir.with_name("git.new")
        if not await anyio.to_thread.run_sync((old / "HEAD").exists):
            return False
        await anyio.to_thread.run_sync(git_dir.copy_old, old, new)
        await anyio.to_thread.run_sync(git_dir.write_anew, new)
        # Every hash: what lay in the checkout may hold anything under the name of a commit.
        words = ("fsck", "--full", "--no-dangling", "--no-progress")
        try:
            looked = await self.git.run(*words, env={"GIT_DIR": str(new)}, timeout_s=MOVE_S)
        except process.OverdueError:
            looked = None
        if looked is None or looked.code != 0:
            log.warning("the history in %s is broken; it is fetched anew", old)
            await anyio.to_thread.run_sync(git_dir.remove, new)
            return False
        await anyio.to_thread.run_sync(git_dir.remove, self._dir)
        await anyio.to_thread.run_sync(new.rename, self._dir)
        log.info("the clone was moved from %s to %s", old, self._dir)
        return True

    def _put_aside(self) -> None:
        git_dir.remove(self._broken)
        self._dir.rename(self._broken)
        log.warning("the clone is broken; it is put aside as %s and fetched anew", self._broken)

    async def _keep_index(self) -> None:
        """Of a clone that is put aside, what it says that Git has put in the checkout."""
        old, index = self._broken / git_dir.INDEX, self._dir / git_dir.INDEX
        if not await anyio.to_thread.run_sync(old.exists):
            return
        await anyio.to_thread.run_sync(shutil.move, old, index)
        if (await self.git.run("ls-files")).code != 0:
            await anyio.to_thread.run_sync(git_dir.remove, index)

    def _drop_locks(self) -> None:
        """The agent holds the host's lock and runs one Git at a time: no live Git owns these."""
        indexes = (git_dir.INDEX, git_dir.EXPORT_INDEX, git_dir.OVERLAY_INDEX)
        for name in (*indexes, "HEAD", "packed-refs", APPLIED, PENDING):
            (self._dir / f"{name}.lock").unlink(missing_ok=True)

    async def _whole(self) -> bool:
        """Whether everything that the clone's references need is there and readable.

        Raises :class:`TransientError` when Git was killed: that says nothing about the clone.
        """
        fsck = await self.git.run("fsck", "--connectivity-only", "--no-dangling", "--no-progress")
        if fsck.code < 0:
            raise broken("Git was killed", fsck)
        if fsck.code != 0:
            return False
        refs = await self.git.run("for-each-ref", "--format=%(objecttype)", "refs/commitd")
        return refs.code == 0 and set(refs.out.split()) <= {b"commit"}

    async def applied(self) -> str | None:
        """The commit that is checked out, or None in a new clone."""
        return await self.commit(APPLIED)

    async def fetch(
        self, remote: Remote, expected: str, *, timeout_s: float = FETCH_TIMEOUT_S
    ) -> str:
        """Fetch the branch with its full history, which a probe saw at ``expected``; its head.

        The objects arrive and are checked in a scratch clone; only what is whole and sound comes
        into ours. Raises :class:`UnreachableError` when nothing usable arrived,
        :class:`PermanentError` when the remote answered that there is no such branch.
        """
        await anyio.to_thread.run_sync(self._drop_scratch)
        await anyio.to_thread.run_sync(git_dir.write_anew, self._dir)
        try:
            return await self._fetch_by_scratch(remote, expected, timeout_s)
        finally:
            await to_the_end(self._drop_scratch)

    async def _fetch_by_scratch(self, remote: Remote, expected: str, timeout_s: float) -> str:
        scratch = self._scratch
        aside = {"GIT_DIR": str(scratch), "GIT_WORK_TREE": ""}
        await self.git.check(
            "init", "--quiet", "--bare", "--template=", "--", str(scratch), env=aside
        )
        await anyio.to_thread.run_sync(self._borrow_objects)
        result = await self.git.run(
            *remote_options(remote),
            "fetch", "--quiet", "--no-tags", "--no-write-fetch-head",
            "--no-recurse-submodules", "--no-auto-maintenance",
            "--", remote.url, f"refs/heads/{self._branch}:refs/heads/incoming",
            env=self.git.remote_env(remote) | aside,
            timeout_s=timeout_s,
            max_file=MAX_PACK,
        )  # fmt: skip
        if result.code != 0:
            raise fetch_error(remote, self._branch, result.err.decode(errors="replace"))
        ref = f"refs/commitd/remotes/{remote.name}"
        await self.git.check(
            "fetch", "--quiet", "--force", "--no-tags", "--no-write-fetch-head",
            "--no-recurse-submodules", "--no-auto-maintenance",
            "--", str(scratch), f"refs/heads/incoming:{ref}",
            env={"GIT_ALLOW_PROTOCOL": "file"},
        )  # fmt: skip
        sha = (await self.git.check("rev-parse", "--verify", f"{ref}^{{commit}}")).decode().strip()
        if sha != expected and not await self.knows(expected):
            raise UnreachableError(
                f"{remote.name}: it shows {expected[:7]} and delivers {sha[:7]} without it"
            )
        return sha

    @property
    def _scratch(self) -> Path:
        return self.root.with_name("incoming.git")

    def _borrow_objects(self) -> None:
        alternates = self._scratch / "objects" / "info" / "alternates"
        alternates.parent.mkdir(exist_ok=True)
        alternates.write_text(f"{self._dir / 'objects'}\n")

    def _drop_scratch(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)

    async def resolve(self, rev: str) -> str:
        """The full SHA of what a person wrote. Raises :class:`PermanentError` if unknown.

        HEAD is the applied commit, whatever stacks have files of older ones.
        """
        if not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z._/~^-]*", rev):
            raise PermanentError(f"{rev!r} is not a revision")
        applied = re.sub(r"^HEAD\b", APPLIED, rev)
        names = (applied, rev, f"refs/commitd/{rev}", f"refs/commitd/remotes/{rev}")
        for name in names if await anyio.to_thread.run_sync(self._dir.exists) else ():
            if sha := await self.commit(name):
                return sha
        raise PermanentError(
            f"no commit {rev!r} is known here",
            hint="commitd sync fetches what is new, or commitd once where no agent runs",
        )

    async def look(self, sha: str) -> list[Fault]:
        """Rule 3: what forbids putting ``sha`` over the checkout as it is on disk now.

        What Git put there itself is not in the way, and nothing else: see checkout.py.
        """
        return await self.faults(sha) or await self.collisions(sha)

    async def collisions(self, sha: str) -> list[Fault]:
        """What on this host is in the way of ``sha``, which is safe to check out by itself."""
        return await self._checkout.collisions(await self.tree(sha))

    async def faults(self, sha: str) -> list[Fault]:
        """What in the commit itself forbids a checkout."""
        new = await self.tree(sha)
        links = await self.contents(
            {p: e.oid for p, e in new.items() if e.mode == SYMLINK and e.size <= MAX_LINK}
        )
        return checkout_safety.faults(
            new, {p: c.decode(errors="replace") for p, c in links.items()}
        )

    async def overlaid(self, sha: str, overlays: Mapping[str, str]) -> str:
        """The commit ``sha``, but with some stacks as they were: their names to older commits."""
        return await overlay.commit(self.git, sha, overlays) if overlays else sha

    async def checked_out(self) -> str | None:
        """The commit whose files are in place: the applied one, or it with overlays.

        None while a move is not done; :meth:`settle` ends that.
        """
        return None if await self.commit(PENDING) else await self.commit("HEAD")

    async def reset(self, sha: str, overlays: Mapping[str, str] | None = None) -> None:
        """Make the tracked files those of ``sha``; all other data stays. Call ``look`` first.

        The stacks in ``overlays`` are as in :meth:`overlaid`. Raises :class:`HeldError`, and leaves
        all as it was, if data is in the way that came after the look; :class:`TransientError`.
        """
        if not _SHA.fullmatch(sha):
            raise PermanentError(f"{sha!r} is not a commit")
        await anyio.to_thread.run_sync(self._drop_locks)
        target = await self.overlaid(sha, overlays or {})
        before = await self.commit("HEAD")
        self._unsettled = True
        await self.git.check("update-ref", PENDING, target)
        try:
            await self._move(target)
        except CommitdError:
            with suppress(CommitdError):
                await self._back_to(before)
            raise
        await self.git.check("update-ref", APPLIED, sha)
        await self._done()

    async def settle(self) -> None:
        """After a move that was cut short: back to a whole commit. Raises as :meth:`reset` does."""
        if not self._unsettled:
            return
        if pending := await self.commit(PENDING):
            await self._checkout.finish(pending)
            await self._back_to(await self.commit("HEAD"))
        self._unsettled = False

    async def _back_to(self, commit: str | None) -> None:
        if commit:
            await self._move(commit)
        await self._done()

    async def _done(self) -> None:
        await self.git.check("update-ref", "-d", PENDING)
        self._unsettled = False

    async def _move(self, target: str) -> None:
        await self._checkout.move(target)
        await self._exported.follow(target)

    async def local_edits(self) -> list[str]:
        """Tracked paths whose content on disk is not that of the applied commit."""
        return await self._checkout.edits()

    async def signature(self, paths: Iterable[str]) -> Signature:
        """What a local edit of ``paths`` would change, without starting Git."""
        return await anyio.to_thread.run_sync(work_tree.signature, self.root, list(paths))

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
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from agent.adapters.git import git_dir, overlay, soundness, work_tree
from agent.adapters.git.checkout import Checkout
from agent.adapters.git.commits import Commits
from agent.adapters.git.export_tree import Export
from agent.adapters.git.git import Git, broken, on_disk
from agent.adapters.git.incoming import FETCH_TIMEOUT_S, Incoming
from agent.adapters.git.refs import ACCEPTED, APPLIED, OURS, PENDING, Refs
from agent.adapters.git.tidying import Tidying
from agent.adapters.git.work_tree import Signature
from agent.adapters.tasks import to_the_end
from agent.domain.config import Config
from agent.domain.errors import CommitdError, PermanentError, TransientError
from agent.domain.finding import Fault

log = logging.getLogger("commitd.repository")

MOVE_S = 600.0
"""For the look at every object of a history that comes out of a checkout; once for each host."""
_SHA = re.compile(r"[0-9a-f]{40,64}")


class Repository(Commits):
    """The clone in ``state_dir``, fetching ``branch``.

    ``root`` is the checkout, ``export`` the same files where nobody but the agent can write. The
    file ``checked`` remembers that the clone was found whole.
    """

    def __init__(
        self, state_dir: Path, branch: str, askpass: Path, checked: Path | None = None
    ) -> None:
        self.root, self.export = state_dir / "repo", state_dir / "export"
        self._dir, self._broken = state_dir / "git", state_dir / "git-broken"
        self._checked = checked
        git = Git(self.root, askpass, git_dir=self._dir)
        self.incoming = Incoming(git, branch)
        super().__init__(git, self.incoming.commits)
        self._refs = Refs(git)
        self.tidying = Tidying(self.git, self.end)
        self._checkout = Checkout(self)
        self.unsettled = True
        """Whether a move of the checkout may have been cut short."""
        self._exported = Export(
            Git(self.export, askpass, git_dir=self._dir, index=git_dir.EXPORT_INDEX), self
        )

    @classmethod
    def of(cls, config: Config) -> Repository:
        """The agent's own clone."""
        checked = config.runtime_dir / "clone-checked"
        return cls(config.state_dir, config.branch, config.state_dir / "askpass", checked)

    @classmethod
    def to_read(cls, config: Config) -> Repository:
        """The same for who changes nothing there, with the commits that are not judged yet."""
        found = cls.of(config)
        found.git = found.incoming.commits.git
        return found

    async def end(self) -> None:
        """End the processes of Git that are kept; who asks again starts others."""
        await self.session.end()
        await self._refs.end()

    async def prepare(self, declared: str | None = None) -> None:
        """Make the clone if there is none or it is broken; clear what a killed Git left behind.

        ``declared`` is the commit that was applied last, by the journal: of a clone that lay in the
        checkout nothing is believed but what that commit is made of.

        The checkout is only touched to finish what was cut short: containers mount from it. A clone
        that is broken is put aside and begun anew; the next fetch fills it. Raises
        :class:`TransientError`, and leaves what is there, where that cannot be found out.
        """
        with on_disk(self._dir.parent):
            await self._prepare(declared)

    async def _prepare(self, declared: str | None) -> None:
        await self.incoming.clear()
        await self.end()
        there = await anyio.to_thread.run_sync(self._clear)
        if there and not await soundness.whole(self, self._checked):
            await anyio.to_thread.run_sync(self._put_aside, "it is broken, and fetched anew")
            await self.session.end()
            there = False
        if not there or (declared and not await self.commit(declared)):
            there = await self._take_over_old(declared) or there
            await self.session.end()
        if not there:
            await self.git.check("init", "--quiet", "--template=", "--initial-branch=commitd")
            await self._keep_index()
        await anyio.to_thread.run_sync(git_dir.write_anew, self._dir)
        await anyio.to_thread.run_sync(git_dir.remove, self.root / ".git")
        await anyio.to_thread.run_sync(git_dir.remove_remains, self._dir.parent)
        if not await anyio.to_thread.run_sync((self._dir / git_dir.INDEX).exists):
            await self._checkout.index_head()
        try:
            await self.settle()
        except CommitdError as err:  # it is tried again in each cycle
            log.warning("the checkout or its export cannot be put in order: %s", err)

    def _clear(self) -> bool:
        """Drop what a killed Git left behind; whether there is a clone."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not (self._dir / "HEAD").exists():
            return False
        git_dir.write_anew(self._dir)
        self._drop_locks()
        for pack in (self._dir / "objects").glob("**/tmp_*"):
            pack.unlink(missing_ok=True)
        return True

    async def _take_over_old(self, declared: str | None) -> bool:
        """Bring in the history of an agent that kept it in the checkout; whether there is any.

        An agent of before that ran since then has begun it anew there.
        """
        old, new = self.root / ".git", self._dir.with_name("git.new")
        if not await anyio.to_thread.run_sync(git_dir.is_clone, old):
            return False
        if not (declared and await self._copied(old, new, declared)):
            await anyio.to_thread.run_sync(self._put_old_aside, old)
            return False
        if await anyio.to_thread.run_sync(self._dir.exists):
            await anyio.to_thread.run_sync(self._put_aside, f"{declared[:7]} is not in it")
        await anyio.to_thread.run_sync(git_dir.remove, self._broken / git_dir.INDEX)
        await anyio.to_thread.run_sync(new.rename, self._dir)
        log.info("the clone was moved from %s to %s", old, self._dir)
        return True

    async def _copied(self, old: Path, new: Path, declared: str) -> bool:
        """Copy what ``declared`` is made of; whether all of it is there, and is what it is called.

        Every hash: what lay in the checkout may hold anything under the name of a commit.
        """
        whole = False
        try:
            await anyio.to_thread.run_sync(git_dir.copy_old, old, new, declared, APPLIED)
            await anyio.to_thread.run_sync(git_dir.write_anew, new)
            words = ("fsck", "--full", "--no-dangling", "--no-progress")
            fsck = await self.git.run(*words, env={"GIT_DIR": str(new)}, timeout_s=MOVE_S)
            if fsck.code < 0:
                raise broken("Git was killed", fsck)
            whole = fsck.code == 0
        except TransientError as err:
            raise TransientError(
                f"the clone cannot be moved out of the checkout: {err.message}",
                where=str(old),
                hint=err.hint or f"it is tried again; without {old} it is fetched anew",
            ) from None
        finally:
            if not whole:
                await to_the_end(lambda: git_dir.remove(new))
        return whole

    def _put_old_aside(self, old: Path) -> None:
        """Into a directory: nothing that a container could have written is taken for a clone."""
        aside = self._broken / "repo.git"
        git_dir.remove(aside)
        self._broken.mkdir(mode=0o700, exist_ok=True)
        old.rename(aside)
        log.warning(
            "the history in %s is broken, or has not got what the journal says was applied: "
            "it is put aside as %s and fetched anew", old, aside,
        )  # fmt: skip

    def _put_aside(self, why: str) -> None:
        git_dir.remove(self._broken)
        self._dir.rename(self._broken)
        log.warning("the clone is put aside as %s: %s", self._broken, why)

    async def _keep_index(self) -> None:
        """Of a clone that is put aside, what it says that Git has put in the checkout."""
        old, index = self._broken / git_dir.INDEX, self._dir / git_dir.INDEX
        if not await anyio.to_thread.run_sync(old.exists):
            return
        await anyio.to_thread.run_sync(shutil.move, old, index)
        if (await self.git.run("ls-files")).code != 0:
            await anyio.to_thread.run_sync(git_dir.remove, index)

    async def _begin_writing(self) -> None:
        """What a Git of the agent that was killed has left behind stops nobody."""
        await self.tidying.stop()
        await anyio.to_thread.run_sync(self._drop_locks)

    def _drop_locks(self) -> None:
        """Called while no Git of the agent writes here, and it holds the host's lock: nobody's.

        Fetches and looks go on meanwhile, in directories of their own; tidying was stopped.
        """
        indexes = (git_dir.INDEX, git_dir.EXPORT_INDEX, git_dir.OVERLAY_INDEX)
        for name in (*indexes, "HEAD", "packed-refs", *OURS):
            (self._dir / f"{name}.lock").unlink(missing_ok=True)

    async def applied(self) -> str | None:
        """The commit that is checked out, or None in a new clone."""
        return await self.commit(APPLIED)

    async def take_over(self, sha: str) -> None:
        """Bring a commit that was judged into the clone, with its history.

        Raises :class:`TransientError`.
        """
        with on_disk(self._dir.parent):
            await self._take_over(sha)

    async def _take_over(self, sha: str) -> None:
        await self._begin_writing()
        known = [f"^{ref}" for ref in await self.named(OURS) if ref]
        packs = self._dir / "objects" / "pack"
        await anyio.to_thread.run_sync(partial(packs.mkdir, exist_ok=True))
        await self.incoming.commits.git.check(
            "pack-objects", "--revs", "--delta-base-offset", "--non-empty", "--quiet",
            "--threads=1", str(packs / "pack"),
            stdin="\n".join([sha, *known, ""]).encode(),
            timeout_s=FETCH_TIMEOUT_S,
        )  # fmt: skip
        await self._refs.write({ACCEPTED: sha})
        await self.incoming.drop(sha)

    async def knows(self, sha: str) -> bool:
        """Whether the commit is in the clone itself: one that waits to be judged is not."""
        return await self.git.holds(sha)

    async def resolve(self, rev: str) -> str:
        """The full SHA of what a person wrote. Raises :class:`PermanentError` if unknown.

        HEAD is the applied commit, whatever stacks have files of older ones.
        """
        if not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z._/~^-]*", rev):
            raise PermanentError(f"{rev!r} is not a revision")
        applied = re.sub(r"^HEAD\b", APPLIED, rev)
        names = (applied, rev, f"refs/commitd/{rev}")
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
        tree = await self.tree(sha)
        return await self.faults(tree) or await self._checkout.collisions(tree)

    async def collisions(self, sha: str) -> list[Fault]:
        """What on this host is in the way of ``sha``, which is safe to check out by itself."""
        return await self._checkout.collisions(await self.tree(sha))

    async def overlaid(self, sha: str, overlays: Mapping[str, str]) -> str:
        """The commit ``sha``, but with some stacks as they were: their names to older commits."""
        return await overlay.commit(self.git, sha, overlays) if overlays else sha

    async def checked_out(self) -> str | None:
        """The commit whose files are in place: the applied one, or it with overlays.

        None while a move is not done; :meth:`settle` ends that.
        """
        pending, head = await self.named([PENDING, "HEAD"])
        return None if pending else head

    async def reset(self, sha: str, overlays: Mapping[str, str] | None = None) -> None:
        """Make the tracked files those of ``sha``; all other data stays. Call ``look`` first.

        The stacks in ``overlays`` are as in :meth:`overlaid`. Raises :class:`HeldError`, and leaves
        all as it was, if data is in the way that came after the look; :class:`TransientError`.
        """
        if not _SHA.fullmatch(sha):
            raise PermanentError(f"{sha!r} is not a commit")
        await self._begin_writing()
        target = await self.overlaid(sha, overlays or {})
        before = await self.commit("HEAD")
        self.unsettled = True
        await self._refs.write({PENDING: target})
        try:
            await self._move(target)
        except CommitdError:
            with suppress(CommitdError):
                await self._checkout.finish(target)
                await self._back_to(before)
            raise
        await self._done({APPLIED: sha})

    async def settle(self) -> None:
        """After a move that was cut short: back to a whole commit. Raises as :meth:`reset` does."""
        if not self.unsettled:
            return
        await self._begin_writing()
        head, pending = await self.named(["HEAD", PENDING])
        if pending:
            await self._checkout.finish(pending)
            await self._back_to(head)
        elif head:
            await self._exported.verify(head)
        self.unsettled = False

    async def _back_to(self, commit: str | None) -> None:
        if commit:
            await self._checkout.move(commit)
            await self._exported.verify(commit)
        await self._done()

    async def _done(self, refs: Mapping[str, str | None] | None = None) -> None:
        await self._refs.write({**(refs or {}), PENDING: None})
        self.unsettled = False

    async def _move(self, target: str) -> None:
        await self._checkout.move(target)
        await self._exported.follow(target)

    async def local_edits(self) -> list[str]:
        """Tracked paths whose content on disk is not that of the applied commit."""
        return await self._checkout.edits()

    async def signature(self, paths: Iterable[str]) -> Signature:
        """What a local edit of ``paths`` would change, without starting Git."""
        return await anyio.to_thread.run_sync(work_tree.signature, self.root, list(paths))

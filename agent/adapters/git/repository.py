"""The checkout: one clone, fetched from any remote, moved only by whole commits."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import anyio
import anyio.to_thread

from agent.adapters.git import overlay, work_tree
from agent.adapters.git.git import Git, broken, fetch_error, remote_options
from agent.adapters.git.work_tree import Signature
from agent.adapters.tasks import to_the_end
from agent.domain.config import Config, Remote
from agent.domain.errors import PermanentError, UnreachableError
from agent.domain.finding import Fault
from agent.domain.repository import checkout_safety, layout
from agent.domain.repository.desired import DesiredState
from agent.domain.repository.tree import (
    MAX_LINK,
    PLAINTEXT_PREFIX,
    SYMLINK,
    Snapshot,
    TreeEntry,
)
from agent.domain.revision import Revision, lists_commits

log = logging.getLogger("commitd.repository")

APPLIED = "refs/commitd/applied"
"""The commit whose tree is checked out whole; moved only after a reset succeeded."""

PENDING = "refs/commitd/pending"
"""The commit that a reset has begun to check out."""

FETCH_TIMEOUT_S = 300.0
MAX_PACK = 1024**3
"""Bytes of one file that a fetch may write: an endless pack ends here."""
MAX_CONTENTS = 64 * 1024 * 1024
"""Bytes of all files read from one commit."""

_AS_COMMITTED = "* -text -ident !eol !filter !working-tree-encoding\n"
"""What is judged is what a commit holds, so that must be what lands on disk and Compose reads."""

_SHA = re.compile(r"[0-9a-f]{40,64}")


class Repository:
    """The clone in ``root``, with ``.git`` inside it, fetching ``branch``."""

    def __init__(self, root: Path, branch: str, askpass: Path) -> None:
        self.root = root
        self._branch = branch
        self.git = Git(root, askpass)

    @classmethod
    def of(cls, config: Config) -> Repository:
        """The agent's own clone."""
        return cls(config.state_dir / "repo", config.branch, config.state_dir / "askpass")

    async def prepare(self) -> None:
        """Make the clone if there is none or it is broken; clear what a killed Git left behind.

        The work tree is never touched here: containers mount from it. A clone that is broken is
        put aside and begun anew; the next fetch fills it.
        """
        there = await anyio.to_thread.run_sync(self._clear)
        if there and not await self._whole():
            await anyio.to_thread.run_sync(self._put_aside)
            there = False
        if not there:
            await self.git.check(
                "init", "--quiet", "--template=", "--initial-branch=commitd", "--", str(self.root)
            )
        await anyio.to_thread.run_sync(self._write_info)
        pending, applied = await self._commit(PENDING), await self.applied()
        # A reset was cut short: back to what was whole, unless that would cost data.
        if pending and applied and pending != applied and not await self.look(applied):
            await self.git.check("reset", "--hard", "--quiet", applied, "--")

    def _clear(self) -> bool:
        """Drop what a killed Git left behind; whether there is a clone."""
        self._drop_locks()
        for pack in (self.root / ".git" / "objects").glob("**/tmp_*"):
            pack.unlink(missing_ok=True)
        self._drop_scratch()
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        return (self.root / ".git" / "HEAD").exists()

    def _put_aside(self) -> None:
        aside = self.root / ".git-broken"
        shutil.rmtree(aside, ignore_errors=True)
        (self.root / ".git").rename(aside)
        log.warning("the clone is broken; it is put aside as %s and fetched anew", aside)

    def _write_info(self) -> None:
        exclude = self.root / ".git" / "info" / "exclude"
        exclude.parent.mkdir(exist_ok=True)
        exclude.write_text(f"{PLAINTEXT_PREFIX}*\n/.git-broken/\n")
        exclude.with_name("attributes").write_text(_AS_COMMITTED)

    def _drop_locks(self) -> None:
        """The agent holds the host's lock and runs one Git at a time: no live Git owns these."""
        git_dir = self.root / ".git"
        for name in ("index", "overlay.index", "HEAD", APPLIED, PENDING):
            (git_dir / f"{name}.lock").unlink(missing_ok=True)

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
        return await self._commit(APPLIED)

    async def _commit(self, ref: str) -> str | None:
        result = await self.git.run("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
        return result.out.decode().strip() if result.code == 0 else None

    async def fetch(
        self, remote: Remote, expected: str, *, timeout_s: float = FETCH_TIMEOUT_S
    ) -> str:
        """Fetch the branch with its full history, which a probe saw at ``expected``; its head.

        The objects arrive and are checked in a scratch clone; only what is whole and sound comes
        into ours. Raises :class:`UnreachableError` when nothing usable arrived,
        :class:`PermanentError` when the remote answered that there is no such branch.
        """
        await anyio.to_thread.run_sync(self._drop_scratch)
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
            "-c", "protocol.file.allow=always",
            "fetch", "--quiet", "--force", "--no-tags", "--no-write-fetch-head",
            "--no-recurse-submodules", "--no-auto-maintenance",
            "--", str(scratch), f"refs/heads/incoming:{ref}",
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
        alternates.write_text(f"{self.root / '.git' / 'objects'}\n")

    def _drop_scratch(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)

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

    async def resolve(self, rev: str) -> str:
        """The full SHA of what a person wrote. Raises :class:`PermanentError` if unknown."""
        if not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z._/~^-]*", rev):
            raise PermanentError(f"{rev!r} is not a revision")
        names = (rev, f"refs/commitd/{rev}", f"refs/commitd/remotes/{rev}")
        for name in names if await anyio.to_thread.run_sync(self.root.exists) else ():
            if sha := await self._commit(name):
                return sha
        raise PermanentError(
            f"no commit {rev!r} is known here",
            hint="commitd sync fetches what is new, or commitd once where no agent runs",
        )

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
        """Every path of a commit."""
        out = await self.git.check("ls-tree", "-r", "-z", "-l", "--full-tree", sha, "--")
        entries: dict[str, TreeEntry] = {}
        for record in out.decode(errors="replace").split("\0"):
            if record:
                meta, path = record.split("\t", 1)
                mode, _, oid, size = meta.split()
                entries[path] = TreeEntry(path, mode, oid, 0 if size == "-" else int(size))
        return entries

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

    async def declared(self, sha: str, host: str) -> tuple[DesiredState, Snapshot]:
        """What the commit declares for ``host``, and the files that say so.

        Raises :class:`PermanentError` as :func:`layout.read` does.
        """
        tree = await self.tree(sha)
        files = Snapshot(tree, await self.contents(layout.wanted(tree, host)))
        return layout.survey(files, await self.revision(sha), host).desired, files

    async def look(self, sha: str, *, checked_out: str | None = None) -> list[Fault]:
        """Rule 3: what forbids putting ``sha`` over the checkout as it is on disk now.

        What Git put there itself is not in the way: the applied commit's files, those of a reset
        that was cut short, and those of ``checked_out``, which a clone that is new does not know.
        """
        new = await self.tree(sha)
        links = await self.contents(
            {p: e.oid for p, e in new.items() if e.mode == SYMLINK and e.size <= MAX_LINK}
        )
        faults = checkout_safety.faults(
            new, {p: c.decode(errors="replace") for p, c in links.items()}
        )
        if faults:
            return faults
        current: dict[str, TreeEntry] = {}
        known_here = (await self._commit(PENDING), await self.applied(), await self._commit("HEAD"))
        for known in (*known_here, checked_out):
            if known:
                current |= await self.tree(known)
        on_disk = await anyio.to_thread.run_sync(work_tree.present, self.root, new)
        suspects = [path for path, is_dir in on_disk.items() if is_dir and path in new]
        holding = await anyio.to_thread.run_sync(
            work_tree.with_untracked, self.root, suspects, current
        )
        return checkout_safety.collisions(new, current, on_disk, holding)

    async def overlaid(self, sha: str, overlays: Mapping[str, str]) -> str:
        """The commit ``sha``, but with some stacks as they were: their names to older commits."""
        return await overlay.commit(self.git, sha, overlays) if overlays else sha

    async def checked_out(self) -> str | None:
        """The commit whose files are in place: the applied one, or it with overlays."""
        return await self._commit("HEAD")

    async def reset(self, sha: str, overlays: Mapping[str, str] | None = None) -> None:
        """Make the tracked files those of ``sha``; untracked data stays. Call ``look`` first.

        The stacks in ``overlays`` are as in :meth:`overlaid`.
        """
        if not _SHA.fullmatch(sha):
            raise PermanentError(f"{sha!r} is not a commit")
        await anyio.to_thread.run_sync(self._drop_locks)
        target = await self.overlaid(sha, overlays or {})
        await self.git.check("update-ref", PENDING, target)
        await self.git.check("reset", "--hard", "--quiet", target, "--")
        await self.git.check("update-ref", APPLIED, sha)
        await self.git.check("update-ref", "-d", PENDING)

    async def local_edits(self) -> list[str]:
        """Tracked paths whose content on disk is not that of the applied commit."""
        out = await self.git.check(
            "status", "--porcelain=v1", "-z", "--untracked-files=no", "--no-renames",
            "--ignore-submodules=all",
        )  # fmt: skip
        return sorted(record[3:] for record in out.decode(errors="replace").split("\0") if record)

    async def signature(self, paths: Iterable[str]) -> Signature:
        """What a local edit of ``paths`` would change, without starting Git."""
        return await anyio.to_thread.run_sync(work_tree.signature, self.root, list(paths))

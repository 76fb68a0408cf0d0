"""Commits that are not judged yet, each in a clone of its own: none that is refused enters ours.

    a remote ──▶ incoming/SHA.new    a scratch clone that borrows our objects; all arrives, and is
                      │              checked, or the whole of it is thrown away
                      ▼
                 incoming/SHA.git ──▶ judged there ──▶ accepted: its objects are packed into ours,
                      │                                and this is gone
                      ▼
                 gone once no remote shows it any more, and at each start

``incoming/objects`` has no objects, but a list of all that lie beside it. So Git sees them all with
one path in its environment, and the list is rewritten when one comes or goes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import anyio.to_thread

from agent.adapters.git import git_dir
from agent.adapters.git.commits import Commits
from agent.adapters.git.git import Git, fetch_error, on_disk, remote_options
from agent.adapters.tasks import to_the_end
from agent.domain.config import Remote
from agent.domain.errors import UnreachableError

FETCH_TIMEOUT_S = 300.0
MAX_PACK = 1024**3
"""Bytes of one file that a fetch may write: an endless pack ends here."""
_WHOLE, _HALF = ".git", ".new"


class Incoming:
    """What is fetched of ``branch`` beside the clone that ``git`` runs on."""

    def __init__(self, git: Git, branch: str) -> None:
        self._git = git
        self._branch = branch
        self._place = git.dir.with_name("incoming")
        self.commits = Commits(git.with_objects(self._place / "objects"))
        """Reads what the clone holds and what is judged."""

    async def clear(self) -> None:
        """Begin with nothing: what an agent has left that ended may be half there."""
        with on_disk(self._place):
            await anyio.to_thread.run_sync(self._clear)

    def _clear(self) -> None:
        git_dir.remove(self._place)
        (self._place / "objects" / "info").mkdir(parents=True)
        self._list()

    async def any(self) -> bool:
        """Whether it holds a commit, whole or being fetched, that is not in our clone."""
        with on_disk(self._place):
            found = await anyio.to_thread.run_sync(lambda: [*self._place.glob("*.*")])
        here = Commits(self._git)
        return any([p.suffix != _WHOLE or not await here.knows(p.stem) for p in found])

    async def keep(self, shas: Collection[str]) -> None:
        """Drop all but these commits, which remotes show."""
        with on_disk(self._place):
            await anyio.to_thread.run_sync(self._drop, lambda sha: sha not in shas)

    async def drop(self, sha: str) -> None:
        """This one is in our clone now."""
        with on_disk(self._place):
            await anyio.to_thread.run_sync(self._drop, lambda other: other == sha)

    def _drop(self, unwanted: Callable[[str], bool]) -> None:
        over = [path for path in self._place.glob(f"*{_WHOLE}") if unwanted(path.stem)]
        if over:
            self._list(without=over)
            for path in over:
                git_dir.remove(path)

    async def fetch(
        self, remote: Remote, expected: str, *, timeout_s: float = FETCH_TIMEOUT_S
    ) -> None:
        """Fetch the branch with its full history, which a probe saw at ``expected``.

        Raises :class:`UnreachableError` when nothing usable arrived, :class:`PermanentError` when
        the remote answered that there is no such branch, :class:`TransientError` for the disk.
        """
        scratch = self._place / f"{expected}{_HALF}"
        with on_disk(self._place.parent):
            await anyio.to_thread.run_sync(git_dir.remove, scratch)
            await anyio.to_thread.run_sync(git_dir.write_anew, self._git.dir)
            try:
                await self._arrive(remote, scratch, expected, timeout_s)
            finally:
                await to_the_end(lambda: git_dir.remove(scratch))

    async def _arrive(self, remote: Remote, scratch: Path, expected: str, timeout_s: float) -> None:
        aside = {"GIT_DIR": str(scratch), "GIT_WORK_TREE": ""}
        await self._git.check(
            "init", "--quiet", "--bare", "--template=", "--", str(scratch), env=aside
        )
        await anyio.to_thread.run_sync(self._borrow, scratch)
        result = await self._git.run(
            *remote_options(remote),
            "fetch", "--quiet", "--no-tags", "--no-write-fetch-head",
            "--no-recurse-submodules", "--no-auto-maintenance",
            "--", remote.url, f"refs/heads/{self._branch}:refs/heads/incoming",
            env=self._git.remote_env(remote) | aside,
            timeout_s=timeout_s,
            max_file=MAX_PACK,
        )  # fmt: skip
        if result.code != 0:
            raise fetch_error(remote, self._branch, result.err.decode(errors="replace"))
        ancestor = ("merge-base", "--is-ancestor", expected, "refs/heads/incoming")
        if (await self._git.run(*ancestor, env=aside)).code != 0:
            said = await self._git.run("rev-parse", "refs/heads/incoming", env=aside)
            other = said.out.decode()[:7]
            raise UnreachableError(
                f"{remote.name}: it shows {expected[:7]} and delivers {other} without it"
            )
        await to_the_end(lambda: self._add(scratch))

    def _borrow(self, scratch: Path) -> None:
        alternates = scratch / "objects" / "info" / "alternates"
        alternates.parent.mkdir(exist_ok=True)
        alternates.write_text(f"{self._git.dir / 'objects'}\n")

    def _add(self, scratch: Path) -> None:
        whole = scratch.with_suffix(_WHOLE)
        git_dir.remove(whole)
        scratch.rename(whole)
        self._list()

    def _list(self, without: Collection[Path] = ()) -> None:
        listed = sorted(set(self._place.glob(f"*{_WHOLE}")) - set(without))
        alternates = self._place / "objects" / "info" / "alternates"
        aside = alternates.with_name("alternates.new")
        aside.write_text("".join(f"{path / 'objects'}\n" for path in listed))
        aside.replace(alternates)

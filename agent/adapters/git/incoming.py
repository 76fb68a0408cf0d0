"""Commits that are not judged yet, beside the clone: none that is refused enters ours.

    a remote ──▶ incoming/SHA.new    a scratch clone that borrows our objects; all arrives, and is
                      │              checked, or the whole of it is thrown away
                      ▼
                 incoming/objects    its objects, and in SHA.whole what their files are called
                      │
                      ▼
                 judged there ──▶ accepted: its objects are packed into ours, and this is gone
                      │
                      ▼
                 gone once no remote shows it any more, and at each start

With ``incoming/objects`` in its environment Git sees what waits beside what is ours. A Git that
works meanwhile finds new packs by itself; one that has seen packs which are gone is ended.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import anyio.to_thread

from agent.adapters.git import git_dir
from agent.adapters.git.commits import Commits
from agent.adapters.git.git import Channel, Git, fetch_error, on_disk, over, remote_options
from agent.adapters.process import OverdueError
from agent.adapters.tasks import to_the_end
from agent.domain.config import Remote
from agent.domain.errors import UnreachableError

FETCH_TIMEOUT_S = 300.0
MAX_PACK = 1024**3
"""Bytes of one file that a fetch may write: an endless pack ends here."""
_WHOLE, _HALF = ".whole", ".new"


class Incoming:
    """What is fetched of ``branch`` beside the clone that ``git`` runs on."""

    def __init__(self, git: Git, branch: str) -> None:
        self._git = git
        self._branch = branch
        self._place = git.dir.with_name("incoming")
        self._objects = self._place / "objects"
        self.commits = Commits(git.with_objects(self._objects))
        """Reads what the clone holds and what is judged."""

    async def clear(self) -> None:
        """Begin with nothing: what an agent has left that ended may be half there."""
        with on_disk(self._place):
            await anyio.to_thread.run_sync(self._clear)

    def _clear(self) -> None:
        git_dir.remove(self._place)
        self._objects.mkdir(parents=True)

    async def any(self) -> bool:
        """Whether it holds a commit, whole or being fetched, that is not in our clone."""
        with on_disk(self._place):
            found = await anyio.to_thread.run_sync(lambda: [*self._place.glob("*.*")])
        return any([p.suffix != _WHOLE or not await self._git.holds(p.stem) for p in found])

    async def keep(self, shas: Collection[str]) -> None:
        """Drop all but these commits, which remotes show."""
        with on_disk(self._place):
            await self._let_go(lambda sha: sha not in shas)

    async def drop(self, sha: str) -> None:
        """This one is in our clone now."""
        with on_disk(self._place):
            await self._let_go(lambda other: other == sha)

    async def _let_go(self, unwanted: Callable[[str], bool]) -> None:
        """Git may have brought more than what it was asked for: of that nothing may stay known."""
        if await anyio.to_thread.run_sync(self._drop, unwanted):
            await self.commits.session.end()

    def _drop(self, unwanted: Callable[[str], bool]) -> bool:
        """Whether any was there."""
        waiting = {path: path.read_text().split() for path in self._place.glob(f"*{_WHOLE}")}
        over = {path for path in waiting if unwanted(path.stem)}
        needed = {name for path, names in waiting.items() if path not in over for name in names}
        for path in over:
            for name in set(waiting[path]) - needed:
                (self._objects / name).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        return bool(over)

    async def fetch(
        self,
        remote: Remote,
        expected: str,
        channel: Channel | None = None,
        *,
        timeout_s: float = FETCH_TIMEOUT_S,
    ) -> None:
        """Fetch the branch with its full history, which a probe saw at ``expected``.

        Over ``channel`` first, if there is one; where that fails, over a connection of its own.
        Raises :class:`UnreachableError` when nothing usable arrived, :class:`PermanentError` when
        the remote answered that there is no such branch, :class:`TransientError` for the disk.
        """
        scratch = self._place / f"{expected}{_HALF}"
        with on_disk(self._place.parent):
            await anyio.to_thread.run_sync(git_dir.remove, scratch)
            await anyio.to_thread.run_sync(git_dir.write_anew, self._git.dir)
            try:
                await self._arrive(remote, scratch, expected, channel, timeout_s)
            finally:
                await to_the_end(lambda: git_dir.remove(scratch))

    async def _arrive(
        self,
        remote: Remote,
        scratch: Path,
        expected: str,
        channel: Channel | None,
        timeout_s: float,
    ) -> None:
        await anyio.to_thread.run_sync(git_dir.begin_scratch, scratch, self._git.dir / "objects")
        aside = {"GIT_DIR": str(scratch), "GIT_WORK_TREE": ""}
        fetch = partial(
            self._git.run,
            *remote_options(remote),
            # A pack, however little it is: one file less to move for each object.
            "-c", "fetch.unpackLimit=1",
            # Nothing of it outlives the machine's run: see clear().
            "-c", "core.fsync=none",
            "fetch", "--quiet", "--no-tags", "--no-write-fetch-head",
            "--no-recurse-submodules", "--no-auto-maintenance",
            "--", remote.url, f"refs/heads/{self._branch}:{git_dir.SCRATCH_REF}",
            timeout_s=timeout_s,
            max_file=MAX_PACK,
        )  # fmt: skip
        env = self._git.remote_env(remote) | aside
        try:
            result = await fetch(env=env | over(channel), pass_fds=channel) if channel else None
            if result is None or result.code != 0:
                result = await fetch(env=env)
        except OverdueError:
            raise UnreachableError(
                f"{remote.name}: it has not delivered {expected[:7]} within {timeout_s:g} s"
            ) from None
        if result.code != 0:
            raise fetch_error(remote, self._branch, result.err.decode(errors="replace"))
        brought = await anyio.to_thread.run_sync((scratch / git_dir.SCRATCH_REF).read_text)
        if brought.strip() != expected:
            ancestor = ("merge-base", "--is-ancestor", expected, git_dir.SCRATCH_REF)
            if (await self._git.run(*ancestor, env=aside)).code != 0:
                raise UnreachableError(
                    f"{remote.name}: it shows {expected[:7]} and delivers {brought[:7]} without it"
                )
        await to_the_end(lambda: self._add(scratch, expected))

    def _add(self, scratch: Path, sha: str) -> None:
        """Its objects; the index of a pack last, for by that Git knows of it.

        Before them the list by which they are found and go: what is there without being on one
        would be known for ever. An earlier list, of what was moved in part, stays in force.
        """
        names = sorted(git_dir.objects(scratch / "objects"), key=lambda name: name.endswith(".idx"))
        with (self._place / f"{sha}{_WHOLE}").open("a") as waiting:
            waiting.write("".join(f"\n{name}" for name in names))
        for name in names:
            place = self._objects / name
            place.parent.mkdir(exist_ok=True)
            (scratch / "objects" / name).replace(place)

"""Whether a clone has all that its refs need, looked at again only where that may have changed.

The look walks the whole history. What it found is noted in the runtime directory, which ends with
the machine's run, with all files of objects and refs as they were: sizes, times, inodes. After the
next boot, after a day, and after anything was written there, it is taken anew.
"""

from __future__ import annotations

import hashlib
import stat
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio.to_thread

from agent.adapters.git.commits import Commits
from agent.adapters.git.git import broken
from agent.adapters.git.refs import OURS

_LASTS_S = 24 * 3600.0


async def whole(commits: Commits, note: Path | None) -> bool:
    """Whether everything that the references of ``commits``' clone need is there and readable.

    ``note`` is the file that remembers it, if any. Raises :class:`TransientError` when Git was
    killed: that says nothing about the clone.
    """
    git = commits.git
    now = await anyio.to_thread.run_sync(_fingerprint, git.dir)
    if note is not None and await anyio.to_thread.run_sync(partial(_noted, note, now)):
        return True
    fsck = await git.run("fsck", "--connectivity-only", "--no-dangling", "--no-progress")
    if fsck.code < 0:
        raise broken("Git was killed", fsck)
    if fsck.code != 0 or not await commits.commits_only(OURS):
        return False
    if note is not None:
        await anyio.to_thread.run_sync(_put_down, note, now)
    return True


def _noted(note: Path, now: str) -> bool:
    try:
        at_s, _, then = note.read_text().partition(" ")
        # Less than nothing: the directory has outlived a run of the machine.
        return 0 <= _run_s() - float(at_s) < _LASTS_S and then == now
    except (OSError, ValueError):
        return False


def _put_down(note: Path, now: str) -> None:
    with suppress(OSError):  # then the next start looks again
        note.write_text(f"{_run_s()} {now}")


def _run_s() -> float:
    """For how long the machine has run."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _fingerprint(git_dir: Path) -> str:
    found = hashlib.sha256()
    files = [path for name in ("objects", "refs") for path in (git_dir / name).rglob("*")]
    for path in sorted([*files, git_dir / "HEAD", git_dir / "packed-refs"]):
        with suppress(FileNotFoundError):
            info = path.lstat()
            if not stat.S_ISDIR(info.st_mode):
                seen = (path, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)
                found.update(f"{seen}\n".encode(errors="surrogateescape"))
    return found.hexdigest()

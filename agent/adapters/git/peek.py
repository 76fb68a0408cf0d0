"""A look at the newest commit of a remote before there is a clone: a few small files of it."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import anyio.to_thread

from agent.adapters.git.git import Git, fetch_error, remote_options
from agent.domain.config import Remote
from agent.domain.errors import TransientError

_TIMEOUT_S = 120.0
_MAX_PACK = 256 * 1024 * 1024
_REF = "refs/heads/seen"


async def files(
    remote: Remote, branch: str, askpass: Path, wanted: re.Pattern[str]
) -> dict[str, bytes]:
    """The contents of the files of the branch whose paths match ``wanted`` as a whole.

    ``askpass`` is the program that Git asks for a token. Raises :class:`UnreachableError` or
    :class:`PermanentError` as a fetch does, :class:`TransientError` for the disk.
    """
    place = await anyio.to_thread.run_sync(_scratch)
    try:
        root = Path(place.name)
        git = Git(root, askpass, git_dir=root / "git")
        alone = {"GIT_DIR": "", "GIT_WORK_TREE": ""}
        await git.check("init", "--quiet", "--bare", str(git.dir), env=alone)
        fetched = await git.run(
            *remote_options(remote),
            "fetch", "--quiet", "--no-tags", "--depth=1", "--no-auto-maintenance",
            "--", remote.url, f"refs/heads/{branch}:{_REF}",
            env={**git.remote_env(remote), "GIT_WORK_TREE": ""},
            timeout_s=_TIMEOUT_S,
            max_file=_MAX_PACK,
        )  # fmt: skip
        if fetched.code != 0:
            raise fetch_error(remote, branch, fetched.err.decode(errors="replace"))
        return await _contents(git, wanted)
    finally:
        await anyio.to_thread.run_sync(place.cleanup)


def _scratch() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="commitd-setup-")
    except OSError as err:
        raise TransientError(f"no scratch directory can be made: {err.strerror}") from None


async def _contents(git: Git, wanted: re.Pattern[str]) -> dict[str, bytes]:
    listed = await git.check("ls-tree", "-r", "-z", _REF)
    entries = (line.split("\t", 1) for line in listed.decode(errors="replace").split("\0") if line)
    found_at = ((meta.split(), path) for meta, path in entries if wanted.fullmatch(path))
    oids = {path: oid for (_, kind, oid), path in found_at if kind == "blob"}
    if not oids:
        return {}
    asked = "".join(f"{oid}\n" for oid in oids.values()).encode()
    answer, found = await git.check("cat-file", "--batch", stdin=asked), {}
    for path in oids:
        head, _, rest = answer.partition(b"\n")
        size = int(head.split()[2])
        found[path], answer = rest[:size], rest[size + 1 :]
    return found

"""The repository as a person has it: a clone's files as they are on disk, or one of its commits."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

import anyio.to_thread
from msgspec import Struct
from msgspec.structs import replace

from agent.adapters.git.commits import Commits
from agent.adapters.git.git import Git, broken
from agent.domain import lfs
from agent.domain.errors import ConfigError, PermanentError
from agent.domain.repository.tree import GITLINK, PLAIN, SYMLINK, Tree, TreeEntry, small
from agent.domain.revision import Revision

ON_DISK = Revision(sha="", author="", committed_at="", subject="the working tree")
_CHUNK = 1024 * 1024
_MAIN = ("origin/HEAD", "origin/main", "origin/master", "main", "master")
"""What the branch that hosts follow may be called here."""
_NOBODY = Path("/nonexistent")
"""Nothing here talks to a remote that asks for a password."""


class Source(Struct, frozen=True):
    """A tree, the contents of its small files by path, and the commit (``ON_DISK``: none).

    Of the paths in ``elsewhere`` Git LFS has the content, and Git a pointer, whatever is on disk.
    """

    tree: Tree
    contents: Mapping[str, bytes]
    revision: Revision
    elsewhere: frozenset[str] = frozenset()


async def on_disk(root: Path) -> Source:
    """The files in ``root`` with all edits, but those that Git ignores.

    Raises :class:`CommitdError`. A directory that no Git knows is taken as it is.
    """
    if await anyio.to_thread.run_sync((root / ".git").exists):
        git = Git(root, _NOBODY)
        words = ("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ".")
        result = await git.run(*words)
        if result.code != 0:
            raise broken("the clone cannot be read", result)
        names = set(os.fsdecode(result.out).split("\0")) - {""}
        elsewhere = await _elsewhere(git, names)
    else:
        await _refuse_part(root)
        names = await anyio.to_thread.run_sync(_walk, root)
        elsewhere = frozenset()
    source = await anyio.to_thread.run_sync(_read, root, names)
    return replace(source, elsewhere=elsewhere & source.tree.keys())


async def _elsewhere(git: Git, names: Iterable[str]) -> frozenset[str]:
    """The paths that the attributes of the clone give to Git LFS, unless Git has them whole."""
    asked = os.fsencode("".join(f"{name}\0" for name in names))
    result = await git.run("check-attr", "-z", "--stdin", "filter", stdin=asked)
    if result.code != 0:
        raise broken("the attributes of the clone cannot be read", result)
    words = os.fsdecode(result.out).split("\0")
    found = [path for path, value in zip(words[::3], words[2::3], strict=False) if value == "lfs"]
    if not found:
        return frozenset()
    asked = os.fsencode("".join(f":{path}\0" for path in found))
    result = await git.run("cat-file", "--batch-check=%(objectsize)", "-z", stdin=asked)
    if result.code != 0:
        raise broken("the index of the clone cannot be read", result)
    sizes = result.out.decode(errors="replace").splitlines()
    # What is not in the index yet becomes a pointer when it is added.
    return frozenset(
        path
        for path, size in zip(found, sizes, strict=False)
        if not size.isdigit() or int(size) <= lfs.MAX_BYTES
    )


async def at(root: Path, rev: str) -> Source:
    """The commit that ``rev`` names in the clone in ``root``. Raises :class:`CommitdError`."""
    if not await anyio.to_thread.run_sync((root / ".git").exists):
        raise ConfigError("this is no clone of a Git repository", where=str(root))
    sha = await _commit(Git(root, _NOBODY), rev)
    if sha is None:
        raise ConfigError(
            f"there is no commit {rev!r} in this clone",
            hint="fetch it first; in CI check out the whole history (fetch-depth: 0)",
        )
    commits = Commits(Git(root, _NOBODY))
    tree = await commits.tree(sha)
    contents = await commits.contents(small(tree))
    return Source(tree, contents, await commits.revision(sha))


async def commit_before(root: Path) -> str | None:
    """The commit after which the files in ``root`` come, as a pull request has it.

    That is where this branch left the main one; on the main one itself the commit under the edits,
    or the one before it. None: there is none here. Raises :class:`CommitdError`.
    """
    if not await anyio.to_thread.run_sync((root / ".git").exists):
        return None
    git = Git(root, _NOBODY)
    head = await _commit(git, "HEAD")
    if head is None:
        return None
    for name in _MAIN:
        if (main := await _commit(git, name)) is None:
            continue
        base = (await git.run("merge-base", head, main)).out.decode().strip()
        if base and base != head:
            return base
    changed = await git.run("status", "--porcelain=v1", "--untracked-files=all")
    return head if changed.out else await _commit(git, "HEAD~1")


async def _commit(git: Git, name: str) -> str | None:
    words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    result = await git.run(*words)
    return result.out.decode().strip() if result.code == 0 else None


def _clone_above(root: Path) -> Path | None:
    return next((above for above in root.parents if (above / ".git").exists()), None)


async def _refuse_part(root: Path) -> None:
    """Hosts look at the top of a repository and nowhere else."""
    top = await anyio.to_thread.run_sync(_clone_above, root)
    if top is None:
        return
    result = await Git(top, _NOBODY).run("ls-files", "--", f":(literal){root.relative_to(top)}")
    if result.code == 0 and result.out:
        raise ConfigError(
            f"this is a part of the repository in {top}, and hosts read only what is at its top",
            where=str(root),
            hint="stacks/ and host/ belong there, or into a repository of their own",
        )


def _walk(root: Path) -> set[str]:
    found: set[str] = set()
    for base, directories, files in os.walk(root):
        directories[:] = [name for name in directories if name != ".git"]
        links = [name for name in directories if Path(base, name).is_symlink()]
        found |= {Path(base, name).relative_to(root).as_posix() for name in (*files, *links)}
    return found


def _read(root: Path, names: set[str]) -> Source:
    try:
        found = sorted((e for name in names if (e := _entry(root, name))), key=lambda e: e.path)
        tree = {entry.path: entry for entry in found}
        # A name that is no UTF-8 is a fault for whoever looks at the tree.
        here = [path for path in small(tree) if path in names]
        contents = {path: _bytes(root / path) for path in here}
    except OSError as err:
        where = os.path.relpath(err.filename, root) if err.filename else str(root)
        raise PermanentError(f"it cannot be read: {err.strerror}", where=where) from None
    return Source(tree, contents, ON_DISK)


def _entry(root: Path, name: str) -> TreeEntry | None:
    """As Git would commit the path; None for what was deleted."""
    path = root / name
    shown = os.fsencode(name).decode(errors="replace")
    try:
        info = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISDIR(info.st_mode):
        return TreeEntry(shown, GITLINK, "", 0)  # another repository in this one
    if stat.S_ISLNK(info.st_mode):
        mode = SYMLINK
    elif stat.S_ISREG(info.st_mode):
        mode = "100755" if info.st_mode & stat.S_IXUSR else PLAIN
    else:
        return None  # nothing that Git could commit
    return TreeEntry(shown, mode, _oid(path, info), info.st_size)


def _oid(path: Path, info: os.stat_result) -> str:
    digest = hashlib.sha1(b"blob %d\0" % info.st_size, usedforsecurity=False)
    if stat.S_ISLNK(info.st_mode):
        digest.update(_bytes(path))
    else:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def _bytes(path: Path) -> bytes:
    return os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()

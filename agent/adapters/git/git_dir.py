"""Git's own directory, ``state_dir/git``: outside of what containers mount, and scrubbed.

Of all that Git would read there only this is kept: objects, refs, ``HEAD`` and the indexes. What
configures Git (``config``, ``info/``, ``hooks/``, alternates, other work trees) is taken out or
written anew, at each start and before each fetch. Everything here blocks.

    state_dir/repo/.git   where agents had it before: any container that mounts the checkout could
          │               have written to it
          │ its objects are copied, nothing else; the refs are made of what the journal says was
          │ applied; then every hash is checked
          ▼
    state_dir/git.new ──▶ state_dir/git ──▶ repo/.git is deleted

An agent that is killed on that way begins it again: ``repo/.git`` stays until the end. One that
cannot be used is put aside as ``state_dir/git-broken/repo.git``.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from agent.adapters.git.work_tree import opened
from agent.domain.errors import TransientError
from agent.domain.repository.tree import PLAINTEXT_PREFIX

_CONFIG = """\
[core]
	repositoryformatversion = 0
	filemode = true
	bare = false
	worktree = ../repo
	logAllRefUpdates = false
"""
_SCRATCH = """\
[core]
	repositoryformatversion = 0
	filemode = true
	bare = true
	logAllRefUpdates = false
"""
SCRATCH_REF = "refs/heads/incoming"
_EXCLUDE = f"{PLAINTEXT_PREFIX}*\n"
_AS_COMMITTED = "* -text -ident !eol !filter !working-tree-encoding !diff !merge\n"
"""What is judged is what a commit holds, so that must be what lands on disk and Compose reads."""

INDEX, EXPORT_INDEX, OVERLAY_INDEX = "index", "export.index", "overlay.index"
_KEPT = frozenset(
    {"objects", "refs", "packed-refs", "HEAD", INDEX, EXPORT_INDEX, OVERLAY_INDEX, "info", "config"}
)
_AT_WORK = (".lock", ".new")
"""What Git's own files are called while it writes them."""

_OBJECT = re.compile(r"[0-9a-f]{2}/[0-9a-f]{38,62}|pack/pack-[0-9a-f]{40,64}\.(pack|idx)")
_CHUNK = 1024 * 1024


def write_anew(git_dir: Path) -> None:
    """Leave nothing in ``git_dir`` that configures Git but what the agent writes there itself.

    A Git that runs meanwhile sees what was there before or what is there then, both the same.
    """
    for entry in list(os.scandir(git_dir)):
        if entry.name not in _KEPT and not entry.name.endswith(_AT_WORK):
            remove(Path(entry.path))
    remove(git_dir / "objects" / "info")
    info = git_dir / "info"
    if info.is_symlink() or not info.is_dir():
        remove(info)
        info.mkdir()
    own = {info / "exclude": _EXCLUDE, info / "attributes": _AS_COMMITTED}
    for path in set(info.iterdir()) - own.keys():
        remove(path)
    for path, text in {**own, git_dir / "config": _CONFIG}.items():
        aside = git_dir / f"{path.name}.new"
        remove(aside)
        aside.write_text(text)
        if path.is_dir() and not path.is_symlink():
            remove(path)
        aside.replace(path)


def begin_scratch(place: Path, borrowed: Path) -> None:
    """An empty bare clone in ``place``, which reads the objects in ``borrowed`` as well."""
    for directory in ("objects/info", "refs/heads"):
        (place / directory).mkdir(parents=True)
    (place / "objects" / "info" / "alternates").write_text(f"{borrowed}\n")
    (place / "config").write_text(_SCRATCH)
    (place / "HEAD").write_text("ref: refs/heads/nothing\n")


def remove(path: Path) -> None:
    """Whatever is there, if anything; a link itself, never what it leads to."""
    with suppress(FileNotFoundError, NotADirectoryError):
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()


def is_clone(place: Path) -> bool:
    """Whether a directory of Git is there; no link to one."""
    return not place.is_symlink() and (place / "HEAD").is_file()


def copy_old(old: Path, new: Path, applied: str, ref: str) -> None:
    """The objects of the clone in ``old`` to ``new``, with ``HEAD`` and ``ref`` at ``applied``.

    No ref of ``old`` is believed: whoever could write there could have set it. Copied, not moved:
    whoever holds a file of ``old`` open could go on writing to it. Raises :class:`OSError`, and
    leaves nothing of ``new``, where it cannot be copied; :class:`TransientError`, having begun
    nothing, where it cannot fit.
    """
    remove(new)
    needed = sum(size for _, _, _, size in _objects(old))
    free = shutil.disk_usage(new.parent).free
    if needed > free:
        raise TransientError(
            f"no room to move the clone: {_mib(needed)} are needed, {_mib(free)} are free",
            where=str(new.parent),
            hint="make room there; until then nothing is changed",
        )
    try:
        (new / "objects").mkdir(parents=True)
        (new / "refs").mkdir()
        for inner, name, fd, _ in _objects(old):
            place = new / "objects" / inner
            place.parent.mkdir(exist_ok=True)
            _copy(name, fd, place)
        (new / "HEAD").write_text(f"{applied}\n")
        (new / "packed-refs").write_text(f"{applied} {ref}\n")
    except OSError:
        remove(new)
        raise


def _objects(old: Path) -> Iterator[tuple[str, str, int, int]]:
    """Regular files that are called as objects and packs are: path, name, directory, bytes."""
    for base, _, names, fd in os.fwalk(old / "objects", follow_symlinks=False):
        for name in names:
            inner = Path(base, name).relative_to(old / "objects").as_posix()
            if _OBJECT.fullmatch(inner):
                info = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISREG(info.st_mode):
                    yield inner, name, fd, info.st_size


def objects(place: Path) -> list[str]:
    """The files below ``place``, which is nobody else's, that hold objects: their paths there."""
    found = (path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())
    return [name for name in found if _OBJECT.fullmatch(name)]


def _mib(size: int) -> str:
    return f"{size / 1024**2:,.0f} MiB"


def _copy(name: str, directory: int, to: Path) -> None:
    with opened(name, directory) as source, to.open("xb") as target:
        shutil.copyfileobj(source, target, _CHUNK)


def remove_remains(state_dir: Path) -> None:
    """What older agents left: a broken clone in the checkout, and the place of their fetches."""
    broken = state_dir / "repo" / ".git-broken"
    if is_clone(broken):
        remove(broken)
    remove(state_dir / "incoming.git")

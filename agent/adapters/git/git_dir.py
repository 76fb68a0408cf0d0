"""Git's own directory, ``state_dir/git``: outside of what containers mount, and scrubbed.

Of all that Git would read there only this is kept: objects, refs, ``HEAD`` and the indexes. What
configures Git (``config``, ``info/``, ``hooks/``, alternates, other work trees) is taken out or
written anew, at each start and before each fetch. Everything here blocks.

    state_dir/repo/.git   where agents had it before: any container that mounts the checkout could
          │               have written to it
          │ copied, only what has a name and a kind that belongs there; then every hash is checked
          ▼
    state_dir/git.new ──▶ state_dir/git ──▶ repo/.git is deleted

An agent that is killed on that way begins it again: ``repo/.git`` stays until the end.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from agent.adapters.git.work_tree import opened
from agent.domain.repository.tree import PLAINTEXT_PREFIX

_CONFIG = """\
[core]
	repositoryformatversion = 0
	filemode = true
	bare = false
	worktree = ../repo
	logAllRefUpdates = false
"""
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
_REF = re.compile(r"refs/(heads/commitd|commitd/(applied|pending))")
"""Those that say what is checked out; older agents had one for each remote as well."""
_SHA = re.compile(r"[0-9a-f]{40,64}")
_CHUNK = 1024 * 1024
_MAX_REFS = 1024 * 1024
"""Bytes of a file of refs."""


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


def remove(path: Path) -> None:
    """Whatever is there, if anything; a link itself, never what it leads to."""
    with suppress(FileNotFoundError, NotADirectoryError):
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()


def copy_old(old: Path, new: Path) -> None:
    """What of the clone in ``old`` is history to ``new``, which is made anew.

    Copied, not moved: whoever holds a file of ``old`` open could go on writing to it.
    """
    remove(new)
    (new / "objects").mkdir(parents=True)
    (new / "refs").mkdir()
    refs: dict[str, str] = {}
    for line in _text(old, "packed-refs").splitlines():
        sha, _, name = line.partition(" ")
        refs[name] = sha
    for base, _, names, fd in os.fwalk(old, follow_symlinks=False):
        for name in names:
            path = Path(base, name).relative_to(old).as_posix()
            inner = path.removeprefix("objects/")
            if inner != path and _OBJECT.fullmatch(inner):
                place = new / path
                place.parent.mkdir(exist_ok=True)
                _copy(name, fd, place)
            elif _REF.fullmatch(path):
                refs[path] = _content(name, fd)
    head = _text(old, "HEAD")
    on = head.removeprefix("ref: ")
    if not (_SHA.fullmatch(head) or (on != head and _REF.fullmatch(on))):
        head = "ref: refs/heads/commitd"
    (new / "HEAD").write_text(f"{head}\n")
    kept = {n: sha for n, sha in refs.items() if _REF.fullmatch(n) and _SHA.fullmatch(sha)}
    (new / "packed-refs").write_text("".join(f"{sha} {n}\n" for n, sha in sorted(kept.items())))


def _text(directory: Path, name: str) -> str:
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return ""
    try:
        return _content(name, fd)
    finally:
        os.close(fd)


def _content(name: str, directory: int) -> str:
    """Of a regular file; nothing of anything else."""
    with suppress(OSError), opened(name, directory) as file:
        return file.read(_MAX_REFS).decode(errors="replace").strip()
    return ""


def _copy(name: str, directory: int, to: Path) -> None:
    with opened(name, directory) as source, to.open("xb") as target:
        shutil.copyfileobj(source, target, _CHUNK)

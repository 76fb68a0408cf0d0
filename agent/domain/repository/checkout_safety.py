"""Rule 3, look before reset: is it safe to put this tree over what is on disk?"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from agent.domain.finding import Fault
from agent.domain.repository.layout import PLAINTEXT_PREFIX
from agent.domain.repository.tree import GITLINK, REGULAR, SYMLINK, Tree

MAX_FILES = 50_000
MAX_TOTAL_BYTES = 512 * 1024 * 1024
IN_THE_WAY = "an untracked file is in the way"
MOVE = "move the data on the host, or choose another name in the commit"


def faults(tree: Tree, links: Mapping[str, str]) -> list[Fault]:
    """What in the commit itself forbids a checkout. ``links`` maps symlinks to their targets."""
    found: list[Fault] = []
    if len(tree) > MAX_FILES:
        found.append(Fault(f"{len(tree):,} files, more than {MAX_FILES:,}", "."))
    if sum(entry.size for entry in tree.values()) > MAX_TOTAL_BYTES:
        found.append(Fault(f"more than {MAX_TOTAL_BYTES // 2**20} MiB of files", "."))
    for path, entry in tree.items():
        if entry.mode == GITLINK or path == ".gitmodules":
            found.append(Fault("a submodule", path, "commit the files themselves"))
        elif entry.mode == SYMLINK and not stays_inside(path, links.get(path, "/")):
            message = f"a symlink to {links.get(path, '?')!r}"
            found.append(Fault(message, path, "point it inside the repository"))
        elif entry.mode not in REGULAR and entry.mode != SYMLINK:
            found.append(Fault(f"an entry of the odd mode {entry.mode}", path))
        elif any(ord(c) < 32 or ord(c) == 127 for c in path) or "�" in path:  # noqa: PLR2004
            found.append(Fault("a name with control or broken characters", repr(path), "rename it"))
        elif any(part.lower() in {".git", "git~1"} for part in path.split("/")):
            found.append(Fault("a name that Git itself uses", path, "rename it"))
        elif path.rpartition("/")[2].startswith(PLAINTEXT_PREFIX):
            message = "a name that is kept for decrypted files"
            found.append(Fault(message, path, "git rm it; was a secret pushed?"))
    return found


def stays_inside(path: str, target: str) -> bool:
    """Whether the symlink at ``path`` can only lead to a place inside the repository.

    ``..`` counts only in front, where the parents are real directories: behind a name it could
    climb out through another link. The system ends a target at its first NUL, Git does not.
    """
    if target.startswith("/") or not target or "\0" in target:
        return False
    depth = path.count("/")
    climbing = True
    for part in target.split("/"):
        if part == "..":
            depth -= 1
            if not climbing or depth < 0:
                return False
        elif part not in {"", "."}:
            climbing = False
            if part.lower() == ".git":
                return False
    return True


def parents(paths: Iterable[str]) -> frozenset[str]:
    """Every directory above any of ``paths``."""
    found: set[str] = set()
    for path in paths:
        directory = path.rpartition("/")[0]
        while directory and directory not in found:
            found.add(directory)
            directory = directory.rpartition("/")[0]
    return frozenset(found)


def collisions(
    new: Tree,
    current: Collection[str],
    on_disk: Mapping[str, bool],
    untracked_below: frozenset[str],
) -> list[Fault]:
    """Untracked data that a move from ``current`` to ``new`` would overwrite or delete.

    ``current`` are the paths that Git has put there. ``on_disk`` maps each path of ``new`` (and
    their parents) to whether it is a directory on disk, absent ones left out; ``untracked_below``
    are the directories that hold untracked data.
    """
    found: list[Fault] = []
    for path in sorted(new):
        if on_disk.get(path) is True and path in untracked_below:
            found.append(Fault("a directory with untracked data is in the way", path, MOVE))
        elif on_disk.get(path) is False and path not in current:
            found.append(Fault(IN_THE_WAY, path, MOVE))
        found += [
            Fault(IN_THE_WAY, parent, MOVE)
            for parent in sorted(parents([path]))
            if on_disk.get(parent) is False and parent not in current
        ]
    return list(dict.fromkeys(found))

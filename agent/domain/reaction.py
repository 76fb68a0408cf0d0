"""What a running service needs so that it sees files which are mounted into it and have changed.

The engine mounts what was there when the container was started, not a name. Git puts a new file in
the place of one that changed, and a new directory in the place of one of which no file stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

Files = Iterable[tuple[str, str]]
"""Paths of the repository and their Git objects."""


def sufficient(wanted: str, mounts: Collection[str], older: Files, now: Files) -> str:
    """``wanted``, or ``restart`` where that is a signal which would show the service nothing new.

    ``mounts`` are the paths of the repository that are mounted, files and directories; ``older``
    and ``now`` all files at or below them.
    """
    if not wanted.startswith("signal:"):
        return wanted
    before, after = dict(older), dict(now)
    stay = before.keys() & after.keys()
    lasting = {m for m in mounts if any(path.startswith(f"{m}/") for path in stay)}
    changed = {p for p in before.keys() | after.keys() if before.get(p) != after.get(p)}
    seen = all(
        path not in mounts and any(path.startswith(f"{mount}/") for mount in lasting)
        for path in changed
    )
    return wanted if seen else "restart"

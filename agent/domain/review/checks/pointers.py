"""Pointers of Git LFS where the files themselves are meant."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from agent.domain import lfs
from agent.domain.finding import Finding, Level
from agent.domain.review.checks.places import Places
from agent.domain.review.checks.stacks import mount_place

RULE = "lfs"


def read(places: Places, pointers: Collection[str]) -> Iterator[Finding]:
    """Of ``pointers``, by path, those that Compose reads: its own files, and those of values."""
    read = [*places.read.compose, *places.env_files]
    read += places.stack.secrets
    for path in dict.fromkeys(read):
        if path in pointers:
            yield Finding(
                level=Level.ERROR, rule=RULE, where=path, message=lfs.MESSAGE, hint=lfs.HINT
            )


def mounted(
    model: Mapping[str, Any], root: str, places: Places, pointers: Collection[str]
) -> Iterator[Finding]:
    """Those that containers get; ``root`` stands for the repository in ``model``."""
    for name, service in sorted((model.get("services") or {}).items()):
        for mount in service.get("volumes") or []:
            target = str(mount.get("target"))
            lost = _files(str(mount.get("source")), root, places) & set(pointers)
            if mount.get("type") == "bind" and lost:
                yield _finding(f"{name}: {target}", lost, mount_place((name,), target, places))
    for kind in ("configs", "secrets"):
        for name, value in sorted((model.get(kind) or {}).items()):
            lost = _files(str((value or {}).get("file")), root, places) & set(pointers)
            if lost:
                yield _finding(f"{kind}: {name}", lost, places.of(kind, name, "file"))


def _files(source: str, root: str, places: Places) -> set[str]:
    """The files of the repository that ``source`` gives to a container."""
    if not f"{source}/".startswith(f"{root}/"):
        return set()
    return places.behind(posixpath.relpath(source, root))


def _finding(what: str, lost: Collection[str], where: str) -> Finding:
    more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
    said = f"{what}: the container gets the LFS pointer that Git has of {min(lost)}{more}"
    return Finding(level=Level.ERROR, rule=RULE, where=where, message=said, hint=lfs.HINT)

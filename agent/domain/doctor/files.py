"""Files that hold a key or a token, files that say whom to trust, and the agent's directories."""

from __future__ import annotations

import stat
from enum import StrEnum

from msgspec import Struct

from agent.domain.doctor.finding import Code, Finding, ok, problem, unknown, warning

ROOT = 0
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})


class File(Struct, frozen=True, kw_only=True):
    """A file as it was seen. ``parent_mode`` and ``parent_owner`` are those of its directory."""

    path: str
    mode: int
    owner: int
    parent: str
    parent_mode: int
    parent_owner: int


class Missing(StrEnum):
    """Why there is no :class:`File`."""

    ABSENT = "there is no such file"
    DENIED = "this user may not look at it"
    NOT_A_FILE = "it is no plain file"


def judge(code: Code, what: str, path: str, seen: File | Missing) -> Finding:
    """A file that the configuration names; ``what`` is the setting.

    ``code`` is ``secret-file`` for one that others must not read, ``trust-file`` for one that
    others must not change.
    """
    said = f"{what}: {path}"
    if seen is Missing.DENIED:
        return unknown(code, f"{said}: {seen}", "sudo commitd doctor")
    if isinstance(seen, Missing):
        return problem(code, f"{said}: {seen}", f"put it there, or change {what}")
    mode = stat.S_IMODE(seen.mode)
    closed = 0o077 if code is Code.SECRET_FILE else 0o022
    if mode & closed:
        open_to = mode & closed
        may = "read it" if open_to & 0o044 else "change it" if open_to & 0o022 else "run it"
        remedy = f"chmod {'600' if code is Code.SECRET_FILE else '644'} {path}"
        if code is Code.SECRET_FILE:
            remedy += "; if somebody else may have read it, replace what is in it"
        return problem(code, f"{said}: others may {may} (mode {mode:04o})", remedy)
    if seen.owner != ROOT:
        return problem(
            code, f"{said}: it belongs to user {seen.owner}, not to root", f"chown root: {path}"
        )
    if stat.S_IMODE(seen.parent_mode) & 0o022 and not seen.parent_mode & stat.S_ISVTX:
        return problem(
            code,
            f"{said}: others may put another in its place ({seen.parent} has mode"
            f" {stat.S_IMODE(seen.parent_mode):04o})",
            f"chmod go-w {seen.parent}",
        )
    if seen.parent_owner != ROOT:
        return problem(
            code,
            f"{said}: user {seen.parent_owner} may put another in its place",
            f"chown root: {seen.parent}",
        )
    return ok(code, f"{said} (mode {mode:04o})")


def directory(what: str, path: str, seen: File | Missing, *, passable: bool) -> Finding:
    """A directory of the agent's own; ``passable``: a group may pass to the socket in it."""
    said = f"{what}: {path}"
    if seen is Missing.DENIED:
        return unknown(Code.DIRECTORY, f"{said}: {seen}", "sudo commitd doctor")
    if seen is Missing.NOT_A_FILE:
        remedy = f"move it away, or change {what}"
        return problem(Code.DIRECTORY, f"{said}: it is no directory", remedy)
    if isinstance(seen, Missing):
        return warning(
            Code.DIRECTORY,
            f"{said}: it is not there yet",
            "the agent makes it when it starts: systemctl start commitd",
        )
    mode = stat.S_IMODE(seen.mode)
    if mode & (0o067 if passable else 0o077):
        return problem(
            Code.DIRECTORY,
            f"{said}: others may look into it (mode {mode:04o})",
            "the agent closes it when it starts: systemctl restart commitd",
        )
    if seen.owner != ROOT:
        remedy = f"find out who changed it, then chown root: {path}"
        return problem(Code.DIRECTORY, f"{said}: it belongs to user {seen.owner}", remedy)
    return ok(Code.DIRECTORY, f"{said} (mode {mode:04o})")


def volatile(path: str, file_system: str, *, needed: bool) -> Finding:
    """Where ``secrets.store: runtime`` keeps plaintext; ``file_system`` is its kind.

    ``needed``: the agent does not start otherwise.
    """
    if file_system in _IN_MEMORY:
        return ok(Code.DIRECTORY, f"secrets.store: runtime: {path} is in memory ({file_system})")
    return (problem if needed else warning)(
        Code.DIRECTORY,
        f"secrets.store: runtime: {path} is on {file_system or 'an unknown file system'},"
        " so plaintext is on a disk all the same",
        "make runtime_dir a tmpfs, as /run is",
    )

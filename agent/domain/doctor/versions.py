"""Versions of the programs, against those that were tried (docs/reference/compatibility.md)."""

from __future__ import annotations

import re

from msgspec import Struct

from agent.domain.doctor.finding import Code, Finding, ok, problem, unknown, warning

_NUMBERS = re.compile(r"v?(\d+)\.(\d+)")


class Range(Struct, frozen=True):
    """The oldest version that works, and the newest major one that was tried."""

    name: str
    oldest: tuple[int, int]
    newest: int | None = None

    @property
    def need(self) -> str:
        """What is to be installed."""
        return f"{self.name} {self.oldest[0]}.{self.oldest[1]} or newer"


DOCKER = Range("Docker Engine", (20, 10), 28)
COMPOSE = Range("Docker Compose", (2, 24), 5)
GIT = Range("git", (2, 39))
SOPS = Range("SOPS", (3, 10))


def judge(code: Code, wanted: Range, said: str | None) -> Finding:
    """What the program says of its version, such as ``2.39.5`` or ``v2.40.3``; None: no program."""
    if said is None:
        return problem(code, f"{wanted.name} is not on this machine", f"install {wanted.need}")
    found = _NUMBERS.match(said)
    if found is None:
        return unknown(code, f"{wanted.name} says no version: {said[:60]!r}")
    version = (int(found[1]), int(found[2]))
    if version < wanted.oldest:
        return problem(code, f"{wanted.name} {said} is too old", f"install {wanted.need}")
    if wanted.newest is not None and version[0] > wanted.newest:
        return warning(
            code,
            f"{wanted.name} {said} is newer than any that was tried ({wanted.newest})",
            "nothing, as long as all works; docs/reference/compatibility.md has what was tried",
        )
    return ok(code, f"{wanted.name} {said}")

"""Versions of the agent and of the programs it uses, as these say themselves."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import anyio.to_thread
from msgspec import Struct, to_builtins

from agent.adapters import process
from agent.adapters.compose import locate
from agent.adapters.host.programs import BadVersion, here
from agent.domain.errors import CommitdError

_TIMEOUT_S = 10.0


class Beside(Struct, frozen=True, kw_only=True):
    """Versions of the agent on this host: the one that runs at its next start, the one before it,
    whether the first is on trial, and those that were given up.
    """

    current: str | None
    previous: str | None
    on_trial: bool
    bad: tuple[BadVersion, ...]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return dict(to_builtins(self))

    def lines(self) -> Iterator[str]:
        """For people."""
        if self.on_trial:
            yield f"commitd {self.current} is on trial: it has not had a clean cycle yet"
        elif self.current:
            yield f"commitd {self.current} is installed"
        if self.previous and self.previous not in {each.version for each in self.bad}:
            yield f"commitd {self.previous} is installed beside it (commitd rollback-agent)"
        for each in self.bad:
            yield f"commitd {each.version} was given up at {each.at}: {each.why}"


class Versions(Struct, frozen=True, kw_only=True):
    """``programs`` by name; None: not here. ``others`` are each Compose beside the one in use,
    ``beside`` the versions of the agent, where there can be several.
    """

    programs: dict[str, str | None]
    compose: Path | None
    others: dict[Path, str]
    beside: Beside | None = None


async def read() -> Versions:
    """Ask all of them."""
    others = {path: said or "no Compose" for path, said in (await locate.versions()).items()}
    compose = locate.newest(others) or next(iter(others), None)
    programs = {
        "commitd": metadata.version("commitd"),
        "python": platform.python_version(),
        "git": await first_line("git", "version"),
        "docker-compose": others.pop(compose) if compose else None,
        "sops": await first_line("sops", "--version", "--disable-version-check"),
    }
    beside = await anyio.to_thread.run_sync(_beside)
    return Versions(programs=programs, compose=compose, others=others, beside=beside)


def _beside() -> Beside | None:
    found = here()
    if found is None:
        return None
    return Beside(
        current=found.current,
        previous=found.previous,
        on_trial=found.trial() is not None,
        bad=tuple(found.bad()),
    )


async def first_line(program: str, *words: str) -> str | None:
    """What the program prints first, without its name; None: it is not here."""
    if shutil.which(program) is None:
        return None
    env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": "/nonexistent"}
    try:
        result = await process.run([program, *words], env=env, timeout_s=_TIMEOUT_S)
    except CommitdError:
        return "does not answer"
    line = result.out.decode(errors="replace").partition("\n")[0]
    return line.removeprefix(f"{program} version ").removeprefix(f"{program} ") or None

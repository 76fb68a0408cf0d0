"""Versions of the agent and of the programs it uses, as these say themselves."""

from __future__ import annotations

import os
import platform
import shutil
from importlib import metadata
from pathlib import Path

from msgspec import Struct

from agent.adapters import process
from agent.adapters.compose import locate
from agent.domain.errors import CommitdError

_TIMEOUT_S = 10.0


class Versions(Struct, frozen=True):
    """``programs`` by name; None: not here. ``others`` are each Compose beside the one in use."""

    programs: dict[str, str | None]
    compose: Path | None
    others: dict[Path, str]


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
    return Versions(programs, compose, others)


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

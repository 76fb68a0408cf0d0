"""Whether the Git of this machine is new enough."""

from __future__ import annotations

import os
import shutil

import anyio.to_thread

from agent.adapters import process
from agent.domain.errors import ConfigError, MissingError

OLDEST = (2, 39)
_TIMEOUT_S = 10.0


async def check() -> str:
    """Its version. Raises :class:`ConfigError` where it is missing or too old."""
    need = f"install git {OLDEST[0]}.{OLDEST[1]} or newer"
    if await anyio.to_thread.run_sync(shutil.which, "git") is None:
        raise MissingError("git is not on this machine", hint=need)
    result = await process.run(
        ["git", "version"],
        env={"PATH": os.environ.get("PATH", os.defpath)},
        timeout_s=_TIMEOUT_S,
    )
    version = result.out.decode().split()[2]
    numbers = tuple(int(part) for part in version.split(".")[:2])
    if numbers < OLDEST:
        raise ConfigError(f"git {numbers[0]}.{numbers[1]} is too old", hint=need)
    return version

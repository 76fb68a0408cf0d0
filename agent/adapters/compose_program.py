"""Which Docker Compose of this machine is used, and whether it is new enough."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from agent.adapters import process
from agent.adapters.compose import MODEL_TIMEOUT_S, Compose
from agent.domain.errors import ConfigError

OLDEST = (2, 24)
_PLUGIN_DIRS = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)


def binaries() -> list[Path]:
    """Every Compose on this machine: the command, then the files of the CLI's plugin."""
    plugins = [Path(os.environ.get("HOME", "/root"), ".docker/cli-plugins")]
    plugins += [Path(directory) for directory in _PLUGIN_DIRS]
    found = [Path(path)] if (path := shutil.which("docker-compose")) else []
    return found + [p for d in plugins if os.access(p := d / "docker-compose", os.X_OK)]


async def find(docker_host: str, timeout_s: float) -> Compose:
    """The Compose on this machine: ``docker-compose``, or the plugin's own file.

    Raises :class:`ConfigError` when there is none or it is too old.
    """
    found = binaries()
    need = f"install Docker Compose {OLDEST[0]}.{OLDEST[1]} or newer"
    if not found:
        raise ConfigError("Docker Compose is not on this machine", hint=need)
    seen = []
    for binary in found:
        result = await process.run(
            [str(binary), "--host", docker_host, "version", "--short"],
            env={"PATH": os.environ.get("PATH", os.defpath), "HOME": "/nonexistent"},
            timeout_s=MODEL_TIMEOUT_S,
        )
        version = result.out.decode(errors="replace").strip().removeprefix("v")
        numbers = re.match(r"(\d+)\.(\d+)", version)
        if numbers and (int(numbers[1]), int(numbers[2])) >= OLDEST:
            return Compose(binary, docker_host, timeout_s)
        seen.append(f"{binary} is {version or 'no Compose'}")
    raise ConfigError(f"Docker Compose is too old: {'; '.join(seen)}", hint=need)

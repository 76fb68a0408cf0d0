"""Which Docker Compose of this machine is used, and whether it is new enough.

There can be several: the command, and plugins of the Docker command line for one user or for all.
The newest is taken, as a package that came later left an older one where it was.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import anyio.to_thread

from agent.adapters import process
from agent.adapters.compose.compose import Compose
from agent.adapters.compose.go_runtime import SETTINGS
from agent.adapters.compose.program import MODEL_TIMEOUT_S
from agent.domain.errors import CommitdError, ConfigError, MissingError

log = logging.getLogger("commitd.compose")

OLDEST = (2, 24, 0)
_NAME = "docker-compose"
_PLUGINS = "cli-plugins"
_PLUGIN_DIRS = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)


async def versions() -> dict[Path, str]:
    """What every Compose on this machine says of itself.

    Empty: nothing, as one for another kind of machine. In the order of :func:`_binaries`.
    """
    return {path: await _version(path) for path in await anyio.to_thread.run_sync(_binaries)}


def _binaries() -> list[Path]:
    """Every Compose on this machine, each once: the command, then plugins in Docker's order.

    Scripts come last: what such a one starts is often among the others, and it alone can be
    confined.
    """
    places = [Path(command).parent] if (command := shutil.which(_NAME)) else []
    if config := os.environ.get("DOCKER_CONFIG"):
        places.append(Path(config, _PLUGINS))
    places.append(Path(os.environ.get("HOME", "/root"), ".docker", _PLUGINS))
    places += [Path(directory) for directory in _PLUGIN_DIRS]
    found: dict[str, Path] = {}
    for place in places:
        if (path := place / _NAME).is_file() and os.access(path, os.X_OK):
            found.setdefault(os.path.realpath(path), path)
    return sorted(found.values(), key=_is_script)


def _is_script(program: Path) -> bool:
    with suppress(OSError), program.open("rb") as file:
        return file.read(2) == b"#!"
    return False


def newest(versions: Mapping[Path, str]) -> Path | None:
    """The one to use, the first of several that are equally new; None: all are too old.

    ``versions`` are what each says of itself.
    """
    known = {path: _numbers(version) for path, version in versions.items()}
    best = max(known, key=lambda path: known[path], default=None)
    return best if best is not None and known[best] >= OLDEST else None


async def find(docker_host: str, timeout_s: float) -> Compose:
    """The newest Compose on this machine.

    Raises :class:`ConfigError` when there is none or all are too old.
    """
    need = f"install Docker Compose {OLDEST[0]}.{OLDEST[1]} or newer"
    known = await versions()
    if not known:
        raise MissingError("Docker Compose is not on this machine", hint=need)
    binary = newest(known)
    said = {path: f"{path} is {version or 'no Compose'}" for path, version in known.items()}
    if binary is None:
        raise ConfigError(f"Docker Compose is too old: {'; '.join(said.values())}", hint=need)
    others = [said[path] for path in known if path != binary]
    more = f" ({'; '.join(others)})" if others else ""
    log.log(  # a choice is news
        logging.INFO if others else logging.DEBUG,
        "using Docker Compose %s at %s%s", known[binary], binary, more,
    )  # fmt: skip
    # It looks for Docker's configuration on the disk.
    return await anyio.to_thread.run_sync(Compose, binary, docker_host, timeout_s)


async def _version(binary: Path) -> str:
    try:
        result = await process.run(
            [str(binary), "version", "--short"],
            env={"PATH": os.environ.get("PATH", os.defpath), "HOME": "/nonexistent", **SETTINGS},
            timeout_s=MODEL_TIMEOUT_S,
        )
    except CommitdError as err:
        log.warning("%s: %s", binary, err)
        return ""
    return result.out.decode(errors="replace").strip().removeprefix("v")


def _numbers(version: str) -> tuple[int, int, int]:
    """To compare versions by; all 0 where there is none."""
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", version)
    major, minor, patch = (int(number or 0) for number in found.groups()) if found else (0, 0, 0)
    return major, minor, patch

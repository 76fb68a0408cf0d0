"""The agent's directories, and what it puts there."""

from __future__ import annotations

import os
from pathlib import Path

from msgspec.structs import replace

from agent.adapters.host import peer
from agent.adapters.host.lock import running_agent
from agent.domain.compose.host_mounts import AgentPlaces
from agent.domain.config import Config
from agent.domain.errors import ConfigError

SOCKET = "commitd.sock"
"""The API's, in the runtime directory."""
_OWN = frozenset({"journal.db", SOCKET})
"""What is in a state or a runtime directory that an agent has used, and in no other."""


def docker_host(config: Config) -> str:
    """Where the engine listens, as a ``unix://`` address."""
    address = config.docker.socket or os.environ.get("DOCKER_HOST") or "unix:///run/docker.sock"
    if not address.startswith("unix://"):
        raise ConfigError(
            f"DOCKER_HOST is {address!r}", hint="the agent only manages the engine of its own host"
        )
    return address


def agent_places(config: Config) -> AgentPlaces:
    """Which directories are the agent's own, also where links lead to them. Blocks."""
    named = AgentPlaces(state=str(config.state_dir), runtime=str(config.runtime_dir))
    state, etc, runtime = map(os.path.realpath, (named.state, named.config, named.runtime))
    real = AgentPlaces(state=state, config=etc, runtime=runtime)
    return named if real == named else replace(named, real=real)


def look_now(config: Config) -> str:
    """The command that has the remotes asked now: the agent's, where one runs."""
    return "commitd sync" if running_agent(config) else "commitd once"


def prepare_directories(config: Config) -> None:
    """Make the state and runtime directories, closed to others. Raises :class:`ConfigError`.

    Those who may ask the agent get through the runtime directory to its socket, and see no name.
    """
    askers = peer.askers()
    for directory in (config.state_dir, config.runtime_dir):
        try:
            if directory.exists() and _of_others(directory):
                message = "others use this directory too, and the agent would close it to them"
                hint = f"name one of its own in the configuration, as {directory}/commitd"
                raise ConfigError(message, where=str(directory), hint=hint)
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            if directory == config.state_dir or askers is None:
                directory.chmod(0o700)
            else:
                os.chown(directory, -1, askers)
                directory.chmod(0o710)
        except OSError as err:
            raise ConfigError(
                f"the directory cannot be used: {err.strerror}", where=str(directory)
            ) from None


def file_system(path: Path) -> str:
    """What kind ``path`` is on, such as ``tmpfs``; empty if that cannot be told."""
    device = path.stat().st_dev
    mark = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        if words[2] == mark:
            return words[words.index("-") + 1]
    return ""


def _of_others(directory: Path) -> bool:
    """Whether it is open to others and holds things, and none of them is the agent's."""
    if not directory.stat().st_mode & 0o067:  # who may only pass sees nothing there
        return False
    names = {path.name for path in directory.iterdir()}
    return bool(names) and not names & _OWN


def install_askpass(directory: Path) -> Path:
    """The program that Git asks for a token: it reads the file, so that no one else has to."""
    path = directory / "askpass"
    script = (
        "#!/bin/sh\n"
        'case "$1" in\n'
        'Username*) printf "%s\\n" "$COMMITD_USERNAME" ;;\n'
        '*) exec cat -- "$COMMITD_TOKEN_FILE" ;;\n'
        "esac\n"
    )
    if not path.exists() or path.read_text() != script:
        path.write_text(script)
        path.chmod(0o700)
    return path

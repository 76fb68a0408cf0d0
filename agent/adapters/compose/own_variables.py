"""What of the agent's own environment Compose gets, which for most stacks is nothing.

Whatever is in its environment can be interpolated (``agent.domain.repository.interpolation``).
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.adapters.engine.docker_config import DockerConfig


class OwnVariables:
    """For Compose that talks to the engine at ``docker_host``."""

    def __init__(self, docker_host: str) -> None:
        self._docker_host = docker_host
        self._docker_config = _docker_config_elsewhere()

    def needed(
        self, model: Mapping[str, Any], *, build: bool, tilde: bool
    ) -> tuple[dict[str, str], str]:
        """The variables without which Compose cannot run ``model``, and what needs them.

        ``build`` is whether it may build images, ``tilde`` whether it has a ``~`` to expand.
        """
        services = (model.get("services") or {}).values()
        if build and any(service.get("build") for service in services):
            return self._of_programs(), "build:"
        if any(service.get("use_api_socket") for service in services):
            return self._of_programs(), "use_api_socket:"
        own = {**self._docker_config, **({"HOME": home()} if tilde else {})}
        return own, "~" if tilde else "Docker's command line"

    def _of_programs(self) -> dict[str, str]:
        """For those that Compose starts: builders, and helpers for credentials."""
        docker = {k: v for k, v in os.environ.items() if k.startswith("DOCKER_")}
        return {**docker, "DOCKER_HOST": self._docker_host, **of_a_person()}


def of_a_person() -> dict[str, str]:
    """What a shell has as well, as far as it matters to Compose."""
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": home()}


def home() -> str:
    """The agent's home directory."""
    return os.environ.get("HOME", "/root")


def _docker_config_elsewhere() -> dict[str, str]:
    """``DOCKER_CONFIG``, where the agent's Docker configuration is not where Compose looks for it.

    That is below the home directory of its user, as the machine knows it.
    """
    path = DockerConfig().path
    try:
        usual = Path(pwd.getpwuid(os.getuid()).pw_dir, ".docker", path.name)
    except KeyError:  # a user without a name has no home
        usual = None
    return {"DOCKER_CONFIG": str(path.parent)} if path != usual and path.exists() else {}

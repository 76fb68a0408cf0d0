"""docker-harbormaster, another agent for Compose stacks: fetched from PyPI, pinned by hash.

`python -m tests.bench.harbormaster` fetches it, outside of the sandbox, which has no network.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from tests.sandbox import tools
from tests.sandbox.process import run

if TYPE_CHECKING:
    from collections.abc import Iterable

_REQUIREMENTS = Path(__file__).with_name("harbormaster.txt")


def recipe() -> str:
    """What the place in the cache is named after."""
    return f"{_REQUIREMENTS.read_text()} {platform.python_version()} {platform.machine()}"


def provide() -> Path:
    """Fetch it unless that was done; the directory of its packages."""
    return tools.cached(tools.CACHE, recipe(), _install)


def find() -> Path | None:
    """The directory of its packages, if it was fetched."""
    return tools.find(tools.CACHE, recipe())


def command(packages: Path, directory: Path, url: str, stacks: Iterable[str]) -> list[str]:
    """What deploys these stacks of one repository into the new `directory`: an app for each."""
    apps = {
        name: {"url": url, "branch": "main", "compose_config": f"stacks/{name}/compose.yaml"}
        for name in stacks
    }
    work = directory / "work"
    work.mkdir(parents=True)
    config = directory / "harbormaster.yml"
    config.write_text(yaml.safe_dump({"apps": apps}))
    program = ["env", f"PYTHONPATH={packages}", sys.executable, "-m", "docker_harbormaster.cli"]
    return [*program, "run", "--config", str(config), "--working-dir", str(work)]


def _install(scratch: Path) -> Path:
    target = scratch / "packages"
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    pip = [sys.executable, "-m", "pip", "install", *options]
    run([*pip, "--target", target, "--requirement", _REQUIREMENTS], env=dict(os.environ))
    return target


if __name__ == "__main__":
    print(provide())

"""What figures were measured on, in words that anyone may read."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

from tests.sandbox import packaged


def describe() -> dict[str, str]:
    """Name and value of each thing that makes figures better or worse."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    return {
        "cores": f"{os.cpu_count()} of {cpu[1].strip() if cpu else platform.machine()}",
        "memory": f"{int(memory[1]) / 2**20:.0f} GiB" if memory else "unknown",
        "kernel": ".".join(platform.release().split(".")[:2]),
        "Python": platform.python_version(),
        "engine": _said("dockerd", "--version"),
        "Compose": _said(str(packaged("compose", "docker-compose")), "version", "--short"),
        "git": _said("git", "--version"),
    }


def commit() -> str:
    """The short name of this checkout's commit, with a sign if files differ from it."""
    words = ["git", "-C", str(Path(__file__).parents[2]), "describe", "--always", "--dirty=+"]
    done = subprocess.run([*words, "--abbrev=7", "--exclude=*"], capture_output=True, check=False)
    return done.stdout.decode().strip() or "unknown"


def _said(*words: str) -> str:
    """The version in what a program says of itself."""
    try:
        said = subprocess.run(words, capture_output=True, check=False).stdout.decode()
    except FileNotFoundError:
        return "unknown"
    found = re.search(r"\d+(\.\d+)+", said)
    return found[0] if found else "unknown"

"""`python -m tests.pythons [WORD…]`: pytest with these words on each Python of this machine.

The one that runs this counts as found; each other gets a venv below `.sandbox/pythons`, with the
dependencies pinned by hash that the development has.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_REQUIREMENTS = _ROOT / "requirements-dev.txt"
_VENVS = _ROOT / ".sandbox/pythons"
_MINORS = range(11, 15)
_VERSION = "import ensurepip, sqlite3, ssl, sys; print('%d.%d.%d' % sys.version_info[:3])"


def main(words: list[str]) -> int:
    """Run all; the exit code is 1 if one of them failed."""
    own = sys.version_info.minor
    found = {own: Path(sys.executable)} | {
        minor: python for minor in _MINORS if minor != own and (python := _find(minor))
    }
    missing = [f"3.{minor}" for minor in _MINORS if minor not in found]
    if len(found) == 1:
        print(f"This machine has no Python but 3.{own} to test with.", flush=True)
    failed = []
    for minor, python in sorted(found.items()):
        print(f"Python {_version(python)}, {python}", flush=True)
        runner = python if minor == own else _venv(python)
        if subprocess.run([runner, "-m", "pytest", *words], cwd=_ROOT, check=False).returncode:
            failed.append(f"3.{minor}")
    passed = [f"3.{minor}" for minor in sorted(found) if f"3.{minor}" not in failed]
    for what, pythons in (("passed", passed), ("failed", failed), ("not found", missing)):
        if pythons:
            print(f"{what}: {', '.join(pythons)}")
    return 1 if failed else 0


def _find(minor: int) -> Path | None:
    """The first usable Python 3.`minor`: on the PATH, from Debian, from pyenv or from uv."""
    return next((python for python in _candidates(minor) if _version(python)), None)


def _candidates(minor: int) -> Iterator[Path]:
    name = f"python3.{minor}"
    if path := shutil.which(name):
        yield Path(path)
    yield from (Path(place, name) for place in ("/usr/bin", "/usr/local/bin"))
    pyenv = Path(_answer("pyenv", "root") or os.environ.get("PYENV_ROOT") or "~/.pyenv")
    yield from sorted(pyenv.expanduser().glob(f"versions/3.{minor}.*/bin/{name}"), reverse=True)
    if path := _answer("uv", "python", "find", "--no-project", f"3.{minor}"):
        yield Path(path)


def _version(python: Path) -> str:
    """Its version, if it can make a venv and has what the agent needs of it; or nothing."""
    return _answer(str(python), "-c", _VERSION)


def _answer(*command: str) -> str:
    """What a command prints; nothing when it fails or is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return "" if done.returncode else done.stdout.strip()


def _venv(python: Path) -> Path:
    """The Python of a venv with the pinned dependencies, made when they have changed."""
    directory = _VENVS / _version(python)
    runner, ready = directory / "bin/python", directory / ".ready"
    wanted = hashlib.sha256(_REQUIREMENTS.read_bytes()).hexdigest()
    if not ready.exists() or ready.read_text() != wanted:
        print(f"preparing {directory.relative_to(_ROOT)}", flush=True)
        pip = [str(runner), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for command in (
            [str(python), "-m", "venv", "--clear", str(directory)],
            [*pip, "--use-pep517", "--require-hashes", "-r", str(_REQUIREMENTS)],
            [*pip, "--no-deps", "--no-build-isolation", "-e", str(_ROOT)],
        ):
            subprocess.run(command, env={**os.environ, "PYTHONWARNINGS": "ignore"}, check=True)
        ready.write_text(wanted)
    return runner


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

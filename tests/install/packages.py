"""The packages of this commit, and of others that are made of it, built outside of any world."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.sandbox.process import SandboxError, run

if TYPE_CHECKING:
    from collections.abc import Callable

REPO = Path(__file__).resolve().parents[2]
ARCHITECTURES = ("amd64", "arm64")
_BUILT = REPO / ".sandbox" / "install"


def first() -> Path:
    """A directory with the wheel, the sdist and both packages of Debian of the commit."""

    def make(into: Path) -> None:
        build(into)
        build(into, *_for(*ARCHITECTURES))

    return _kept("first", make)


def upgrade() -> Path:
    """A package of Debian with a higher version, for this machine; it is the same otherwise."""
    return package_of("upgrade", lambda source: set_version(source, upgraded()))


def broken() -> Path:
    """One with a still higher version that does not even begin."""

    def break_it(source: Path) -> None:
        set_version(source, f"{version()}.post2")
        file = source / "agent" / "control" / "service.py"  # of which completions need nothing
        file.write_text(file.read_text().replace("import logging\n", "raise ImportError\n", 1))

    return package_of("broken", break_it)


def upgraded() -> str:
    """The version of `upgrade`."""
    return f"{version()}.post1"


@functools.cache
def architecture() -> str:
    """Of this machine, as Debian calls it."""
    return run(["dpkg", "--print-architecture"]).decode().strip()


@functools.cache
def version() -> str:
    """The version of the commit."""
    return _version_in(REPO)[1]


def set_version(source: Path, to: str) -> None:
    """Write another version into a source tree."""
    line, _ = _version_in(source)
    file = source / "pyproject.toml"
    file.write_text(file.read_text().replace(line, f'version = "{to}"'))


def package_of(name: str, change: Callable[[Path], None]) -> Path:
    """A package of Debian, for this machine, of the commit as `change` leaves its files."""

    def make(into: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            run(["sh", "-ec", f'git archive HEAD | tar -x -C "{scratch}"'], cwd=REPO)
            change(Path(scratch))
            build(into, "--source", scratch, *_for(architecture()))

    (package,) = _kept(name, make).iterdir()
    return package


def build(into: Path, *words: str) -> None:
    """Have `packaging/build.py` write into a directory."""
    command = [sys.executable, str(REPO / "packaging/build.py"), "--out", str(into), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SandboxError(f"the packages cannot be built: {done.stdout}{done.stderr}")


def _for(*architectures: str) -> list[str]:
    return [f"--deb={name}" for name in architectures]


def _version_in(source: Path) -> tuple[str, str]:
    found = re.search(r'^version = "(.*)"$', (source / "pyproject.toml").read_text(), re.MULTILINE)
    if found is None:
        raise SandboxError("pyproject.toml has no version")
    return found[0], found[1]


def _kept(name: str, make: Callable[[Path], None]) -> Path:
    """What `make` has written once for this commit; what was made for others is removed."""
    commit = run(["git", "rev-parse", "HEAD"], cwd=REPO).decode().strip()
    place = _BUILT / commit
    if not (place / name).is_dir():
        print(f"install-test: building the packages ({name})", file=sys.stderr, flush=True)
        place.mkdir(parents=True, exist_ok=True)
        for other in _BUILT.iterdir():
            if other != place:
                shutil.rmtree(other)
        with tempfile.TemporaryDirectory(prefix="new-", dir=place) as scratch:
            into = Path(scratch, name)
            into.mkdir()
            make(into)
            into.rename(place / name)
    return place / name

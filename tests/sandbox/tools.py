"""The Debian packages of the sandbox: downloaded and unpacked into a cache, never installed."""

from __future__ import annotations

import contextlib
import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.sandbox.locks import locked
from tests.sandbox.process import SandboxError, run

if TYPE_CHECKING:
    from collections.abc import Callable

CACHE = Path(__file__).resolve().parents[2] / ".sandbox" / "tools"

_PACKAGES = (
    "age",
    "busybox-static",
    "docker-registry",
    "docker.io",
    "fcgiwrap",
    "git",
    "gpg",
    "gpg-agent",
    "iproute2",
    "iptables",
    "mmdebstrap",
    "nginx-light",
    "openssh-client",
    "openssh-server",
    "openssl",
    "strace",
    "systemd-container",
)
_FIRST_DEBIAN_WITH_A_CLIENT_PACKAGE = 13  # up to 12, docker.io holds the client too

# What the packages' installation scripts would have linked (`update-alternatives`).
_ALTERNATIVES = {
    "usr/sbin/iptables": "iptables-nft",
    "usr/sbin/ip6tables": "ip6tables-nft",
}


def provide() -> Path | None:
    """Return a directory that holds the `usr` of every package this machine lacks.

    None means that the machine lacks nothing. The first call on a machine downloads (about 100 MB)
    and says so on stderr; later ones find the cache. Raises SandboxError when apt cannot deliver.
    """
    missing = _missing_packages()
    if not missing:
        return None
    return cached(CACHE, " ".join([*missing, debian()]), lambda scratch: _make(missing, scratch))


def unpacked(*packages: str) -> Path:
    """A directory with the `usr` of these packages and of what they need that is not installed.

    As `provide` does it: once a machine, and it says so.
    """
    recipe = " ".join([*packages, debian()])
    return cached(CACHE, recipe, lambda scratch: _make(list(packages), scratch))


def cached(directory: Path, recipe: str, make: Callable[[Path], Path]) -> Path:
    """Return the directory below `directory` that belongs to `recipe`, making it the first time.

    `make` gets an empty directory that is removed afterwards, and returns which directory below it
    is to be kept.
    """
    target = directory / _name(recipe)
    if target.is_dir():
        return target
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory):
        if not target.is_dir():  # otherwise another process has made it while we waited
            for remains in directory.glob("new-*"):  # of a process that was killed here
                shutil.rmtree(remains)
            with tempfile.TemporaryDirectory(prefix="new-", dir=directory) as scratch:
                make(Path(scratch)).rename(target)
    return target


def find(directory: Path, recipe: str) -> Path | None:
    """Return what `cached` would, if it was made before."""
    target = directory / _name(recipe)
    return target if target.is_dir() else None


def _name(recipe: str) -> str:
    return hashlib.sha256(recipe.encode()).hexdigest()[:12]


def debian() -> str:
    """This machine's distribution, its exact version, and its architecture."""
    version = Path("/etc/debian_version").read_text().strip()
    return f"{platform.freedesktop_os_release()['ID']} {version} {platform.machine()}"


def _make(packages: list[str], scratch: Path) -> Path:
    print(f"sandbox: fetching (not installing) {', '.join(packages)}", file=sys.stderr, flush=True)
    archives = scratch / "archives"
    unpacked = scratch / "unpacked"
    unpacked.mkdir()
    _download(packages, archives)
    for archive in sorted(archives.glob("*.deb")):
        run(["dpkg", "-x", archive, unpacked])
    _merge_usr(unpacked)
    _link_alternatives(unpacked)
    return unpacked


def _missing_packages() -> list[str]:
    wanted = [*_PACKAGES]
    release = platform.freedesktop_os_release().get("VERSION_ID", "")
    if release.isdigit() and int(release) >= _FIRST_DEBIAN_WITH_A_CLIENT_PACKAGE:
        wanted.append("docker-cli")
    query = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *wanted],
        capture_output=True,
        text=True,
        check=False,  # non-zero when a package is unknown, which is an answer too
    )
    installed = {
        name
        for name, _, status in (line.partition(" ") for line in query.stdout.splitlines())
        if status == "installed"
    }
    return sorted(set(wanted) - installed)


def _download(packages: list[str], into: Path) -> None:
    partial = into / "partial"
    partial.mkdir(parents=True)
    command: list[str | Path] = ["apt-get", "-y", "--no-install-recommends", "--download-only"]
    command += ["-o", f"Dir::Cache::archives={into}", "-o", "APT::Sandbox::User=root"]
    command += ["install", *packages]
    env = {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        run(command, env=env, timeout=600)
    except SandboxError:
        # The machine's package lists are empty or too old for the mirror: renew them, once. Some
        # broken third-party source may make that fail without keeping Debian's packages from us.
        with contextlib.suppress(SandboxError):
            run(["apt-get", "update"], env=env, timeout=600)
        run(command, env=env, timeout=600)


def _merge_usr(root: Path) -> None:
    """Move what a package ships in /bin, /sbin and /lib* to where Debian's links lead: /usr."""
    for name in ("bin", "sbin", "lib", "lib64"):
        if (old := root / name).is_dir() and not old.is_symlink():
            shutil.copytree(old, root / "usr" / name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(old)


def _link_alternatives(root: Path) -> None:
    for link, target in _ALTERNATIVES.items():
        path = root / link
        if (path.parent / target).exists() and not path.exists():
            path.symlink_to(target)

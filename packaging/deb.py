"""The package of Debian: one for an architecture, which works on every Debian that is supported.

    /usr/bin/commitd                  runs the version that is current, else the one of the package
    /usr/lib/commitd/dist/            the agent with its libraries, as pip unpacks their wheels
        bin/python3 -> /usr/bin/python3    and pyvenv.cfg: so it sees its own libraries alone
        lib/python3.11/site-packages       for Debian 12, and, under a second name, for Debian 13:
        lib/python3.13 -> python3.11       extension modules carry the version in their file names
    /usr/lib/commitd/lib/             what the installation and the unit run

No compiler is needed, and no machine of that architecture: wheels are fetched for it, by hash.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from email.parser import HeaderParser
from email.utils import formatdate
from pathlib import Path

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
"""Architectures as Debian calls them, to those of wheels."""
PYTHONS = ("3.11", "3.13")
"""Of Debian 12 and 13. The first gives its name to the directory."""
_GLIBC = 36
"""Debian 12 has 2.36: wheels that need no newer one."""

_HERE = Path(__file__).resolve().parent
_LIB = "usr/lib/commitd"
_DIST = f"{_LIB}/dist"
_DOC = "usr/share/doc/commitd"
_SITE = f"{_DIST}/lib/python{PYTHONS[0]}/site-packages"
_UNUSED = ("RECORD", "INSTALLER", "REQUESTED", "WHEEL", "direct_url.json")
"""Of the installation by pip, and partly of this machine: dpkg knows the files."""
_COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/commitd",
    "zsh": "usr/share/zsh/vendor-completions/_commitd",
    "fish": "usr/share/fish/vendor_completions.d/commitd.fish",
}
_SCRIPTS = ("postinst", "prerm", "postrm")


def build(source: Path, wheel: Path, arch: str, epoch: int, scratch: Path) -> Path:
    """Build the package of `source`, whose wheel is given; return its path below `scratch`."""
    version = tomllib.loads((source / "pyproject.toml").read_text())["project"]["version"]
    root, agent = scratch / "root", scratch / "agent"
    _pip("install", "--no-deps", "--no-compile", "--no-index", "--target", agent, wheel)
    _libraries(root, source, agent, arch, scratch)
    (root / _DIST / "VERSION").write_text(f"{version}\n")
    _system_files(root, source, agent)
    _documentation(root, source, agent, version, epoch)
    _control(root, arch, version)
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or _is_program(path, root) else 0o644)
        os.utime(path, (epoch, epoch), follow_symlinks=False)
    package = scratch / f"commitd_{_debian(version)}_{arch}.deb"
    # One thread, because several give other bytes. Level 2 takes a third of the time, and a tenth
    # more room.
    pack = ("dpkg-deb", "--root-owner-group", "-Zxz", "-z2", "--threads-max=1", "--build")
    _run(*pack, root, package)
    return package


def _debian(version: str) -> str:
    """A version of Python as Debian sorts it: 1.0rc1 and 1.0.dev1 are older than 1.0."""
    return re.sub(r"\.?(a|b|rc|dev)(?=\d)", r"~\1", version)


# --- the agent and its libraries ------------------------------------------------------------------


def _libraries(root: Path, source: Path, agent: Path, arch: str, scratch: Path) -> None:
    """Make the tree of the agent: what its wheel holds, and its libraries for each Python."""
    site = root / _SITE
    site.mkdir(parents=True)
    for python in PYTHONS:
        _fetch(source / "requirements-notify.txt", python, arch, scratch / python)
        _tidy(scratch / python)
        _merge(scratch / python, site, python)
    shutil.copytree(agent, site, dirs_exist_ok=True)
    _tidy(site)
    for python in PYTHONS[1:]:
        (site.parents[1] / f"python{python}").symlink_to(f"python{PYTHONS[0]}")
    dist = root / _DIST
    (dist / "bin").mkdir()
    (dist / "bin/python3").symlink_to("/usr/bin/python3")
    (dist / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")


def _fetch(requirements: Path, python: str, arch: str, into: Path) -> None:
    machine = MACHINES[arch]
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(_GLIBC, 16, -1)]
    _pip(
        "install", "--require-hashes", "--only-binary=:all:", "--no-deps", "--no-compile",
        *(f"--platform={name}" for name in [*platforms, f"manylinux2014_{machine}"]),
        f"--python-version={python}", "--implementation=cp", "--target", into, "-r", requirements,
    )  # fmt: skip


def _tidy(unpacked: Path) -> None:
    """Take away what nobody runs or reads, and what pip has noted of this machine."""
    for name in ("bin", "share"):
        shutil.rmtree(unpacked / name, ignore_errors=True)
    for information in unpacked.glob("*.dist-info"):
        for name in _UNUSED:
            (information / name).unlink(missing_ok=True)
    for path in [*unpacked.rglob("*")]:
        if path.suffix in {".c", ".h", ".pxd", ".pyx"} or path.name == ".hash":
            path.unlink()
    for path in sorted(unpacked.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _merge(unpacked: Path, site: Path, python: str) -> None:
    """Lay libraries for one Python over those for another: they differ in machine code."""
    for path in sorted(unpacked.rglob("*")):
        target = site / path.relative_to(unpacked)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        elif not target.exists():
            shutil.copy(path, target)
        elif target.read_bytes() != path.read_bytes():
            sys.exit(f"{path.relative_to(unpacked)} is another one for Python {python}")


def _pip(*words: str | Path) -> None:
    _run(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words)


# --- what Debian wants of a package ---------------------------------------------------------------


def _system_files(root: Path, source: Path, agent: Path) -> None:
    packaging = source / "packaging"
    shutil.copytree(packaging / "lib", root / _LIB / "lib")
    _copy(packaging / "commitd", root / "usr/bin/commitd")
    _copy(packaging / "debian/lintian-overrides", root / "usr/share/lintian/overrides/commitd")
    unit = (source / "systemd/commitd.service").read_text()
    _write(
        root / "usr/lib/systemd/system/commitd.service",
        unit.replace("/opt/commitd/bin/commitd", "/usr/bin/commitd"),
    )
    for kind in ("sysusers", "tmpfiles"):
        name = f"commitd.{kind}.conf"
        _copy(source / "systemd" / name, root / f"usr/lib/{kind}.d/commitd.conf")
    for shell, path in _COMPLETIONS.items():
        _write(root / path, _say(agent, "-m", "agent", "completion", shell))


def _documentation(root: Path, source: Path, agent: Path, version: str, epoch: int) -> None:
    doc = root / _DOC
    _copy(source / "docs/reference/config.example.yaml", doc / "examples/config.yaml")
    date = formatdate(epoch)
    entry = "  * See CHANGELOG.md.gz beside this file."
    debian = f"commitd ({_debian(version)}) stable; urgency=medium\n\n{entry}\n\n"
    _compress(doc / "changelog.gz", f"{debian} -- {_maintainer()}  {date}\n")
    _compress(doc / "CHANGELOG.md.gz", (source / "CHANGELOG.md").read_text())
    _write(doc / "copyright", _copyright(root / _SITE, source))
    pages = root.parent / "man"
    pages.mkdir()
    _say(agent, source / "packaging/man.py", pages, version)
    for page in pages.iterdir():
        _compress(root / f"usr/share/man/man1/{page.name}.gz", page.read_text())


def _copyright(site: Path, source: Path) -> str:
    """Of the agent, and of each library in the package what its wheel says."""
    about = (source / "packaging/debian/copyright").read_text().replace("@SITE@", _SITE)
    parts = [about]
    for metadata in sorted(site.glob("*.dist-info/METADATA")):
        said = HeaderParser().parsestr(metadata.read_text())
        if said["Name"] == "commitd":
            continue
        author = said["Author"] or said["Author-email"] or f"the authors of {said['Name']}"
        licence = said["License-Expression"] or said["License"] or "see its files"
        parts.append(
            f"{said['Name']} {said['Version']}\n"
            f"  Copyright {author}\n  License: {licence}\n  {metadata.parent.name}\n"
        )
    return "\n".join(parts)


def _maintainer() -> str:
    control = (_HERE / "debian/control").read_text()
    return next(line[12:] for line in control.splitlines() if line.startswith("Maintainer: "))


def _control(root: Path, arch: str, version: str) -> None:
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    sums = [f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  "
            f"{path.relative_to(root)}\n" for path in files]  # fmt: skip
    size = sum(-(-path.stat().st_size // 1024) for path in files) + sum(
        path.is_dir() or path.is_symlink() for path in root.rglob("*")
    )
    text = (_HERE / "debian/control").read_text()
    for name, value in (("VERSION", _debian(version)), ("ARCH", arch), ("SIZE", str(size))):
        text = text.replace(f"@{name}@", value)
    _write(root / "DEBIAN/control", text)
    _write(root / "DEBIAN/md5sums", "".join(sums))
    for script in _SCRIPTS:
        _copy(_HERE / "debian" / script, root / "DEBIAN" / script)


def _is_program(path: Path, root: Path) -> bool:
    places = ("usr/bin", f"{_LIB}/lib")
    return str(path.parent.relative_to(root)) in places or (
        path.parent.name == "DEBIAN" and path.name in _SCRIPTS
    )


# --- small tools ----------------------------------------------------------------------------------


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _write(target: Path, content: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(content)


def _compress(target: Path, content: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.compress(content.encode(), mtime=0))


def _say(agent: Path, *words: str | Path) -> str:
    """What a program prints for which `agent` is the one that is installed."""
    path = os.pathsep.join([str(agent), *filter(None, [os.environ.get("PYTHONPATH")])])
    return _run(sys.executable, *words, env=os.environ | {"PYTHONPATH": path, "LC_ALL": "C.UTF-8"})


def _run(*words: str | Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))}: {done.stdout}{done.stderr}")
    return done.stdout

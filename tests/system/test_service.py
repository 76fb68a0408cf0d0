"""The unit as shipped, under a real systemd: it starts, watches, reloads and ends the agent."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.machine import Machine
from tests.sandbox.process import wait_until
from tests.system.service import DROP_IN, REPO, STATE, UNIT, UNIT_FILE, Service, lives

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox import Sandbox
    from tests.system.conftest import Fleet

_COMMITD = "/opt/commitd/bin/commitd"
_EXPOSURE = 22  # of 100, as `systemd-analyze security` counts it
_AGENT = """\
#!/bin/sh
PYTHONPATH=/opt/commitd/source exec /opt/commitd/venv/bin/python -m agent "$@"
"""


@pytest.fixture(scope="module")
def machine(box: Sandbox) -> Iterator[Machine]:
    """A machine where the unit and the agent of this checkout are installed."""
    read_only = {
        "/opt/commitd/source": REPO,
        "/opt/commitd/venv": Path(sys.prefix),
        "/usr/bin/docker-compose": box.compose,
        "/usr/bin/sops": box.sops,
    }
    if sys.base_prefix != "/usr":  # a Python that is not the machine's own
        read_only[sys.base_prefix] = Path(sys.base_prefix)
    read_only["/usr/lib/commitd/lib"] = REPO / "packaging/lib"
    sockets = {"/run/docker.sock": box.engine.socket}
    with Machine(box.root, mounts=sockets, read_only_mounts=read_only) as booted:
        booted.write("/opt/commitd/bin/commitd", _AGENT, mode=0o755)
        booted.write(UNIT_FILE, (REPO / "systemd" / UNIT).read_bytes())
        booted.run("systemctl", "daemon-reload")
        yield booted


@pytest.fixture
def service(machine: Machine, fleet: Fleet) -> Iterator[Service]:
    """Started by the test, and stopped before the fleet's containers are removed."""
    yield Service(machine, fleet.box)
    machine.run("systemctl", "stop", UNIT, check=False)
    machine.run("systemctl", "reset-failed", UNIT, check=False)
    machine.run("rm", "-rf", f"{UNIT_FILE}.d", STATE, "/run/commitd", "/etc/commitd")
    machine.run("systemctl", "daemon-reload")


@pytest.fixture
def one_stack(fleet: Fleet) -> Fleet:
    fleet.commit(
        "first",
        {
            "host/media/stacks.yaml": "- one\n",
            "stacks/one/compose.yaml": fleet.compose(),
        },
    )
    return fleet


# --- the machine ----------------------------------------------------------------------------------


def test_a_machine_ends_without_a_trace(tmp_path: Path) -> None:
    with Machine(tmp_path, mounts={}, read_only_mounts={}) as machine:
        assert machine.run("cat", "/proc/1/comm").stdout == "systemd\n"
        (root,) = tmp_path.iterdir()
        assert _cgroups_called(root.name)
    assert list(tmp_path.iterdir()) == []
    assert _cgroups_called(root.name) == []
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


_BOOT_A_MACHINE = """
import signal
from tests.sandbox import world
from tests.sandbox.machine import Machine
data = world.data_directory()
with Machine(data, mounts={}, read_only_mounts={}):
    (root,) = data.glob("machine-*")
    print(root, flush=True)
    signal.pause()
"""


def test_a_machine_ends_with_its_world_even_by_sigkill() -> None:
    command = [sys.executable, "-m", "tests.sandbox", "exec", "--"]
    with subprocess.Popen(
        [*command, sys.executable, "-c", _BOOT_A_MACHINE], stdout=subprocess.PIPE
    ) as outer:
        assert outer.stdout is not None
        root = Path(os.fsdecode(outer.stdout.readline().strip()))
        data = root.parent
        assert _cgroups_called(root.name)
        outer.kill()
    wait_until(lambda: not data.exists(), what=f"{data} to be removed")
    assert _cgroups_called(root.name) == []


def _cgroups_called(name: str) -> list[Path]:
    return [*Path("/sys/fs/cgroup").rglob(name)]


# --- the file -------------------------------------------------------------------------------------


def test_systemd_finds_nothing_wrong_with_the_unit(machine: Machine) -> None:
    result = machine.run("systemd-analyze", "verify", UNIT_FILE)
    assert result.stdout + result.stderr == ""


def test_the_unit_is_hardened(machine: Machine) -> None:
    machine.run("systemd-analyze", "security", "--offline=true", f"--threshold={_EXPOSURE}",
                UNIT_FILE)  # fmt: skip


# --- life and death -------------------------------------------------------------------------------


def test_it_is_active_once_it_works_and_its_status_shows_the_verdict(
    service: Service, one_stack: Fleet
) -> None:
    service.systemctl("start", UNIT)  # returns once the agent is ready
    assert service.show("ActiveState") == ("active",)
    service.reports(f"in sync with {_head(one_stack)[:7]} (gitea)")
    assert set(one_stack.running()) == {"one-app-1"}


def _head(fleet: Fleet) -> str:
    return fleet.workspace.git("rev-parse", "HEAD")


def test_the_hardened_agent_takes_over_from_ssh_to_https(
    service: Service, one_stack: Fleet
) -> None:
    service.systemctl("start", UNIT)
    service.reports("in sync with")
    one_stack.box.gitea.proxy.mode("cut")
    one_stack.commit(
        "second, which only one of the two can give", {"host/media/stacks.yaml": "- one\n- two\n",
         "stacks/two/compose.yaml": one_stack.compose(one_stack.web)}
    )  # fmt: skip
    service.reports(f"in sync with {_head(one_stack)[:7]} (github)")
    assert set(one_stack.running()) == {"one-app-1", "two-app-1"}


def test_stop_and_start_touch_no_container(service: Service, one_stack: Fleet) -> None:
    service.start()
    before = lives(one_stack)
    service.systemctl("stop", UNIT)
    assert service.show("ActiveState", "Result", "ExecMainStatus") == ("inactive", "success", "0")
    assert lives(one_stack) == before != {}
    service.start()
    service.reports("in sync")
    assert lives(one_stack) == before


def test_status_says_why_the_service_does_not_run(service: Service, one_stack: Fleet) -> None:
    service.start()
    service.systemctl("stop", UNIT)
    status = ("/opt/commitd/bin/commitd", "status", "--exit-code")
    shown = service.machine.run(*status, check=False)
    assert shown.returncode == 4
    assert "! The agent is stopped: systemctl start commitd\n" in shown.stdout
    service.machine.run("rm", "/etc/commitd/age.key")
    service.machine.run("systemctl", "start", UNIT, check=False)
    shown = service.machine.run(*status, check=False)
    assert re.search(
        r"! The agent has failed \(exit status 2, its configuration is wrong\): "
        r".*/etc/commitd/age.key: secrets.age_key: there is no such file",
        shown.stdout,
    ), shown.stdout
    assert "journalctl -u commitd -n 20" in shown.stdout
    assert set(one_stack.running()) == {"one-app-1"}


def test_a_hung_agent_is_restarted_and_no_container_is_touched(
    service: Service, one_stack: Fleet
) -> None:
    service.drop_in("WatchdogSec=3", "RestartSec=100ms")
    service.start()
    before = lives(one_stack)
    (pid,) = service.show("MainPID")
    service.systemctl("kill", "--kill-whom=main", "--signal=STOP", UNIT)
    service.restarted(1)
    service.reports("in sync")
    assert "Watchdog timeout" in service.log
    assert service.show("MainPID") != (pid,)
    assert lives(one_stack) == before != {}


@pytest.fixture
def slow_stack(fleet: Fleet) -> Fleet:
    """Whoever replaces its container waits five seconds for the old one to end."""
    fleet.commit(
        "first",
        {"host/media/stacks.yaml": "- slow\n", "stacks/slow/compose.yaml": _slow(fleet, "1")},
    )
    return fleet


def _slow(fleet: Fleet, tag: str) -> str:
    image = fleet.box.images.build("deaf", tag, stop_signal="SIGTERM")  # PID 1, so it ignores it
    return fleet.compose(image, more="    stop_grace_period: 5s\n")


def test_an_agent_that_works_is_left_alone_by_the_watchdog(
    service: Service, slow_stack: Fleet
) -> None:
    service.drop_in("WatchdogSec=3")
    service.start()
    before = lives(slow_stack)
    head = slow_stack.commit("second", {"stacks/slow/compose.yaml": _slow(slow_stack, "2")})
    service.reports(f"in sync with {head[:7]}")
    assert service.show("NRestarts") == ("0",)
    assert lives(slow_stack).keys() == before.keys()
    assert lives(slow_stack) != before


def test_stop_lets_compose_finish_what_it_has_begun(service: Service, slow_stack: Fleet) -> None:
    service.start()
    slow_stack.commit("second", {"stacks/slow/compose.yaml": _slow(slow_stack, "2")})
    wait_until(lambda: _compose_runs(service), what="Compose to run")
    service.systemctl("stop", UNIT)
    assert service.show("ActiveState", "Result") == ("inactive", "success")
    assert len(slow_stack.running()) == 1, service.log
    (identifier,) = slow_stack.running().values()
    details = slow_stack.box.engine.inspect(identifier)
    assert ":2@" in details["Config"]["Image"]
    assert len(slow_stack.box.engine.containers()) == 1


def _compose_runs(service: Service) -> bool:
    """Whether it brings something up: it reads the files before."""
    (group,) = service.show("ControlGroup")
    words = service.machine.run(
        "sh",
        "-c",
        f"cat $(sed 's|.*|/proc/&/cmdline|' /sys/fs/cgroup{group}/cgroup.procs) | tr '\\0' ' '",
        check=False,
    ).stdout
    return " up --no-start" in words


def test_a_killed_agent_is_started_again_as_often_as_it_takes(
    service: Service, one_stack: Fleet
) -> None:
    service.drop_in("RestartSec=100ms")
    service.start()
    before = lives(one_stack)
    for times in range(1, 11):  # systemd's own default gives up after five within ten seconds
        service.systemctl("kill", "--signal=KILL", UNIT)
        service.restarted(times)
    service.reports("in sync")
    assert lives(one_stack) == before != {}


# --- configuration --------------------------------------------------------------------------------


def test_reload_takes_the_changed_configuration(service: Service, one_stack: Fleet) -> None:
    remotes = service.config["remotes"]
    service.config["remotes"] = remotes[1:]
    service.write_config()
    service.systemctl("start", UNIT)
    service.reports("(github)")
    before = lives(one_stack)
    (pid,) = service.show("MainPID")

    service.config["remotes"] = remotes
    service.write_config()
    service.systemctl("reload", UNIT)
    service.reports("in sync with")
    assert service.show("MainPID", "NRestarts") == (pid, "0")
    assert lives(one_stack) == before != {}


def test_reload_of_a_wrong_configuration_leaves_the_old_one_in_force(
    service: Service, one_stack: Fleet
) -> None:
    service.start()
    before = lives(one_stack)
    service.machine.write("/etc/commitd/config.yaml", "remotes: []\n", mode=0o600)
    service.systemctl("reload", UNIT)
    complaint = "keeping the previous configuration"
    wait_until(lambda: complaint in service.log, what="the complaint about it")
    warned = service.logged("--priority=warning")
    assert complaint in warned
    assert "in sync" in service.log
    assert "in sync" not in warned
    service.reports("in sync")
    assert service.show("NRestarts") == ("0",)
    assert lives(one_stack) == before != {}


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"remotes": []}, "/etc/commitd/config.yaml:2: no remote is configured"),
        ({"state_dir": "/srv/commitd"}, "/srv/commitd: the directory cannot be used"),
        (
            {"signatures": {"require": "head", "allowed_signers": "/root/.ssh/signers"}},
            "No such file or directory (the service sees no home directories: move it to /etc/com",
        ),
    ],
)
def test_a_wrong_configuration_ends_the_service_until_it_is_corrected(
    service: Service, one_stack: Fleet, wrong: dict[str, Any], complaint: str
) -> None:
    right = dict(service.config)
    service.config |= wrong
    service.write_config()
    started = service.machine.run("systemctl", "start", UNIT, check=False)
    assert started.returncode != 0
    # A restart to come would show at once, as "activating (auto-restart)".
    assert service.show("ActiveState", "SubState", "ExecMainStatus", "NRestarts") == (
        "failed", "failed", "2", "0",
    )  # fmt: skip
    assert complaint in service.logged("--priority=err")
    assert "Traceback" not in service.log

    service.config = right
    service.write_config()
    service.systemctl("start", UNIT)
    service.reports("in sync")
    assert set(one_stack.running()) == {"one-app-1"}


def test_the_fences_are_up(service: Service, one_stack: Fleet) -> None:
    service.machine.write("/root/.docker/config.json", "{}", mode=0o600)
    for path in ("/root/.ssh/signers", "/home/ada/notes"):
        service.machine.write(path, "private", mode=0o600)
    service.systemctl("start", UNIT)
    service.reports("in sync")
    (pid,) = service.show("MainPID")
    status = service.machine.run("cat", f"/proc/{pid}/status").stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(fields["CapBnd"], 16) == 1 << 1 | 1 << 0  # CAP_DAC_OVERRIDE, CAP_CHOWN
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
    calls = set(service.show("SystemCallFilter")[0].split())
    assert {"setpriority", "chown", "execve"} <= calls
    assert not {"sched_setscheduler", "mbind", "ioprio_set", "setuid", "mount"} & calls
    for place in (STATE, "/run/commitd", "/tmp", "/var/tmp"):
        assert service.inside(f"touch {place}/x && rm {place}/x && echo yes") == "yes"
    closed = ("/etc", "/etc/commitd", "/opt/commitd/bin", "/home", "/root", "/root/.docker",
              "/run/user", "/usr/bin", "/var/lib")  # fmt: skip
    for place in closed:
        assert service.inside(f"touch {place}/x 2>/dev/null || echo no") == "no"
    assert service.inside("cat /root/.docker/config.json; ls -A /root /home").split() == [
        "{}/home:", "/root:", ".docker",
    ]  # fmt: skip
    assert service.inside("test -e /proc/meminfo || ls /proc/self/ns/mnt") == "/proc/self/ns/mnt"
    for place in ("/tmp", "/var/tmp"):
        script = f"cp /bin/true {place}/x; {place}/x 2>/dev/null || echo no; rm {place}/x"
        assert service.inside(script) == "no"
    modes = f"stat -c %a {STATE} /run/commitd {STATE}/journal.db"
    assert service.inside(modes).split() == ["700", "700", "600"]
    assert set(one_stack.running()) == {"one-app-1"}


def test_members_of_the_group_ask_the_service_without_being_root(
    service: Service, one_stack: Fleet
) -> None:
    service.machine.run("groupadd", "--system", "commitd")
    try:
        service.systemctl("start", UNIT)
        service.reports("in sync")
        modes = "stat -c %a:%G /run/commitd /run/commitd/commitd.sock"
        assert service.inside(modes).split() == ["710:commitd", "660:commitd"]
        mine = service.machine.run(_COMMITD, "history").stdout
        nobody = ("setpriv", "--reuid=nobody", "--clear-groups")
        asked = service.machine.run(*nobody, "--regid=commitd", _COMMITD, "history")
        assert asked.stdout == mine
        refused = service.machine.run(*nobody, "--regid=nogroup", _COMMITD, "history", check=False)
        assert "(sudo commitd history)" in refused.stderr
    finally:
        service.machine.run("groupdel", "commitd")
    assert set(one_stack.running()) == {"one-app-1"}


def test_doctor_finds_the_service_well_and_then_each_fault_of_its_unit(
    service: Service, one_stack: Fleet
) -> None:
    def doctor(level: str, *codes: str) -> str:
        asked = service.machine.run(_COMMITD, "doctor", "--json", check=False)
        found = json.loads(asked.stdout)["findings"]
        return "\n".join(
            f"{each['what']} → {each['remedy']}"
            for each in found
            if each["code"] in codes and each["level"] == level
        )

    service.start()
    service.systemctl("enable", UNIT)
    assert "commitd.service is active, enabled" in doctor("ok", "unit")
    assert "nothing loosens the unit" in doctor("ok", "unit-drop-in")
    assert doctor("problem", "unit", "agent", "agent-version", "secret-file") == ""

    service.drop_in("ProtectSystem=full", "MemoryMax=3G", "NoNewPrivileges=no")
    said = doctor("warning", "unit-drop-in")
    assert f"{DROP_IN}:2 loosens the unit: ProtectSystem=full, shipped as strict" in said
    assert f"{DROP_IN}:4 loosens the unit: NoNewPrivileges=no" in said
    assert "MemoryMax" not in said
    service.machine.run("rm", "-rf", f"{UNIT_FILE}.d")
    assert "systemctl daemon-reload" in doctor("warning", "unit")

    service.systemctl("daemon-reload")
    service.machine.write("/root/age.key", b"", mode=0o600)
    service.config["secrets"]["age_key"] = "/root/age.key"
    service.write_config()
    assert "BindReadOnlyPaths=/root/age.key" in doctor("problem", "unit")

    service.systemctl("disable", "--now", UNIT)
    said = doctor("problem", "unit", "agent")
    assert "systemctl enable commitd" in said
    assert "no agent runs → systemctl start commitd" in said
    assert set(one_stack.running()) == {"one-app-1"}


def test_files_that_a_container_has_made_its_own_are_updated_all_the_same(
    service: Service, one_stack: Fleet
) -> None:
    one_stack.commit("a file to mount", {"stacks/one/conf/a.ini": "old"})
    service.systemctl("start", UNIT)
    service.reports(_head(one_stack)[:7])
    directory = f"{STATE}/repo/stacks/one/conf"
    service.machine.run("chown", "-R", "999:999", directory)
    service.machine.run("chmod", "-R", "go-rwx", directory)
    one_stack.commit("it changes", {"stacks/one/conf/a.ini": "new"})
    service.reports(_head(one_stack)[:7])
    assert service.machine.run("cat", f"{directory}/a.ini").stdout == "new"


# --- the log --------------------------------------------------------------------------------------


def test_the_journal_shows_just_the_trouble_and_all_of_one_stack(
    service: Service, fleet: Fleet
) -> None:
    crash = fleet.box.images.build("crash", "1.0", command="exit 3")
    fleet.commit(
        "first",
        {
            "host/media/stacks.yaml": "- web\n- other\n",
            "stacks/web/compose.yaml": fleet.compose(),
            "stacks/other/compose.yaml": fleet.compose(),
        },
    )
    service.machine.run("/opt/commitd/bin/commitd", "enroll", "--yes")
    service.start()
    first = _head(fleet)
    assert service.logged("--priority=warning") == ""
    bad = fleet.commit("it crashes", {"stacks/web/compose.yaml": fleet.compose(crash)})
    service.reports(f"web rolled back to {first[:7]}")

    trouble = service.logged("--priority=warning").splitlines()
    assert len(trouble) == 2, trouble
    assert re.fullmatch(
        rf"web: deploying {bad[:7]} failed after [\d.]+ s: web-app-1 has ended with 3.*"
        r" \[changed\]",
        trouble[0],
    )
    assert re.fullmatch(
        rf"web: rolled back to {first[:7]} in [\d.]+ s: its new release was not healthy"
        r" \[release-unhealthy\]",
        trouble[1],
    )

    def of(*matches: str) -> list[dict[str, str]]:
        said = service.logged(*matches, "--output=json")
        return [json.loads(line) for line in said.splitlines()]

    # The verdict may be known a moment before the hold is written down.
    held = ("STACK=web", "ACTION=hold", "STATUS=held")
    wait_until(lambda: bool(of(*held)), what="the line of the hold")
    ends = [each for each in of("STACK=web") if "STATUS" in each]
    assert [(each["ACTION"], each["STATUS"], each["REASON"]) for each in ends] == [
        ("deploy", "succeeded", "new"),
        ("deploy", "failed", "changed"),
        ("rollback", "succeeded", "release-unhealthy"),
        ("hold", "held", "release-unhealthy"),
    ]
    assert [each["REVISION"] for each in ends] == [first, bad, first, bad]
    assert {each["STACK"] for each in of("STACK=web")} == {"web"}
    assert all(float(each["DURATION_S"]) >= 0 and int(each["CYCLE"]) > 0 for each in ends)
    # Nothing of another stack, and of that one nothing but its deploy.
    assert [(each["ACTION"], each["STATUS"]) for each in of("STACK=other", "STATUS=succeeded")] == [
        ("deploy", "succeeded")
    ]
    assert len(of(f"CYCLE={ends[1]['CYCLE']}", "STACK=web")) >= 2

    # Who orders something by sudo is in the history.
    ordered = ("env", "SUDO_UID=65534", "/opt/commitd/bin/commitd", "suspend", "other")
    service.machine.run(*ordered)
    service.reports("suspended: other")
    history = service.machine.run("/opt/commitd/bin/commitd", "history", "other", "--json").stdout
    newest = json.loads(history)[0]
    assert (newest["reason"], newest["actor"]) == ("suspended", "nobody (uid 65534)")


def test_the_package_makes_the_group_that_may_ask(service: Service) -> None:
    file = "/etc/sysusers.d/commitd.conf"
    service.machine.write(file, (REPO / "systemd/commitd.sysusers.conf").read_bytes())
    try:
        service.machine.run("systemd-sysusers", file)
        assert service.machine.run("getent", "group", "commitd").stdout.startswith("commitd:")
    finally:
        service.machine.run("groupdel", "commitd", check=False)
        service.machine.run("rm", file)


# --- the key --------------------------------------------------------------------------------------


def test_the_age_key_as_a_credential_decrypts_and_no_secret_is_logged(
    service: Service, fleet: Fleet
) -> None:
    old, new = "correct horse", "battery staple"
    encrypt = fleet.box.encrypt
    fleet.commit(
        "first",
        {
            "host/media/stacks.yaml": "- one\n- foreign\n- spoilt\n",
            "stacks/one/compose.yaml": fleet.compose(more="    environment: [PASSWORD]\n"),
            "stacks/one/db.secret.env": encrypt(f"PASSWORD={old}\n"),
            "stacks/foreign/compose.yaml": fleet.compose(),
            "stacks/foreign/db.secret.env": encrypt(
                f"PASSWORD={old}\n", [fleet.box.new_age_key().recipient]
            ),
            "stacks/spoilt/compose.yaml": fleet.compose(),
            "stacks/spoilt/db.secret.env": f"PASSWORD={old}\n",
        },
    )

    def value() -> str:
        return fleet.box.engine.run("exec", "one-app-1", "sh", "-c", "echo $PASSWORD").strip()

    service.config["secrets"]["age_key"] = "credential:age.key"
    service.write_config()
    service.drop_in("LoadCredential=age.key:/etc/commitd/age.key")
    service.start()
    assert set(fleet.running()) == {"one-app-1"}
    assert value() == old

    # The file is gone; the service has what it was started with.
    service.machine.run("rm", "/etc/commitd/age.key")
    rotated = fleet.commit("rotated", {"stacks/one/db.secret.env": encrypt(f"PASSWORD={new}\n")})
    service.reports(rotated[:7])
    assert value() == new

    said = service.machine.run("journalctl", "--output=export", "--all").stdout
    assert "decrypted stacks/one/db.secret.env" in said
    key = fleet.box.age.private.read_text().split()[-1]
    assert key.startswith("AGE-SECRET-KEY-")
    assert [hidden for hidden in (old, new, key) if hidden in said] == []

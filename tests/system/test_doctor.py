"""`commitd doctor` on real hosts: a healthy one, and one fault after the other."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

import pytest

from tests import schemas
from tests.sandbox import forkserver, linux
from tests.sandbox.process import run, wait_until
from tests.system import registries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

_AGENT = Path(__file__).parents[2] / "agent"
_WORD = "correct horse battery"
_TOKEN = "f0e1d2c3b4a5968778695a4b3c2d1e0f"

_AS_NOBODY = """
import importlib, os, pkgutil, sys
import agent
for module in pkgutil.walk_packages(agent.__path__, "agent."):
    importlib.import_module(module.name)
os.setgroups([]); os.setgid(65534); os.setuid(65534)
from agent.surface.cli.main import cli
cli(["doctor", "--json"])
"""

Finding = dict[str, Any]


def _look(host: Host, **environment: Any) -> list[Finding]:
    """What doctor finds on a host that has a problem."""
    done = host.commitd("doctor", "--json", **environment)
    assert done.returncode == 1, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert schemas.faults(found, "doctor") == []
    findings: list[Finding] = found["findings"]
    return findings


def _one(found: list[Finding], code: str, level: str = "problem") -> str:
    """What the only finding with this code and level says, with its remedy."""
    (said,) = (
        f"{f['what']} → {f['remedy']}" for f in found if (f["code"], f["level"]) == (code, level)
    )
    return said


def _files(fleet: Fleet, **more: str | bytes | None) -> dict[str, str | bytes | None]:
    return {
        "host/media/stacks.yaml": "- web\n",
        "host/media/age.pub": f"{fleet.box.age.recipient}\n",
        "stacks/web/compose.yaml": fleet.compose(),
        **more,
    }


@pytest.fixture
def host(fleet: Fleet) -> Host:
    """One whose repository has it, and where no agent was started yet."""
    fleet.commit("first", _files(fleet))
    return fleet.host()


def test_a_healthy_host_has_no_problem_and_is_not_disturbed(fleet: Fleet) -> None:
    secret = fleet.box.encrypt(f"WORD={_WORD}\n")
    fleet.commit("first", _files(fleet, **{"stacks/web/app.secret.env": secret}))
    host = fleet.connected()
    with host.running() as agent:
        agent.says("in sync with")
        before = fleet.running()
        done = host.commitd("doctor")
        found = host.json("doctor")
        assert fleet.running() == before
        assert agent.process.poll() is None
    assert done.returncode == 0, done.stdout + done.stderr
    assert "media: 0 problems, 0 warnings" in done.stdout
    by_code = {each["code"]: each for each in found["findings"]}
    assert {c for c, each in by_code.items() if each["level"] not in {"ok", "unknown"}} == set()
    assert "1, tried with those of" in by_code["secrets"]["what"]
    assert {"host-key", "remote", "clock", "plan", "registry", "swarm"} <= by_code.keys()
    assert _WORD not in done.stdout + json.dumps(found)


def test_a_machine_that_is_no_host_yet_is_told_of_setup(fleet: Fleet) -> None:
    host = fleet.connected()
    host.config_path.unlink()
    found = _look(host)
    assert _one(found, "config") == (
        f"there is no {host.config_path}: this machine is no host yet → commitd setup"
    )
    assert next(f for f in found if f["code"] == "git")["level"] == "ok"


def test_a_key_that_the_configuration_does_not_know_is_named(host: Host) -> None:
    host.config["remots"] = []
    host.write_config()
    said = _one(_look(host), "config")
    assert f"{host.config_path}:" in said
    assert "'remotes'" in said


def test_a_risk_that_the_configuration_takes_is_named(host: Host) -> None:
    host.config["history"] = "follow"
    host.write_config()
    assert "history: forward-only" in _one(_look(host), "config-choice", "warning")


def test_that_no_agent_runs_is_a_problem(host: Host) -> None:
    assert _one(_look(host), "agent") == "no agent runs → systemctl start commitd"


def test_an_agent_that_hangs_is_told_from_one_that_answers(fleet: Fleet) -> None:
    host = fleet.synced(_files(fleet))
    with host.running() as agent:
        agent.says("in sync with")
        agent.send(signal.SIGSTOP)
        try:
            said = _one(_look(host), "agent")
        finally:
            agent.send(signal.SIGCONT)
    assert "does not answer on its socket" in said
    assert "systemctl restart commitd" in said


def test_an_agent_of_before_an_installation_is_noticed(fleet: Fleet) -> None:
    host = fleet.synced(_files(fleet))
    with host.running() as agent:
        agent.says("in sync with")
        begun = Path(f"/proc/{agent.process.pid}").stat().st_ctime
        file = _AGENT / "__init__.py"

        def installed() -> bool:
            file.chmod(file.stat().st_mode & 0o7777)  # which the inode notes
            return file.stat().st_ctime > begun + 2

        wait_until(installed, what="the clock to go on")
        found = host.json("doctor")["findings"]
    assert "systemctl restart commitd" in _one(found, "agent-version", "warning")


def test_what_the_installed_version_would_do_is_told(fleet: Fleet) -> None:
    host = fleet.synced(_files(fleet))
    fleet.box.engine.run("stop", "--time", "0", "web-app-1")
    assert "web would be deployed (start app): " in _one(_look(host), "plan", "warning")


def test_an_engine_that_is_down_is_a_problem(fleet: Fleet, host: Host) -> None:
    fleet.box.engine.stop()
    found = _look(host)
    assert "systemctl status docker" in _one(found, "docker")
    assert next(f for f in found if f["code"] == "remote")["level"] == "ok"


def test_an_engine_of_a_swarm_is_told_of(fleet: Fleet, host: Host) -> None:
    fleet.box.engine.api(
        "POST", "/swarm/init", {"ListenAddr": "127.0.0.1:2377", "AdvertiseAddr": "127.0.0.1"}
    )
    try:
        said = _one(_look(host), "swarm", "warning")
        host.once()
        status = host.json("status")
        shown = host.commitd("status").stdout
    finally:
        fleet.box.engine.api("POST", "/swarm/leave?force=1")
    assert "a manager of a Swarm (active)" in said
    assert status["engine"]["swarm"] == "manager"
    assert "Docker is a manager of a Swarm" in shown


def test_a_socket_that_anybody_may_use_is_a_problem(fleet: Fleet, host: Host) -> None:
    socket = fleet.box.engine.socket
    before = socket.stat().st_mode & 0o777
    socket.chmod(0o666)
    try:
        assert f"chmod o-rw {socket}" in _one(_look(host), "docker-socket")
    finally:
        socket.chmod(before)


def test_programs_that_are_not_there_are_named_with_what_is_needed(host: Host) -> None:
    host.path = [str(host.root)]
    found = _look(host, HOME="/nonexistent")
    assert _one(found, "git").endswith("install git 2.39 or newer")


def test_an_old_program_is_named_with_what_is_needed(host: Host) -> None:
    old = host.root / "git"
    old.write_text("#!/bin/sh\necho git version 2.30.2\n")
    old.chmod(0o755)
    host.path = [str(host.root), *host.path]
    assert _one(_look(host), "git") == "git 2.30.2 is too old → install git 2.39 or newer"


def test_another_sops_than_the_pinned_one_is_a_problem(fleet: Fleet, host: Host) -> None:
    secret = fleet.box.encrypt("WORD=x\n")
    fleet.commit("a secret", {"stacks/web/app.secret.env": secret})
    host.config["secrets"]["sops"]["sha256"] = "0" * 64
    host.write_config()
    assert "is not the pinned one" in _one(_look(host), "sops")


@pytest.mark.parametrize(
    ("spoil", "remedy"),
    [
        (lambda path: path.chmod(0o644), "chmod 600"),
        (lambda path: os.chown(path, 1000, 1000), "chown root:"),
        (lambda path: path.parent.chmod(0o777), "chmod go-w"),
        (lambda path: path.unlink(), "put it there"),
    ],
    ids=["open", "of another user", "in an open directory", "missing"],
)
def test_a_key_that_others_can_reach_is_a_problem(host: Host, spoil: Any, remedy: str) -> None:
    place = host.root / "keys"
    place.mkdir(mode=0o700)
    key = place / "age.key"
    shutil.copy(host.config["secrets"]["age_key"], key)
    key.chmod(0o600)
    host.config["secrets"]["age_key"] = str(key)
    host.write_config()
    spoil(key)
    said = _one(_look(host), "secret-file")
    assert str(key) in said
    assert remedy in said


def test_a_damaged_age_key_is_a_problem(host: Host) -> None:
    key = host.root / "age.key"
    key.write_text("AGE-SECRET-KEY-1NONSENSE\n")
    key.chmod(0o600)
    host.config["secrets"]["age_key"] = str(key)
    host.write_config()
    said = _one(_look(host), "age-key")
    assert "NONSENSE" not in said


def test_keys_of_the_machine_that_this_one_was_cloned_from_are_a_problem(host: Host) -> None:
    place = host.root / "etc"
    place.mkdir(mode=0o700)
    shutil.copy(host.config["secrets"]["age_key"], place / "age.key")
    host.config["secrets"]["age_key"] = str(place / "age.key")
    host.write_config()
    (place / "identity.json").write_text(json.dumps({"machine": "0" * 64, "host": "template"}))
    assert "as template: this is a clone of it" in _one(_look(host), "identity")


def test_a_key_that_another_host_has_too_is_a_problem(fleet: Fleet, host: Host) -> None:
    fleet.commit("attic is a clone", {"host/attic/age.pub": f"{fleet.box.age.recipient}\n"})
    assert "is that of attic as well" in _one(_look(host), "identity")


def test_what_keeps_the_agent_from_starting_is_told_as_that(host: Host) -> None:
    host.config["api"] = {"writers": "nobody-has-it"}
    host.write_config()
    said = _one(_look(host), "config")
    assert "does not start with this configuration" in said
    assert "groupadd" in said


def _over_ssh(fleet: Fleet, **changed: str) -> Host:
    fleet.commit("first", _files(fleet))
    host = fleet.connected(remotes=[fleet.box.gitea])
    host.config["remotes"][0] |= changed
    host.write_config()
    return host


def test_a_host_key_that_has_changed_is_named_with_both_fingerprints(fleet: Fleet) -> None:
    host = _over_ssh(fleet)
    other = host.root / "other"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other])
    pinned = host.root / "known_hosts"
    pinned.write_text(
        f"[127.0.0.1]:2222 {' '.join(other.with_suffix('.pub').read_text().split()[:2])}\n"
    )
    host.config["remotes"][0]["known_hosts"] = str(pinned)
    host.write_config()
    found = _look(host)
    said = _one(found, "host-key")
    for key in (other.with_suffix(".pub"), fleet.box.gitea.root / "host_key.pub"):
        shown = run(["ssh-keygen", "-lf", key]).decode().split()[1]
        assert shown in said
    assert "ask the server's owner" in said
    assert "is not the one in" in _one(found, "remote")


def test_a_host_key_that_is_not_pinned_is_shown(fleet: Fleet) -> None:
    host = _over_ssh(fleet)
    (host.root / "known_hosts").write_text("")
    host.config["remotes"][0]["known_hosts"] = str(host.root / "known_hosts")
    host.write_config()
    assert "commitd setup pins it" in _one(_look(host), "host-key")


def test_a_deploy_key_that_the_forge_does_not_know_is_named(fleet: Fleet) -> None:
    host = _over_ssh(fleet)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", host.root / "deploy_key"])
    host.config["remotes"][0]["ssh_key"] = str(host.root / "deploy_key")
    host.write_config()
    said = _one(_look(host), "remote")
    assert f"see that the forge has {host.root}/deploy_key.pub" in said


def test_a_remote_that_is_down_is_named_beside_one_that_answers(fleet: Fleet) -> None:
    fleet.commit("first", _files(fleet))
    host = fleet.connected()
    fleet.box.github.stop()
    found = _look(host)
    assert "remote github" in _one(found, "remote")
    assert "remote gitea answers" in _one(found, "remote", "ok")


def test_a_branch_that_is_not_there_is_named(host: Host) -> None:
    host.config["branch"] = "production"
    host.write_config()
    assert "it has no branch production" in _one(_look(host), "remote")


def test_a_repository_that_does_not_have_this_host_is_named(host: Host) -> None:
    host.config["host"] = "attic"
    host.write_config()
    assert "host/attic/stacks.yaml" in _one(_look(host), "repository")


def test_a_public_key_of_another_machine_is_named(fleet: Fleet, host: Host) -> None:
    other = fleet.box.new_age_key().recipient
    fleet.commit("another key", {"host/media/age.pub": f"{other}\n"})
    assert fleet.box.age.recipient in _one(_look(host), "repository")


@pytest.mark.parametrize("applied", [False, True], ids=["before the first commit", "later"])
def test_a_secret_that_does_not_decrypt_here_is_named(fleet: Fleet, applied: bool) -> None:
    other = fleet.box.new_age_key().recipient
    theirs = fleet.box.encrypt(f"WORD={_WORD}\n", [other])
    ours = fleet.box.encrypt(f"WORD={_WORD}\n")
    fleet.commit(
        "first",
        _files(fleet, **{"stacks/web/a.secret.env": ours, "stacks/web/b.secret.env": theirs}),
    )
    host = fleet.host()
    if applied:
        host.once()
    said = _one(_look(host), "secrets")
    assert "stacks/web/b.secret.env" in said
    assert said.count("commitd secrets recipients") == 1
    assert _WORD not in said


def test_beside_an_agent_no_container_of_sops_is_started(fleet: Fleet) -> None:
    secret = fleet.box.encrypt(f"WORD={_WORD}\n")
    fleet.commit("first", _files(fleet, **{"stacks/web/a.secret.env": secret}))
    host = fleet.host()
    image = fleet.box.images.sops
    host.config["secrets"]["sops"] = {"image": image}
    host.write_config()
    listing = ("images", "--format", "{{.Repository}}@{{.Digest}}")
    before = {*fleet.box.engine.run(*listing).split()}
    found = _look(host)
    if image not in before:
        assert f"the SOPS image is not on this host: {image}" in _one(found, "secrets", "unknown")
    assert {*fleet.box.engine.run(*listing).split()} == before  # to look pulls nothing
    fleet.box.engine.pull(image)
    assert "1, tried with those of" in _one(_look(host), "secrets", "ok")
    with host.running() as agent:
        agent.says("in sync with")
        found = host.json("doctor")["findings"]
        assert "1, as the running agent has noted" in _one(found, "secrets", "ok")
        broken = fleet.box.encrypt(f"WORD={_WORD}\n", [fleet.box.new_age_key().recipient])
        fleet.commit("second", {"stacks/web/a.secret.env": broken})
        agent.says("cannot decrypt it")
        assert "stacks/web/a.secret.env" in _one(_look(host), "secrets")
    assert "evict" not in agent.log


def test_a_stack_that_cannot_be_read_is_named_and_its_secrets_are_not_called_well(
    fleet: Fleet, host: Host
) -> None:
    fleet.commit("a fault", {"stacks/web/compose.yaml": "services: [\n"})
    found = _look(host)
    assert "stacks/web/compose.yaml" in _one(found, "repository")
    assert "secrets" not in {each["code"] for each in found}


@pytest.mark.usefixtures("basic")
def test_a_registry_that_wants_a_login_is_named(fleet: Fleet) -> None:
    image = fleet.idle.replace("127.0.0.1:5000", f"127.0.0.1:{registries.BASIC}")
    fleet.commit("first", _files(fleet, **{"stacks/web/compose.yaml": fleet.compose(image)}))
    host = fleet.host()
    docker = host.root / ".docker"
    docker.mkdir()
    said = _one(_look(host, DOCKER_CONFIG=str(docker)), "registry")
    assert f"docker login 127.0.0.1:{registries.BASIC}" in said
    pair = base64.b64encode(f"{registries.USER}:{registries.PASSWORD}".encode()).decode()
    auths = {"auths": {f"127.0.0.1:{registries.BASIC}": {"auth": pair}}}
    (docker / "config.json").write_text(json.dumps(auths))
    found = _look(host, DOCKER_CONFIG=str(docker))
    assert "with the login in " in _one(found, "registry", "ok")
    assert registries.PASSWORD not in json.dumps(found)
    assert pair not in json.dumps(found)
    (docker / "config.json").write_text(json.dumps({"credsStore": "nothing"}))
    assert "docker-credential-nothing" in _one(_look(host, DOCKER_CONFIG=str(docker)), "registry")


def test_a_disk_without_room_is_named(host: Host) -> None:
    linux.mount("tmpfs", host.state, "tmpfs", options="size=16m,nr_inodes=100,mode=700")
    try:
        found = _look(host)
    finally:
        linux.unmount_below(host.state)
    assert f"state_dir ({host.state}) has" in _one(found, "space")
    assert "du --inodes" in _one(found, "inodes")


def test_a_directory_that_others_look_into_is_a_problem(fleet: Fleet) -> None:
    host = fleet.synced(_files(fleet))
    host.state.chmod(0o755)
    assert "state_dir" in _one(_look(host), "directory")


def test_a_file_in_the_place_of_a_directory_is_a_problem(host: Host) -> None:
    shutil.rmtree(host.state)
    host.state.write_text("what is this?")
    assert "it is no directory → move it away" in _one(_look(host), "directory")


def test_an_engine_that_hangs_is_a_problem_and_not_just_unknown(fleet: Fleet, host: Host) -> None:
    host.constants = {
        "agent.adapters.engine.about.ANSWER_S": 1.0,
        "agent.control.doctor.running.PLAN_S": 1.0,
    }
    fleet.box.engine.freeze()
    try:
        found = _look(host)
    finally:
        fleet.box.engine.thaw()
    assert "Docker does not answer" in _one(found, "docker")


def test_an_agent_whose_socket_was_taken_away_is_a_problem(fleet: Fleet) -> None:
    host = fleet.synced(_files(fleet))
    with host.running() as agent:
        agent.says("in sync with")
        shutil.rmtree(host.config["runtime_dir"])
        assert "does not answer on its socket" in _one(_look(host), "agent")


class _Forge(BaseHTTPRequestHandler):
    """A forge that knows one token, says what it may, and has a clock of its own."""

    ahead_s = 0.0
    scopes: str | None = None
    may_push = True

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate((timestamp or time()) + self.ahead_s, usegmt=True)

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_GET(self) -> None:
        known = self.headers["Authorization"] in {f"Bearer {_TOKEN}", f"token {_TOKEN}"}
        self.send_response(200 if known else 401)
        if self.scopes is not None:
            self.send_header("X-OAuth-Scopes", self.scopes)
        self.end_headers()
        self.wfile.write(json.dumps({"permissions": {"push": self.may_push}}).encode())


@contextmanager
def _forge(host: Host, kind: str, token: str = _TOKEN, **what: Any) -> Iterator[None]:
    handler = type("Handler", (_Forge,), what)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    file = host.root / "forge.token"
    file.touch(mode=0o600)
    file.write_text(token)
    host.config["commit_status"] = {
        "forge": kind,
        "url": f"http://127.0.0.1:{server.server_port}",
        "repository": "ops/homelab",
        "token_file": str(file),
        "plain_http": True,
    }
    host.write_config()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def test_a_token_that_may_not_tell_is_named_by_what_the_forge_says(host: Host) -> None:
    with _forge(host, "github", scopes="read:org"):
        assert "its scopes are read:org" in _one(_look(host), "forge-token")
    with _forge(host, "github", scopes="repo:status"):
        assert "repo:status" in _one(_look(host), "forge-token", "ok")
    with _forge(host, "gitea", may_push=False):
        assert "may not write to ops/homelab" in _one(_look(host), "forge-token")
    with _forge(host, "gitea", token="another one"):
        assert "is not accepted" in _one(_look(host), "forge-token")


def test_a_clock_that_is_wrong_is_told_by_the_servers_answer(host: Host) -> None:
    with _forge(host, "gitea", ahead_s=7200.0):
        said = _one(_look(host), "clock")
    assert "the clock is 2 h behind 127.0.0.1" in said
    assert "timedatectl" in said


def test_a_server_that_hangs_holds_up_no_other_look(fleet: Fleet, host: Host) -> None:
    host.constants = {"agent.control.doctor.remotes.FETCH_S": 3.0}
    host.config["remotes"] = [fleet.box.gitea.remote_config()]
    host.write_config()
    fleet.box.gitea.proxy.mode("blackhole")
    found = _look(host)
    assert "no answer within 3 s" in _one(found, "remote", "unknown")
    assert next(f for f in found if f["code"] == "git")["level"] == "ok"


def test_nothing_that_is_secret_is_shown_or_left_behind(fleet: Fleet) -> None:
    secret = fleet.box.encrypt(f"WORD={_WORD}\n")
    broken = fleet.box.encrypt(f"WORD={_WORD}\n", [fleet.box.new_age_key().recipient])
    fleet.commit(
        "first",
        _files(fleet, **{"stacks/web/a.secret.env": secret, "stacks/web/b.secret.env": broken}),
    )
    host = fleet.connected()
    scratch = host.root / "tmp"
    scratch.mkdir()
    with _forge(host, "github", scopes=""):
        done = host.commitd("doctor", TMPDIR=str(scratch))
        found = _look(host, TMPDIR=str(scratch))
    said = done.stdout + done.stderr + json.dumps(found)
    key = Path(host.config["secrets"]["age_key"]).read_text().splitlines()[-1]
    token = Path(host.config["remotes"][1]["token_file"]).read_text().strip()
    for hidden in (_WORD, key, token, _TOKEN):
        assert hidden not in said
    assert [*scratch.iterdir()] == []
    left = [path for path in host.root.rglob("*") if path.is_file()]
    assert not [path for path in left if _WORD.encode() in path.read_bytes()]


def test_told_to_end_it_leaves_no_child(fleet: Fleet, host: Host) -> None:
    host.config["remotes"] = [fleet.box.github.remote_config()]
    host.write_config()
    scratch = host.root / "tmp"
    scratch.mkdir()
    host.path = [str(host.root / "bin"), *host.path]
    slow = host.root / "bin/git"
    slow.parent.mkdir()
    slow.write_text('#!/bin/sh\necho $$ >>"${0%/bin/git}/pids"\nexec sleep 300\n')
    slow.chmod(0o755)
    process = host.start("doctor")
    pids = host.root / "pids"
    wait_until(lambda: pids.exists() and pids.read_text().endswith("\n"), what="a child")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    for pid in pids.read_text().split():
        assert not Path(f"/proc/{pid}").exists()


def test_another_user_is_told_what_was_not_looked_at(host: Host) -> None:
    host.config_path.chmod(0o600)
    environment = host.environment | {"HOME": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY],
        env=environment, cwd=forkserver.ROOT,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode in {0, 1}, done.stderr
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)["findings"]
    assert "sudo commitd doctor" in _one(found, "config", "unknown")
    assert next(f for f in found if f["code"] == "git")["level"] == "ok"

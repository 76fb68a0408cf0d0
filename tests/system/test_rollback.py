"""What comes up and is not well goes back to what was, in every respect, and stays there."""

from __future__ import annotations

import os
import re
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from tests.sandbox import SandboxError
from tests.sandbox.engine_proxy import EngineProxy
from tests.sandbox.process import wait_until
from tests.system.killing import nth, once_until
from tests.system.releases import NEVER_WELL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.engine_proxy import Request
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

STACK = "stacks/web/compose.yaml"
LIST = {"host/media/stacks.yaml": "- web\n- other\n"}


def compose(image: str, *lines: str, settings: str = "") -> str:
    if not any(line.startswith(("ports:", "network")) for line in lines):
        lines = ("network_mode: host", *lines)
    more = "".join(f"    {line}\n" for line in lines)
    head = f"x-commitd: {{{settings}}}\n" if settings else ""
    return f"{head}services:\n  app:\n    image: {image}\n{more}"


@pytest.fixture
def host(fleet: Fleet) -> Host:
    """A host where web 1.0 and another stack run, with a file, a value and a secret."""
    return fleet.synced(
        {
            **LIST,
            STACK: compose(
                fleet.idle,
                "environment: {V: '${V}', G: '${G}', S: '${S}'}",
                "volumes: [./conf:/conf:ro, data:/data]",
            )
            + "volumes: {data: {}}\n",
            "stacks/web/conf/a.txt": "one\n",
            "stacks/web/v.env": "V=1\n",
            "global/g.env": "G=1\n",
            "stacks/web/s.secret.env": fleet.box.encrypt("S=first\n"),
            "stacks/other/compose.yaml": fleet.compose(),
        }
    )


def test_a_release_that_is_not_well_goes_back_to_the_last_one_that_was(
    fleet: Fleet, host: Host
) -> None:
    good = fleet.environment("web-app-1")
    bad = fleet.commit(
        "bad",
        {
            STACK: compose(
                fleet.idle,
                "command: [sh, -c, 'echo it says $$S; exit 3']",
                NEVER_WELL,
                "environment: {V: '${V}', G: '${G}', S: '${S}'}",
                "volumes: [./conf:/conf:ro, data:/data]",
            )
            + "volumes: {data: {}}\n",
            "stacks/web/conf/a.txt": "two\n",
            "stacks/web/v.env": "V=2\n",
            "global/g.env": "G=2\n",
            "stacks/web/s.secret.env": fleet.box.encrypt("S=zq8xhidden\n"),
            "stacks/other/compose.yaml": fleet.compose(more="    hostname: changed\n"),
        },
    )
    result = host.once()
    assert result.returncode == 1
    assert "has ended with 3" in result.stdout
    assert "its last words may hold a secret" in result.stdout
    assert "zq8xhidden" not in result.stdout + result.stderr
    assert fleet.environment("web-app-1") == good
    assert fleet.box.engine.run("exec", "web-app-1", "cat", "/conf/a.txt") == "one\n"
    assert fleet.box.engine.inspect("other-app-1")["Config"]["Hostname"] == "changed"
    back, deploy = host.json("history", "web")[:2]
    assert (back["action"], deploy["action"]) == ("rollback", "deploy")
    turned = {(c["name"], c["to"], c["from"]) for c in deploy["cause"]}
    assert turned <= {(c["name"], c["from"], c["to"]) for c in back["cause"]}
    assert host.json("status")["stacks"][1]["sync"] == "failed"
    before = fleet.running()
    result = host.once()
    assert result.returncode == 1
    assert "its new release was not healthy" in result.stdout
    assert fleet.running() == before
    assert host.json("history")[0]["action"] != "deploy"
    # It drifts: what is put right is the release that is back, not the bad one.
    fleet.box.engine.run("rm", "--force", "web-app-1")
    host.once()
    assert fleet.environment("web-app-1") == good
    # Another commit that does not touch it changes nothing; edits are discarded, not the overlay.
    fleet.commit("elsewhere", {"stacks/other/compose.yaml": fleet.compose()})
    host.once()
    assert fleet.environment("web-app-1") == good
    assert (host.repo / "stacks/web/conf/a.txt").read_text() == "one\n"
    fleet.commit(
        "mended",
        {
            STACK: compose(
                fleet.idle,
                "environment: {V: '${V}', G: '${G}', S: '${S}'}",
                "volumes: [./conf:/conf:ro, data:/data]",
            )
            + "volumes: {data: {}}\n",
        },
    )
    result = host.once()
    assert result.returncode == 0, result.stdout
    now = fleet.environment("web-app-1")
    assert (now["V"], now["G"], now["S"]) == ("2", "2", "zq8xhidden")
    assert fleet.box.engine.run("exec", "web-app-1", "cat", "/conf/a.txt") == "two\n"
    assert host.json("status")["verdict"].split(": ")[-1].startswith("in sync")
    assert len(bad) == 40


def test_a_bad_release_is_tried_again_when_a_person_says_so(fleet: Fleet, host: Host) -> None:
    fleet.commit(
        "bad",
        {
            STACK: compose(
                fleet.idle,
                "command: [test, -e, /data/go]",
                NEVER_WELL,
                "volumes: [data:/data]",
                "restart: always",
            )
            + "volumes: {data: {}}\n"
        },
    )
    assert "crashes again and again" in host.once().stdout
    fleet.box.engine.run("exec", "web-app-1", "touch", "/data/go")
    assert host.commitd("retry", "wep").returncode == 2
    assert host.commitd("retry", "web").returncode == 0
    # The condition is met now, but the command ends, and with `restart: always` that is a crash.
    assert host.once().returncode == 1
    wait_until(lambda: "web-app-1" in fleet.running(), what="web to be back")


# --- what else may happen -------------------------------------------------------------------------

ALONE = {"host/media/stacks.yaml": "- web\n"}
MOUNT = "    volumes: [./a.conf:/x:ro]\n"


def _up(fleet: Fleet, files: dict[str, str | bytes | None]) -> Host:
    fleet.commit("good", {**ALONE, **files})
    host = fleet.host()
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    return host


def _sees_now(fleet: Fleet) -> str:
    """The same while it may be restarting."""
    try:
        return _sees(fleet)
    except SandboxError:
        return ""


def _sees(fleet: Fleet) -> str:
    return fleet.box.engine.run("exec", "web-app-1", "cat", "/x")


def test_who_wants_no_rollback_keeps_the_failed_release_to_look_at(fleet: Fleet) -> None:
    host = _up(fleet, {STACK: compose(fleet.idle)})
    check = "healthcheck: {test: [CMD, 'false'], interval: 500ms, retries: 1}"
    fleet.commit("bad", {STACK: compose(fleet.idle, check, settings="rollback: false")})
    result = host.once()
    assert result.returncode == 1
    assert "web-app-1 is unhealthy" in result.stdout
    failed = fleet.running()
    assert "Healthcheck" in fleet.box.engine.inspect("web-app-1")["Config"]
    result = host.once()
    assert result.returncode == 1
    assert "waits for a change" in result.stdout
    assert fleet.running() == failed
    assert "rollback" not in {entry["action"] for entry in host.json("history")}


def test_a_rollback_to_what_is_not_well_either_is_not_called_recovered(fleet: Fleet) -> None:
    data = "volumes: [data:/data]"
    end = "volumes: {data: {}}\n"
    good = "command: [sh, -c, 'test -e /data/broken && exit 5; exec tail -f /dev/null']"
    check = "healthcheck: {test: [CMD, test, '!', -e, /data/broken], interval: 500ms}"
    host = _up(fleet, {STACK: compose(fleet.idle, good, check, data) + end})
    bad = "command: [sh, -c, 'touch /data/broken; exit 3']"
    fleet.commit("bad", {STACK: compose(fleet.idle, bad, NEVER_WELL, data) + end})
    result = host.once()
    assert result.returncode == 1
    assert "has ended with 3; rollback failed: web-app-1 has ended with 5" in result.stdout
    assert "it is back" not in result.stdout
    newest = host.json("history", "web")[0]
    assert (newest["action"], newest["status"]) == ("rollback", "failed")
    assert host.json("status")["stacks"][0]["sync"] != "synced"
    assert host.once().returncode == 1


def test_the_image_to_go_back_to_is_here_before_it_is_needed(fleet: Fleet) -> None:
    """Somebody has cleaned up images; what comes back is the old one, not the failing one."""
    host = _up(fleet, {STACK: compose(fleet.web)})
    fleet.box.engine.api("DELETE", f"/images/{fleet.web}?force=1")
    fleet.commit("bad", {STACK: compose(fleet.web2, "command: ['false']", NEVER_WELL)})
    result = host.once()
    assert "rolled back to" in result.stdout
    shown = fleet.box.engine.inspect("web-app-1")
    assert shown["Config"]["Image"] == fleet.web
    assert shown["State"]["Running"]
    assert fleet.box.engine.run("exec", "web-app-1", "cat", "/www/index.html") == "v1"
    newest = host.json("history", "web")[0]
    assert (newest["action"], newest["status"]) == ("rollback", "succeeded")


def test_a_service_that_only_the_failed_release_had_goes_with_it(fleet: Fleet) -> None:
    image = f"    image: {fleet.idle}\n    network_mode: host\n"
    host = _up(fleet, {STACK: compose(fleet.idle) + f"  old:\n{image}"})
    extra = f"  extra:\n{image}"
    bad = compose(fleet.idle, "command: ['false']", NEVER_WELL)
    fleet.commit("bad", {STACK: bad + extra})
    assert "rolled back to" in host.once().stdout
    host.once()
    assert fleet.running().keys() == {"web-app-1", "web-old-1"}


# --- what only moved a mounted file ---------------------------------------------------------------

SEES_GOOD = "healthcheck: {test: [CMD, grep, -q, good, /x], interval: 500ms, retries: %s}"


@pytest.mark.parametrize("how", ["unhealthy", "crash loop"])
def test_a_mounted_file_that_makes_a_service_ill_goes_back(fleet: Fleet, how: str) -> None:
    """Compose's hash is the same, and the container is there: the file is what differs."""
    lines = [SEES_GOOD % 1]
    if how == "crash loop":
        run = "grep -q good /x || exit 4; exec tail -f /dev/null"
        lines = [f"command: [sh, -c, '{run}']", "restart: always", SEES_GOOD % 1000]
    body = compose(fleet.idle, *lines) + MOUNT
    host = _up(fleet, {STACK: body, "stacks/web/a.conf": "good"})
    fleet.commit("bad", {"stacks/web/a.conf": "bad"})
    result = host.once()
    assert result.returncode == 1
    assert "rolled back to" in result.stdout
    assert _sees(fleet) == "good"


def test_what_is_not_the_stacks_own_is_not_turned_back_and_that_is_said(fleet: Fleet) -> None:
    mount = "    volumes: [../../global/motd:/x:ro]\n"
    host = _up(fleet, {STACK: compose(fleet.idle) + mount, "global/motd": "good"})
    bad = compose(fleet.idle, "command: ['false']", NEVER_WELL) + mount
    fleet.commit("bad", {STACK: bad, "global/motd": "bad"})
    said = host.once().stdout
    assert "rollback unavailable: it reads global/motd, which other stacks may use too" in said
    assert "rolled back to" not in said


def test_older_secrets_that_cannot_be_decrypted_any_more_leave_no_way_back_and_that_is_said(
    fleet: Fleet,
) -> None:
    """The key has changed. What has failed stays, with its own files, until a commit mends it."""
    uses = compose(fleet.idle, "environment: {G: '${G}', S: '${S}'}", "restart: always") + MOUNT
    stranger = fleet.box.new_age_key()

    def files(word: str, *recipients: str) -> dict[str, str | bytes | None]:
        names = {"stacks/web/s.secret.env": "S", "global/g.secret.env": "G"}
        sealed = {p: fleet.box.encrypt(f"{n}={word}\n", recipients) for p, n in names.items()}
        return {"stacks/web/a.conf": word, **sealed}

    host = _up(fleet, {STACK: uses, **files("one", fleet.box.age.recipient)})
    host.config["secrets"]["age_key"] = str(stranger.private)
    host.write_config()
    bad = f"{uses}    command: [sh, -c, 'exit 3']\n    {NEVER_WELL}\n"
    fleet.commit("bad", {STACK: bad, **files("two", stranger.recipient)})
    result = host.once()
    assert result.returncode == 1
    assert "rollback unavailable: its secrets as they were cannot be decrypted" in result.stdout
    for word in ("one", "two"):
        assert f"={word}" not in result.stdout + result.stderr
    for _ in range(2):
        shown = fleet.box.engine.inspect("web-app-1")
        assert shown["Config"]["Cmd"] == ["sh", "-c", "exit 3"]
        assert (host.repo / "stacks/web/a.conf").read_text() == "two"
        assert (host.repo / "stacks/web/.decrypted.s.secret.env").read_text() == "S=two\n"
        assert "it failed and waits for a change: web-app-1 crashes" in host.once().stdout
    fleet.commit("mended", {STACK: uses})
    result = host.once()
    assert result.returncode == 0, result.stdout
    values = fleet.environment("web-app-1")
    assert (values["G"], values["S"], _sees(fleet)) == ("two", "two", "two")


def test_older_files_that_cannot_be_put_back_cost_no_other_stack_its_own(fleet: Fleet) -> None:
    """Data lies in the way of the one; copies that no rollback needs any more are gone."""
    good = compose(fleet.idle, "environment: {G: '${G}'}", "volumes: [./f:/x:ro]")
    bad = compose(fleet.idle, "command: ['false']", NEVER_WELL)
    names = ("one", "two")
    host = fleet.synced(
        {
            "host/media/stacks.yaml": "- one\n- two\n",
            "global/g.env": "G=1\n",
            **{f"stacks/{name}/compose.yaml": good for name in names},
            **{f"stacks/{name}/f": "x" for name in names},
        }
    )
    files = {f"stacks/{name}/compose.yaml": bad for name in names}
    gone = {f"stacks/{name}/f": None for name in names}
    fleet.commit("bad", {**files, **gone, "global/g.env": "G=2\n"})
    assert host.once().stdout.count("; rolled back to") == 2
    before = fleet.running()
    copies = host.state / "older"
    assert len([*copies.iterdir()]) == 1
    (copies / "stale.env").touch()
    (host.repo / "stacks/one/f").unlink()
    (host.repo / "stacks/one/f/data").mkdir(parents=True)
    (host.repo / "stacks/one/f/data/precious").touch()
    fleet.commit("elsewhere", {"README.md": "words"})
    result = host.once()
    assert (host.repo / "stacks/one/f/data/precious").exists()
    assert "one: its files of the last healthy release cannot be" in result.stdout
    assert (host.repo / "stacks/two/f").read_text() == "x"
    assert fleet.running() == before
    assert len([*copies.iterdir()]) == 1
    fleet.box.engine.run("rm", "--force", "two-app-1")
    host.once()
    assert fleet.environment("two-app-1")["G"] == "1"
    fleet.commit("mended", {f"stacks/{name}/compose.yaml": fleet.compose() for name in names})
    result = host.once()
    assert result.returncode == 0, result.stdout
    assert [*copies.iterdir()] == []


def test_a_mounted_file_that_is_taken_back_while_its_service_is_waited_for_is_mounted_again(
    fleet: Fleet,
) -> None:
    body = compose(fleet.idle, SEES_GOOD % 1000) + MOUNT
    host = _up(fleet, {STACK: body, "stacks/web/a.conf": "good"})
    with host.running() as agent:
        agent.says("in sync with")
        fleet.commit("bad", {"stacks/web/a.conf": "bad"})
        agent.says("mounted files changed")
        wait_until(lambda: _sees_now(fleet) == "bad", what="the bad file to be mounted")
        sha = fleet.commit("reverted", {"stacks/web/a.conf": "good"})
        agent.says(f"in sync with {sha[:7]}")
        assert _sees(fleet) == "good"


# --- the agent's death ----------------------------------------------------------------------------


@pytest.fixture
def proxy(fleet: Fleet) -> Iterator[EngineProxy]:
    with EngineProxy(fleet.box.engine.socket, fleet.box.root / "rollback-proxy.sock") as proxy:
        yield proxy


def test_an_agent_killed_after_a_mounted_file_went_in_forgets_no_revert(
    fleet: Fleet, proxy: EngineProxy
) -> None:
    host = _up(fleet, {STACK: compose(fleet.idle) + MOUNT, "stacks/web/a.conf": "good"})
    host.config["docker"] = {"socket": proxy.host}
    host.write_config()
    fleet.commit("other", {"stacks/web/a.conf": "bad"})
    once_until(host, proxy, nth("POST /containers/*/restart"), after=True)
    wait_until(lambda: "web-app-1" in fleet.running(), what="the container to run")
    fleet.commit("reverted", {"stacks/web/a.conf": "good"})
    assert host.once().returncode == 0
    assert _sees(fleet) == "good"


# --- the engine's troubles are not the release's --------------------------------------------------


def test_an_engine_that_dies_in_a_deploy_blames_no_release(
    fleet: Fleet, proxy: EngineProxy
) -> None:
    host = _up(fleet, {STACK: compose(fleet.idle)})
    host.config["docker"] = {"socket": proxy.host}
    host.write_config()
    dead = threading.Event()

    def die(_: int, request: Request) -> None:
        if request.kind == "POST /containers/*/start" and not dead.is_set():
            dead.set()
            fleet.box.engine.kill()

    with host.running() as agent:
        agent.says("in sync with")
        proxy.on_effect(die)
        sha = fleet.commit("new", {STACK: compose(fleet.idle, "hostname: new")})
        assert dead.wait(60)
        agent.says("ERROR")
        fleet.box.engine.start()
        agent.says(f"in sync with {sha[:7]}")
        assert "Traceback" not in agent.log
    assert fleet.box.engine.inspect("web-app-1")["Config"]["Hostname"] == "new"


def test_an_engine_that_stumbles_a_few_times_blames_no_release(
    fleet: Fleet, proxy: EngineProxy
) -> None:
    """What fails in passing is tried again later, without a person."""
    host = _up(fleet, {STACK: compose(fleet.idle)})
    host.config["docker"] = {"socket": proxy.host}
    host.write_config()
    left = ["first", "second", "third"]

    def stumble(_: int, request: Request) -> None:
        if request.kind == "POST /containers/*/start" and left:
            left.pop()
            raise ConnectionAbortedError

    with host.running() as agent:
        agent.says("in sync with")
        proxy.on_effect(stumble)
        sha = fleet.commit("new", {STACK: compose(fleet.idle, "hostname: new")})
        wait_until(
            lambda: f"in sync with {sha[:7]}" in agent.log or "back to" in agent.log,
            what="the end of it",
        )
        assert "back to" not in agent.log
    assert fleet.box.engine.inspect("web-app-1")["Config"]["Hostname"] == "new"


def test_what_ran_and_was_stopped_by_a_try_that_failed_is_back_at_once(fleet: Fleet) -> None:
    """Else it would be down for as long as its successor is tried."""
    files = {
        "host/media/stacks.yaml": "- holder\n- web\n",
        "stacks/holder/compose.yaml": compose(fleet.idle, "ports: ['127.0.0.1:18080:80']"),
        STACK: compose(fleet.idle, "hostname: old", "networks: [default]"),
    }
    host = fleet.synced(files)
    more = "hostname: new", "ports: ['127.0.0.1:18080:80']"
    fleet.commit("second", {STACK: compose(fleet.idle, *more)})
    result = host.once()
    assert result.returncode == 1
    taken = "port 18080 of this host is taken by the container holder-app-1 of the stack holder"
    assert result.stdout.count(taken) == 1
    assert "rolled back to" in result.stdout
    assert taken in host.commitd("why", "web").stdout
    assert "web-app-1" in fleet.running()
    assert fleet.box.engine.inspect("web-app-1")["Config"]["Hostname"] == "old"
    # Not tried again by itself: that would stop it again.
    assert host.once().returncode == 1
    done = [each["action"] for each in host.json("history", "web") if each["action"] != "hold"]
    assert done == ["rollback", "deploy", "deploy"]
    with socket.create_server(("127.0.0.1", 18081)):
        more = "hostname: new", "ports: ['127.0.0.1:18081:80']"
        fleet.commit("third", {STACK: compose(fleet.idle, *more)})
        said = host.once().stdout
    who = rf"18081/tcp of this host is taken by \S+ \(process {os.getpid()} of root\)"
    assert re.search(who, said), said


@pytest.mark.parametrize("named", ["nobody", "0123456789ab" * 5 + "0123"])
def test_a_release_that_joins_a_container_that_is_not_there_is_rolled_back(
    fleet: Fleet, host: Host, named: str
) -> None:
    """Compose misses that container as it misses one that was removed from outside."""
    fleet.commit("bad", {STACK: compose(fleet.idle, f"network_mode: container:{named}")})
    result = host.once()
    assert result.returncode == 1
    assert "undone from outside" not in result.stdout
    assert "rolled back to" in result.stdout
    assert "web-app-1" in fleet.running()

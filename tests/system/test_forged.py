"""Copied labels are no declaration: what a deploy made is known by its ID, and stays."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from agent.adapters.state.journal import Journal
from tests.sandbox import SandboxError
from tests.sandbox.engine_proxy import EngineProxy
from tests.sandbox.process import run, wait_until

if TYPE_CHECKING:
    from tests.sandbox.engine_proxy import Request
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

_LIST, _FILE = "host/media/stacks.yaml", "stacks/one/compose.yaml"
_NUMBER = "com.docker.compose.container-number"


@pytest.fixture
def host(fleet: Fleet) -> Host:
    fleet.box.engine.pull(fleet.web)
    more = "    restart: always\n    volumes: [/anonymous]\n    stop_grace_period: 0s\n"
    files = {_LIST: "- one\n", _FILE: fleet.compose(more=more)}
    host = fleet.synced(files, undeclared={"stop_timeout": "1s"})
    host.config["remotes"][0]["poll"] = "1h"  # what happens is not due to a timer
    host.write_config()
    return host


def _forge(fleet: Fleet, name: str, *, of: str = "one-app-1", **labels: str) -> str:
    """Start something else with the labels of a deployed container; its ID."""
    copied = {**fleet.box.engine.inspect(of)["Config"]["Labels"], **labels}
    words = [word for key, value in copied.items() for word in ("--label", f"{key}={value}")]
    return fleet.box.engine.run("run", "--detach", "--name", name, *words, fleet.web).strip()


def _by_hand(fleet: Fleet, *words: str) -> None:
    file = str(fleet.workspace.path / _FILE)
    run(
        [str(fleet.box.compose), "--project-name", "one", "--file", file, *words],
        env={"DOCKER_HOST": fleet.box.engine.host},
    )


def _done(host: Host) -> list[tuple[str, str, str]]:
    return [(e["action"], e["subject"], e["reason"]) for e in host.json("history")]


def _volume(fleet: Fleet) -> Any:
    return fleet.box.engine.inspect("one-app-1")["Mounts"][0]["Name"]


def test_a_container_with_copied_labels_is_evicted_when_it_starts_and_the_deployed_one_stays(
    fleet: Fleet, host: Host
) -> None:
    deployed = fleet.running()
    with host.running() as agent:
        agent.says("in sync with")
        forged = _forge(fleet, "forged", **{_NUMBER: "0"})
        wait_until(lambda: fleet.running() == deployed, what="the forged one to be evicted")
        wait_until(
            lambda: fleet.box.engine.inspect(forged)["Name"].startswith("/commitd-evicted-forged"),
            what="it to be kept",
        )
        fleet.box.engine.run("kill", "one-app-1")
        wait_until(lambda: "repairing" not in str(host.json("status")["stacks"]), what="quiet")
        wait_until(lambda: fleet.running() == deployed, what="the deployed one to run again")
    assert ("evict", "forged", "unknown-container") in _done(host)
    assert host.once().returncode == 0
    assert fleet.running() == deployed


def test_compose_never_meets_a_container_with_copied_labels_whatever_its_state(
    fleet: Fleet, host: Host
) -> None:
    """While no agent ran: the deployed one was stopped, and others with its labels were made."""
    deployed = fleet.running()
    fleet.box.engine.run("exec", "one-app-1", "touch", "/anonymous/precious")
    _forge(fleet, "forged", **{_NUMBER: "0"})
    stopped = _forge(fleet, "stopped", **{_NUMBER: "-1"})
    fleet.box.engine.run("stop", "--time", "0", stopped, "one-app-1")
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    assert fleet.running() == deployed
    assert "precious" in fleet.box.engine.run("exec", "one-app-1", "ls", "/anonymous")
    assert [c["Id"] for c in fleet.box.engine.containers()] == [*deployed.values()]
    fleet.commit("new", {_FILE: fleet.compose(more="    hostname: new\n")})
    host.config["remotes"][0]["poll"] = "1s"
    host.write_config()
    _forge(fleet, "again", **{_NUMBER: "0"})
    assert host.once().returncode == 0
    assert fleet.box.engine.inspect("one-app-1")["Config"]["Hostname"] == "new"
    assert len(fleet.box.engine.containers()) == 1


def test_a_rival_that_is_not_stopped_keeps_compose_from_its_stack(fleet: Fleet, host: Host) -> None:
    """It would lose its anonymous volumes; so it stays, and waits for a person. The deployed one is
    put right without Compose."""
    deployed = fleet.running()
    labels = fleet.box.engine.inspect("one-app-1")["Config"]["Labels"]
    words = [f"--label={key}={value}" for key, value in {**labels, _NUMBER: "0"}.items()]
    fleet.box.engine.run(
        "run", "--detach", "--rm", "--volume", "/data", "--name", "held", *words, fleet.web
    )
    fleet.box.engine.run("pause", "one-app-1")
    result = host.once()
    assert result.returncode == 3
    assert "held says it is of app, no deploy made it, and it stays" in result.stderr
    assert fleet.box.engine.inspect("held")["State"]["Running"]
    assert not fleet.box.engine.inspect("one-app-1")["State"]["Paused"]
    assert fleet.box.engine.inspect("one-app-1")["Id"] == deployed["one-app-1"]
    fleet.box.engine.run("rm", "--force", "held")
    wait_until(lambda: host.once().returncode == 0, what="the repair")
    assert fleet.running() == deployed


def test_what_a_person_scaled_goes_and_the_deployed_one_is_not_touched(
    fleet: Fleet, host: Host
) -> None:
    deployed = fleet.running()
    with host.running() as agent:
        agent.says("in sync with")
        with contextlib.suppress(SandboxError):  # the agent may be quicker than Compose
            _by_hand(fleet, "up", "--detach", "--scale", "app=3")
        wait_until(lambda: fleet.running() == deployed, what="the others to be evicted")
    assert {(action, reason) for action, subject, reason in _done(host) if "app" in subject} == {
        ("evict", "unknown-container")
    }


@pytest.mark.parametrize("working", [True, False])
def test_what_a_person_recreated_is_made_anew_with_its_volumes_and_never_evicted(
    fleet: Fleet, host: Host, working: bool
) -> None:
    deployed = fleet.running()["one-app-1"]
    fleet.box.engine.run("exec", "one-app-1", "touch", "/anonymous/precious")
    volume = _volume(fleet)
    if working:
        with host.running() as agent:
            agent.says("in sync with")
            with contextlib.suppress(SandboxError):  # the agent may be quicker than Compose
                _by_hand(fleet, "up", "--detach", "--force-recreate")
            wait_until(
                lambda: ("restart", "one", "drifted") in _done(host), what="the repair to begin"
            )
            wait_until(lambda: host.json("history")[0]["status"] == "succeeded", what="the repair")
    else:
        _by_hand(fleet, "up", "--detach", "--force-recreate")
        theirs = fleet.running()["one-app-1"]
        result = host.once()
        assert result.returncode == 0, result.stdout + result.stderr
        assert fleet.running()["one-app-1"] not in {deployed, theirs}
    assert _volume(fleet) == volume
    assert "precious" in fleet.box.engine.run("exec", "one-app-1", "ls", "/anonymous")
    assert not [entry for entry in _done(host) if entry[0] == "evict"]


def test_what_was_deployed_before_its_containers_were_recorded_is_learned_and_nothing_is_done(
    fleet: Fleet, host: Host
) -> None:
    """As after an update of the agent."""
    deployed = fleet.running()
    with contextlib.closing(Journal(host.state / "journal.db")) as journal:
        journal._do("DELETE FROM made")
        before = journal.history()
    fleet.box.engine.run("rename", "one-app-1", "mine")  # somebody worked on it meanwhile
    fleet.box.engine.run("rename", "mine", "one-app-1")
    for _ in range(2):
        assert host.once().returncode == 0
    assert fleet.running() == deployed
    with contextlib.closing(Journal(host.state / "journal.db")) as journal:
        assert journal.history() == before
        assert {found for _, found in journal.made()["one"].own} == {*deployed.values()}


def test_the_name_of_a_service_that_no_deploy_started_is_no_declaration(
    fleet: Fleet, host: Host
) -> None:
    more = "  debug:\n    image: " + fleet.web + "\n    profiles: [debug]\n"
    fleet.commit("debug", {_FILE: fleet.compose(more="    restart: always\n" + more)})
    host.config["remotes"][0]["poll"] = "1s"
    host.write_config()
    with host.running() as agent:
        agent.says("in sync with")
        deployed = fleet.running()
        _forge(fleet, "forged", **{"com.docker.compose.service": "debug"})
        wait_until(lambda: fleet.running() == deployed, what="the forged one to be evicted")
        wait_until(
            lambda: ("evict", "forged", "unknown-service") in _done(host), what="it to be said"
        )


def test_replicas_that_were_deployed_after_a_backup_stay_when_it_is_put_back(
    fleet: Fleet, host: Host
) -> None:
    with contextlib.closing(sqlite3.connect(host.state / "journal.db")) as db:
        db.execute("VACUUM INTO ?", (str(host.state / "backup.db"),))
    fleet.commit("two", {_FILE: fleet.compose(more="    restart: always\n    scale: 2\n")})
    host.config["remotes"][0]["poll"] = "1s"
    host.write_config()
    assert host.once().returncode == 0
    deployed = fleet.running()
    assert len(deployed) == 2
    for end in ("-wal", "-shm"):
        (host.state / f"journal.db{end}").unlink(missing_ok=True)
    (host.state / "backup.db").replace(host.state / "journal.db")
    for _ in range(2):
        result = host.once()
        assert result.returncode == 0, result.stdout + result.stderr
        assert fleet.running() == deployed
    assert not [entry for entry in _done(host) if entry[0] == "evict"]


def test_a_rival_that_a_person_brings_back_runs_beside_the_deployed_one(
    fleet: Fleet, host: Host
) -> None:
    deployed = fleet.running()
    forged = _forge(fleet, "forged", **{_NUMBER: "0"})
    assert host.once().returncode == 0
    assert fleet.running() == deployed
    assert host.commitd("undo", "forged").returncode == 0
    assert host.once().returncode == 0
    assert fleet.running() == {**deployed, "forged": forged}


def test_after_the_engine_restarted_the_deployed_one_is_still_known(
    fleet: Fleet, host: Host
) -> None:
    deployed = fleet.running()
    fleet.box.engine.stop()
    fleet.box.engine.start()
    wait_until(lambda: fleet.running() == deployed, what="it to come back")
    before = _done(host)
    assert host.once().returncode == 0
    assert (fleet.running(), _done(host)) == (deployed, before)


def test_a_rival_goes_before_a_repair_however_long_its_grace_lasts(
    fleet: Fleet, host: Host
) -> None:
    deployed = fleet.running()
    host.config["undeclared"]["grace"] = "1h"
    host.write_config()
    with host.running() as agent:
        agent.says("in sync with")
        _forge(fleet, "forged", **{_NUMBER: "0"})
        fleet.box.engine.run("kill", "one-app-1")
        wait_until(lambda: fleet.running() == deployed, what="the repair")


def test_what_is_down_runs_again_although_a_rival_stays(fleet: Fleet, host: Host) -> None:
    deployed = fleet.running()
    host.config["undeclared"]["mode"] = "report"
    host.write_config()
    forged = _forge(fleet, "forged", **{_NUMBER: "0"})
    fleet.box.engine.run("kill", "one-app-1")
    result = host.once()
    assert result.returncode == 0
    assert "forged says it is of app, no deploy made it, and it stays" in result.stderr
    assert fleet.running() == {**deployed, "forged": forged}
    assert host.json("status")["stacks"][0]["sync"] == "synced"


def test_a_label_that_a_rule_allows_keeps_no_rival(fleet: Fleet, host: Host) -> None:
    deployed = fleet.running()
    fleet.commit("allow", {"global/commitd.yaml": "allow:\n- label: tool=yes\n"})
    host.config["remotes"][0]["poll"] = "1s"
    host.write_config()
    _forge(fleet, "forged", tool="yes", **{_NUMBER: "0", "com.docker.swarm.task.id": "t"})
    assert host.once().returncode == 0
    assert fleet.running() == deployed


def test_the_half_of_a_recreate_is_left_as_long_as_the_old_one_may_take_to_stop(
    fleet: Fleet,
) -> None:
    fleet.box.engine.pull(fleet.web)
    more = "    restart: always\n    stop_grace_period: 10m\n"
    host = fleet.synced({_LIST: "- one\n", _FILE: fleet.compose(more=more)})
    labels = fleet.box.engine.inspect("one-app-1")["Config"]["Labels"]
    half = "0123456789ab_one-app-1"
    labels = {**labels, "com.docker.compose.replace": "one-app-1"}
    words = [f"--label={key}={value}" for key, value in labels.items()]
    fleet.box.engine.run("create", "--name", half, *words, fleet.web)
    result = host.once()
    assert result.returncode == 1
    assert f"somebody has begun to recreate app: {half} is there" in result.stdout
    names = {c["Names"][0] for c in fleet.box.engine.containers()}
    assert names == {f"/{half}", "/one-app-1"}


def test_a_rival_that_is_started_while_it_is_removed_is_no_fault_of_the_commit(
    fleet: Fleet, host: Host
) -> None:
    deployed = fleet.running()
    forged = _forge(fleet, "forged", **{_NUMBER: "0"})
    fleet.box.engine.run("stop", "--time", "0", forged, "one-app-1")
    removed: list[str] = []

    def start(_: int, request: Request) -> None:
        if request.kind == "DELETE /containers/*" and not removed:
            removed.append(request.path)
            fleet.box.engine.run("start", forged)

    with EngineProxy(fleet.box.engine.socket, fleet.box.root / "proxy.sock") as proxy:
        host.config["docker"] = {"socket": proxy.host}
        host.write_config()
        proxy.on_effect(start)
        result = host.once()
    assert removed
    assert result.returncode == 0, result.stdout + result.stderr
    assert fleet.running() == deployed

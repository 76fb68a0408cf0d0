"""The agent as a long-lived process: signals, one at a time, surviving its surroundings."""

from __future__ import annotations

import contextlib
import signal
import socket
import sqlite3
from typing import TYPE_CHECKING

from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.host import Host, RunningAgent
    from tests.system.conftest import Fleet


def _first(fleet: Fleet) -> None:
    fleet.commit(
        "first", {"host/media/stacks.yaml": "- one\n", "stacks/one/compose.yaml": fleet.compose()}
    )


@contextlib.contextmanager
def _in_sync(fleet: Fleet) -> Iterator[tuple[Host, RunningAgent]]:
    """A host and its daemon, which has applied a first commit."""
    _first(fleet)
    host = fleet.connected()
    with host.running() as agent:
        agent.says("in sync with")
        yield host, agent


def test_sigterm_ends_it_cleanly_and_touches_no_container(fleet: Fleet) -> None:
    with _in_sync(fleet) as (_, agent):
        before = fleet.running()
        assert agent.end(signal.SIGTERM) == 0
        assert "Traceback" not in agent.log
    assert fleet.running() == before


def test_an_agent_that_cannot_begin_says_why_in_one_line_and_its_exit_code_tells_the_kind(
    fleet: Fleet,
) -> None:
    with _in_sync(fleet) as (host, agent):
        second = host.commitd("run")
        agent.end()
    assert second.returncode == 3
    assert "another agent works on this host" in second.stderr
    host.config["state_dir"] = "/dev/null/state"
    host.write_config()
    unusable = host.commitd("run")
    assert unusable.returncode == 2
    assert "/dev/null/state: the directory cannot be used" in unusable.stderr
    assert [second.stderr.count("\n"), unusable.stderr.count("\n")] == [1, 1]


def _blocked(fleet: Fleet) -> str:
    """A stack whose deploy goes on until its first container has a file /go."""
    return fleet.compose(
        more="    healthcheck: {test: ['CMD', 'test', '-e', '/go'], interval: 1s, retries: 100}\n"
        "  second:\n"
        f"    image: {fleet.idle}\n    network_mode: host\n"
        "    depends_on: {app: {condition: service_healthy}}\n"
    )


def test_sigterm_in_a_deploy_waits_for_the_safe_point(fleet: Fleet) -> None:
    fleet.commit(
        "slow",
        {"host/media/stacks.yaml": "- slow\n", "stacks/slow/compose.yaml": _blocked(fleet)},
    )
    host = fleet.connected()
    with host.running() as agent:
        wait_until(lambda: "slow-app-1" in fleet.running(), what="the deploy to begin")
        agent.send(signal.SIGTERM)
        fleet.box.engine.run("exec", "slow-app-1", "touch", "/go")
        assert agent.process.wait(timeout=240) == 0
    # Compose has done its work; whether it is well is for the next agent to say.
    assert host.json("history", "slow")[0]["status"] == "cancelled"
    up = fleet.running()
    assert host.once().returncode == 0
    assert host.json("history", "slow")[0]["status"] == "succeeded"
    assert fleet.running() == up


def test_sigterm_begins_no_stack_that_was_still_waiting_for_its_turn(fleet: Fleet) -> None:
    fleet.commit(
        "two",
        {
            "host/media/stacks.yaml": "- one\n- two\n",
            "stacks/one/compose.yaml": _blocked(fleet),
            "stacks/two/compose.yaml": "x-commitd: {after: [one]}\n" + _blocked(fleet),
        },
    )
    host = fleet.connected()
    with host.running() as agent:
        wait_until(lambda: bool(fleet.running()), what="the first deploy to begin")
        agent.send(signal.SIGTERM)
        fleet.box.engine.run("exec", "one-app-1", "touch", "/go")
        assert agent.process.wait(timeout=240) == 0
    assert host.json("history", "one")[0]["error"].startswith("the agent is stopping")
    assert [entry["status"] for entry in host.json("history", "two")] in (["cancelled"], ["held"])
    assert set(fleet.running()) == {"one-app-1", "one-second-1"}


def test_a_start_among_declared_containers_calls_none_of_them_undeclared(fleet: Fleet) -> None:
    _first(fleet)
    host = fleet.connected()
    assert host.once().returncode == 0
    before = fleet.running()
    for server in (fleet.box.gitea, fleet.box.github):
        server.proxy.mode("blackhole")  # so that the first look comes late
    with host.running() as agent:
        for _ in range(8):
            fleet.box.engine.run("restart", "--time", "0", "one-app-1")
        for server in (fleet.box.gitea, fleet.box.github):
            server.proxy.mode("pass")
        agent.says("in sync with")
        assert "the first full cycle is not done yet" not in agent.log
    assert fleet.running() == before


def test_sighup_takes_a_new_configuration_and_keeps_the_old_one_if_it_is_wrong(
    fleet: Fleet,
) -> None:
    with _in_sync(fleet) as (host, agent):
        host.config["undeclared"] = {"mode": "reprot"}
        host.write_config()
        agent.send(signal.SIGHUP)
        agent.says("keeping the previous configuration")
        assert "config.yaml:" in agent.log
        host.config["undeclared"] = {"mode": "report"}
        host.write_config()
        agent.send(signal.SIGHUP)
        agent.says("the configuration was reloaded")
        fleet.box.engine.run("run", "--detach", "--name", "rogue", fleet.idle)
        agent.says("undeclared.mode is report")
        assert "rogue" in fleet.running()


def test_it_waits_for_an_engine_that_is_not_there_yet(fleet: Fleet) -> None:
    _first(fleet)
    host = fleet.connected()
    fleet.box.engine.stop()
    with host.running() as agent:
        agent.says("waiting for the engine")
        fleet.box.engine.start()
        agent.says("in sync with")
    assert set(fleet.running()) == {"one-app-1"}


def test_a_journal_that_cannot_be_written_for_a_while_ends_nothing(fleet: Fleet) -> None:
    with _in_sync(fleet) as (host, agent):
        path = host.state / "journal.db"
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            sha = fleet.commit("second", {"README.md": "words"})
            agent.says("database is locked")
            other.execute("ROLLBACK")
        agent.says(f"in sync with {sha[:7]}")
        assert "Traceback" not in agent.log
        assert agent.end() == 0
    assert set(fleet.running()) == {"one-app-1"}


def test_it_tells_the_service_manager_how_it_is(fleet: Fleet) -> None:
    _first(fleet)
    host = fleet.connected()
    path = host.root / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as inbox:
        inbox.bind(str(path))
        inbox.settimeout(60)
        with host.running(NOTIFY_SOCKET=str(path), WATCHDOG_USEC="300000"):
            told = ""
            while not ("READY=1" in told and "in sync with" in told and "WATCHDOG=1" in told):
                told += inbox.recv(4096).decode() + "\n"
        while "STOPPING=1" not in told:
            told += inbox.recv(4096).decode() + "\n"


def test_a_new_commit_is_fetched_at_once_on_sigusr1(fleet: Fleet) -> None:
    _first(fleet)
    host = fleet.connected()
    for remote in host.config["remotes"]:
        remote["poll"] = "24h"
    host.write_config()
    with host.running() as agent:
        agent.says("in sync with")
        sha = fleet.commit("second", {"README.md": "words"})
        agent.send(signal.SIGUSR1)
        agent.says(f"in sync with {sha[:7]}")

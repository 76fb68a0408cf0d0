"""The API on the host's socket, asked as a program would."""

from __future__ import annotations

import itertools
import json
import resource
import socket
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tests import schemas
from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet


def test_the_socket_tells_root_what_status_says_and_nothing_else(fleet: Fleet) -> None:
    fleet.commit(
        "first", {"host/media/stacks.yaml": "- one\n", "stacks/one/compose.yaml": fleet.compose()}
    )
    host = fleet.host(remotes=[fleet.box.gitea])
    path = Path(host.config["runtime_dir"], "commitd.sock")
    with host.running() as agent:
        agent.says("in sync with")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        code, body = host.ask("GET /v1/status")
        told = json.loads(body)
        assert (code, schemas.faults(told, "status")) == (200, [])
        shown = host.json("status")
        for document in (told, shown):
            document["remotes"][0].pop("checked_at")  # it is asked again meanwhile
            document["agent"].pop("looked_at")
        assert told == shown
        assert host.ask("POST /v1/status")[0] == 405
        assert host.ask("GET /v1/secrets")[0] == 404
        fleet.box.engine.stop()
        wait_until(
            lambda: json.loads(host.ask("GET /v1/status")[1])["state"] == "unknown",
            what="the API to know no more than the agent",
        )
    assert not path.exists()
    fleet.box.engine.start()
    path.mkdir()  # in the way: there is no API then, and all else works
    with host.running() as agent:
        agent.says("there is no API on")
        fleet.commit("more", {"stacks/one/compose.yaml": fleet.compose(fleet.web)})
        agent.says("more by Ada")


def test_a_stream_of_events_goes_on_where_it_was_left(fleet: Fleet) -> None:
    host = fleet.synced(
        {"host/media/stacks.yaml": "- one\n", "stacks/one/compose.yaml": fleet.compose()}
    )
    with host.running() as agent:
        agent.says("in sync with")
        with host.listening() as events:
            fleet.commit("two", {"stacks/one/compose.yaml": fleet.compose(fleet.web)})
            deploys = itertools.dropwhile(lambda e: e["data"]["action"] != "deploy", events)
            seen = [next(deploys) for _ in range(2)]
        begun, ended = (event["data"] for event in seen)
        assert [event["event"] for event in seen] == ["begin", "end"]
        assert (begun["subject"], begun["status"], ended["status"]) == (
            "one", "running", "succeeded",
        )  # fmt: skip
        ended.pop("phase")
        assert ended == host.json("history", "one", "-n", "1")[0]
    with host.running() as agent:  # another agent, the same journal
        agent.says("in sync with")
        with host.listening(last=seen[0]["id"]) as events:
            assert next(events) == {**seen[1], "data": {"phase": "end", **ended}}


def test_a_thousand_connections_that_say_nothing_keep_the_agent_from_nothing(fleet: Fleet) -> None:
    host = fleet.synced(
        {"host/media/stacks.yaml": "- one\n", "stacks/one/compose.yaml": fleet.compose()}
    )
    path = Path(host.config["runtime_dir"], "commitd.sock")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with host.running() as agent, ExitStack() as idle:
        agent.says("in sync with")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
        idle.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE, (256, 256))
        for _ in range(1000):
            client = socket.socket(socket.AF_UNIX)
            client.connect(str(path))
            idle.callback(client.close)
        fleet.box.engine.run("run", "--detach", "--name", "rogue", fleet.idle)
        wait_until(lambda: "rogue" not in fleet.running(), what="the rogue to be ended")
        fleet.commit("two", {"stacks/one/compose.yaml": fleet.compose(fleet.web)})
        agent.says("two by Ada")
        wait_until(
            lambda: host.json("status")["stacks"][0]["services"][0]["image"] == fleet.web,
            what="the new commit to be deployed",
        )
        wait_until(lambda: _answers(host), what="the API to have room again")
    assert agent.log.count("connections are open") == 1
    assert "Too many open files" not in agent.log


def _answers(host: Host) -> bool:
    try:
        return host.ask()[0] == 200
    except (OSError, IndexError):
        return False

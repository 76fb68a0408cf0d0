"""The API on the host's socket, asked as a program would."""

from __future__ import annotations

import http.client
import itertools
import json
import resource
import signal
import socket
import stat
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests import schemas
from tests.sandbox.process import freeze, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

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


_MEMBER, _WRITER, _STRANGER = ["users"], ["users", "games"], ["nogroup"]


def _become(groups: Sequence[str]) -> str:
    """What a process runs that becomes nobody, with these groups, when it has begun."""
    return (
        "import grp, os, sys\n"
        "from agent.surface.cli import asking, history, main, plan, status, suspend, why\n"
        "import agent.adapters.host.peer, agent.control.status.why, agent.surface.cli.logs\n"
        f"groups = [grp.getgrnam(name).gr_gid for name in {groups!r}]\n"
        "os.setgroups(groups); os.setgid(groups[0]); os.setuid(65534)\n"
    )


def _as(groups: Sequence[str], code: str, *words: str, **environment: str) -> str:
    """What such a process prints."""
    done = subprocess.run(
        [sys.executable, "-c", _become(groups) + code, *words],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


_ASK = """
import socket
client = socket.socket(socket.AF_UNIX)
try:
    client.connect("/run/commitd/commitd.sock")
except PermissionError:
    sys.exit("not even that")
client.sendall(f"{sys.argv[1]} HTTP/1.0\\r\\n\\r\\n".encode())
print(client.makefile().readline().split()[1])
"""
_VERB = "main.cli(sys.argv[1:])"


def test_who_is_in_the_group_asks_and_who_is_a_writer_orders(fleet: Fleet) -> None:
    host = fleet.synced(
        {"host/media/stacks.yaml": "- one\n", "stacks/one/compose.yaml": fleet.compose()}
    )
    host.config |= {"runtime_dir": "/run/commitd", "api": {"writers": "games"}}
    host.write_config()
    host.config_path.chmod(0o600)
    host.constants = {"agent.adapters.host.peer.GROUP": "users"}
    others = {"LC_ALL": "C.UTF-8", "COMMITD_CONFIG": str(host.config_path)}
    with host.running() as agent:
        agent.says("in sync with")
        place = Path("/run/commitd")
        assert [stat.S_IMODE(p.stat().st_mode) for p in (place, place / "commitd.sock")] == [
            0o710, 0o660,
        ]  # fmt: skip
        closed = [p for p in place.rglob("*") if p.stat().st_mode & 0o077 and not p.is_socket()]
        assert closed == []
        for groups, reads, orders, words in (
            (_MEMBER, "200", "403", "403"),
            (_WRITER, "200", "200", "403"),
            (_STRANGER, *["not even that"] * 3),
        ):
            asked = ["GET /v1/history", "POST /v1/sync", "GET /v1/words/one"]
            assert [_as(groups, _ASK, each).strip() for each in asked] == [reads, orders, words]
        assert "(uid 65534) ordered sync" in agent.log
        for verb in (
            ["history"],
            ["history", "-n", "2000"],
            ["why", "one"],
            ["plan"],
            ["history", "nothing-here"],
        ):
            mine = host.commitd(*verb)
            assert _as(_MEMBER, _VERB, *verb, **others) == mine.stdout + mine.stderr
        assert "in sync with" in _as(_MEMBER, _VERB, "status", **others)
        refused = _as(_MEMBER, _VERB, "suspend", "one", **others)
        assert "(sudo commitd suspend one)" in refused
        assert "one is suspended" in _as(_WRITER, _VERB, "suspend", "one", **others)
        wait_until(
            lambda: host.json("status")["stacks"][0]["sync"] == "suspended", what="the suspension"
        )
    assert "sudo commitd status" in _as(_MEMBER, _VERB, "status", **others)


def test_who_is_in_the_group_follows_what_is_done_over_a_restart_of_the_agent(
    fleet: Fleet,
) -> None:
    host = fleet.synced(
        {"host/media/stacks.yaml": "- one\n", "stacks/one/compose.yaml": fleet.compose()}
    )
    host.config |= {"runtime_dir": "/run/commitd"}
    host.write_config()
    host.config_path.chmod(0o600)
    host.constants = {"agent.adapters.host.peer.GROUP": "users"}
    verb = ["history", "one", "--follow", "--json"]
    with ExitStack() as held:
        told: list[Any] = []
        following: subprocess.Popen[str] | None = None
        for text in ("    init: true\n", "    init: false\n"):
            with host.running() as agent:
                agent.says("in sync with")
                if following is None:
                    following = held.enter_context(
                        subprocess.Popen(
                            [sys.executable, "-c", _become(_MEMBER) + _VERB, *verb],
                            env={"LC_ALL": "C.UTF-8", "COMMITD_CONFIG": str(host.config_path)},
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                        )
                    )  # fmt: skip
                assert following.stdout
                if not told:
                    told.append(json.loads(following.stdout.readline()))
                sha = fleet.commit("more", {"stacks/one/compose.yaml": fleet.compose(more=text)})
                while (told[-1]["revision"], told[-1]["status"]) != (sha, "succeeded"):
                    told.append(json.loads(following.stdout.readline()))
        assert following
        following.send_signal(signal.SIGINT)
        assert following.wait(timeout=240) == 0
    ended = [each for each in told if each["status"] != "running"]
    assert ended == list(reversed(host.json("history", "one")))


def test_the_commands_say_the_same_of_an_agent_that_hangs(fleet: Fleet) -> None:
    host = fleet.synced(
        {"host/media/stacks.yaml": "- one\n", "stacks/one/compose.yaml": fleet.compose()}
    )
    host.constants = {"agent.adapters.host.api_socket._PATIENCE_S": 0.5}
    verbs = (["history"], ["why", "one"], ["plan"], ["retry", "one"], ["history", "nothing"])
    with host.running() as agent:
        agent.says("in sync with")
        told = [host.commitd(*verb) for verb in verbs]
        freeze(agent.process.pid)
        try:
            again = [host.commitd(*verb) for verb in verbs]
            assert "one is suspended" in host.commitd("suspend", "one").stdout
        finally:
            agent.send(signal.SIGCONT)
        assert [(each.returncode, each.stdout, each.stderr) for each in told] == [
            (each.returncode, each.stdout, each.stderr) for each in again
        ]
        wait_until(
            lambda: host.json("status")["stacks"][0]["sync"] == "suspended", what="the suspension"
        )


def test_by_tcp_it_tells_the_same_and_takes_nothing(fleet: Fleet) -> None:
    host = fleet.synced(
        {"host/media/stacks.yaml": "- one\n", "stacks/one/compose.yaml": fleet.compose()}
    )
    token = host.root / "api.token"
    token.write_text("0123456789abcdef0123")
    token.chmod(0o600)
    host.config |= {"listen": "127.0.0.1:8787", "api": {"token_file": str(token)}}
    host.write_config()
    shown = {"Authorization": "Bearer 0123456789abcdef0123"}
    with host.running() as agent:
        agent.says("in sync with")
        code, told = _by_tcp("GET", "/v1/history", shown)
        assert (code, json.loads(told)) == (200, host.json("history"))
        assert _by_tcp("GET", "/v1/history", {})[0] == 401
        assert _by_tcp("GET", "/v1/history", {**shown, "Host": "evil.example"})[0] == 421
        assert _by_tcp("POST", "/v1/sync", shown)[0] == 403
    assert token.read_text() not in agent.log


def _by_tcp(method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", 8787, timeout=60)) as client:
        client.request(method, path, headers=headers)
        answer = client.getresponse()
        return answer.status, answer.read()


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

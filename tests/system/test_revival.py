"""What was only stopped or killed is started as it is, each time, through the engine alone."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.sandbox import SandboxError
from tests.sandbox.engine_proxy import EngineProxy
from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

LIST = "host/media/stacks.yaml"
ONE = "stacks/one/compose.yaml"
_START = "POST /containers/*/start"
_MOST = 20  # requests for one repair, with the two or three cycles around it


@pytest.fixture
def proxy(fleet: Fleet) -> Iterator[EngineProxy]:
    with EngineProxy(fleet.box.engine.socket, fleet.box.root / "revival.sock") as proxy:
        yield proxy


def _children(pid: int) -> int:
    """Page faults of children that have ended: no process can be without any."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[8])


def _starts(fleet: Fleet, name: str) -> tuple[str, str]:
    raw = fleet.box.engine.inspect(name)
    return raw["Id"], raw["State"]["StartedAt"] if raw["State"]["Running"] else ""


def _again(fleet: Fleet, name: str, was: str) -> bool:
    return _starts(fleet, name)[1] not in {"", was}


def _restarted(host: Host, statuses: list[str]) -> bool:
    found = [e["status"] for e in host.json("history") if e["action"] == "restart"]
    return found == statuses


def test_what_is_stopped_or_killed_again_and_again_is_started_each_time_and_no_process_is(
    fleet: Fleet, proxy: EngineProxy
) -> None:
    more = "    stop_grace_period: 0s\n    volumes: [data:/data]\n"
    db = f"  db: {{image: '{fleet.idle}', network_mode: host, restart: always}}\n"
    file = fleet.compose(more=f"{more}    depends_on: [db]\n") + f"{db}volumes: {{data: {{}}}}\n"
    fleet.commit("first", {LIST: "- one\n", ONE: file})
    host = fleet.host(docker={"socket": proxy.host})
    host.config["remotes"][0]["poll"] = "1h"
    host.write_config()
    deeds = (["stop", "--time", "0"], ["kill"])
    with host.running() as agent:
        agent.says("in sync with")
        first = {name: _starts(fleet, name)[0] for name in ("one-app-1", "one-db-1")}
        before = _children(agent.process.pid)
        for number in range(12):
            name = ("one-app-1", "one-db-1")[number % 2]
            was = _starts(fleet, name)[1]
            proxy.requests.clear()
            fleet.box.engine.run(*deeds[number // 2 % 2], name)
            wait_until(partial(_again, fleet, name, was), what="it to be started")
            done = ["succeeded"] * (number + 1)
            wait_until(partial(_restarted, host, done), what="the repair to be done")
            asked = Counter(r.kind for r in proxy.requests)
            assert [kind for kind in asked if not kind.startswith("GET")] == [_START]
            assert asked[_START] == 1
            assert asked.total() <= _MOST
        fleet.box.engine.run("pause", "one-app-1")
        wait_until(
            lambda: not fleet.box.engine.inspect("one-app-1")["State"]["Paused"],
            what="it to go on",
        )
        assert _children(agent.process.pid) == before
    assert {name: _starts(fleet, name)[0] for name in first} == first
    assert {e["reason"] for e in host.json("history") if e["action"] == "restart"} == {"drifted"}
    assert not [e for e in host.json("history") if e["action"] == "hold"]


def test_what_ends_by_itself_again_and_again_is_started_later_and_later(
    fleet: Fleet, proxy: EngineProxy
) -> None:
    """And what people do to others is none of its business."""
    ends = "trap 'exit 3' USR1; sleep 999 & wait; exit 3"
    more = f'    command: [sh, -c, "{ends}"]\n    stop_grace_period: 0s\n'
    fleet.commit("first", {LIST: "- one\n", ONE: fleet.compose(more=more)})
    host = fleet.host(docker={"socket": proxy.host})
    host.config["remotes"][0]["poll"] = "1h"
    host.write_config()

    def end() -> None:
        wait_until(lambda: "one-app-1" in fleet.running(), what="it to run")
        with suppress(SandboxError):  # it may have begun to end
            fleet.box.engine.run("exec", "one-app-1", "kill", "-USR1", "1")

    with host.running() as agent:
        agent.says("in sync with")
        before = _children(agent.process.pid)
        end()
        wait_until(partial(_restarted, host, ["succeeded"]), what="the first repair")
        end()
        said = "one-app-1 had ended, and nobody was heard to stop it"
        agent.says(f"held: one: it failed and waits for its next try: {said}")
        wait_until(partial(_restarted, host, ["succeeded"] * 2), what="the second repair")
        assert _children(agent.process.pid) == before


@pytest.mark.parametrize("volume", [True, False], ids=["volume", "bind"])
def test_no_start_follows_a_link_that_a_container_has_put_in_the_way(
    fleet: Fleet, volume: bool
) -> None:
    """The one that was stopped stays down, as before Compose."""
    other = f"  other: {{image: '{fleet.idle}', network_mode: host, volumes: ['./data:/data']}}\n"
    host = fleet.synced({LIST: "- one\n", ONE: f"services:\n{other}"})
    data = host.state / "repo/stacks/one/data"
    fleet.box.engine.run("exec", "one-other-1", "mkdir", "/data/x")
    source = "made" if volume else "./data/x"
    file = fleet.compose(more=f"    volumes: ['{source}:/x']\n") + other
    if volume:
        options = f"{{type: none, o: bind, device: '{data}/x'}}"
        file += f"volumes: {{made: {{driver_opts: {options}}}}}\n"
    fleet.commit("second", {ONE: file})
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    fleet.box.engine.run("exec", "one-other-1", "mv", "/data/x", "/data/y")
    fleet.box.engine.run("exec", "one-other-1", "ln", "-s", "/etc", "/data/x")
    fleet.box.engine.run("kill", "one-app-1")
    result = host.once()
    assert "is a symlink that is not in Git" in result.stderr
    assert "one-app-1" not in fleet.running()


def test_a_start_that_fails_shows_no_secret_that_the_container_was_given(fleet: Fleet) -> None:
    """Neither the engine's start nor Compose and the start after it, in any place."""
    gone, secret = "sed -i /nobody/d /etc/passwd", fleet.box.encrypt("WHO=nobody\n")
    file = fleet.compose(more="    user: '${WHO}'\n")
    host = fleet.synced(
        {LIST: "- one\n", ONE: file, "stacks/one/a.secret.env": secret}, remotes=[fleet.box.gitea]
    )
    fleet.box.engine.run("exec", "--user", "0", "one-app-1", "sh", "-c", gone)
    fleet.box.engine.run("stop", "--time", "0", "one-app-1")
    result = host.commitd("once", "--verbose")
    said = result.stdout + result.stderr
    assert "it cannot be started as it is: cannot start a container: " in said
    assert result.returncode == 1, said
    assert "unable to find user [redacted]" in said
    for verb in ("status", "history", "plan"):
        for more in ([], ["--json"]):
            shown = host.commitd(verb, *more)
            said += shown.stdout + shown.stderr
    assert [line for line in said.splitlines() if "nobody" in line] == []
    assert not [file for file in host.state.glob("journal.db*") if b"nobody" in file.read_bytes()]

"""One verdict for all who ask, and nothing in it that is not known."""

from __future__ import annotations

import json
import re
import signal
import socket
from typing import TYPE_CHECKING

from tests.sandbox.process import wait_until
from tests.system.releases import NEVER_WELL

if TYPE_CHECKING:
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

LIST = "host/media/stacks.yaml"
_FILE_THERE = "    healthcheck: {test: ['CMD', 'test', '-e', '/go'], interval: 1s, retries: 100}\n"


def _code(host: Host) -> int:
    return host.commitd("status", "--exit-code").returncode


def test_log_service_manager_status_and_api_say_the_same_of_a_host(fleet: Fleet) -> None:
    """Also with ``mode: report``, and before the engine answers for the first time."""
    ill = "    healthcheck: {test: ['CMD', 'test', '!', '-e', '/ill'], interval: 1s, retries: 1}\n"
    fleet.commit("first", {LIST: "- one\n", "stacks/one/compose.yaml": fleet.compose(more=ill)})
    host = fleet.host(remotes=[fleet.box.gitea], undeclared={"mode": "report"})
    rogue = ("run", "--detach", "--restart", "always", "--name", "rogue", fleet.idle)
    fleet.box.engine.run(*rogue)
    fleet.box.engine.stop()
    path = host.root / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as inbox:
        inbox.bind(str(path))
        inbox.settimeout(60)
        with host.running(NOTIFY_SOCKET=str(path)) as agent:

            def told(text: str) -> None:
                while text not in inbox.recv(4096).decode():
                    pass

            def said(state: str, line: str) -> None:
                told(f"STATUS={line}")
                for document in (host.json("status"), json.loads(host.ask()[1])):
                    assert (document["state"], document["verdict"]) == (state, line)
                shown = host.commitd("status").stdout
                assert shown.partition("; last change ")[0].splitlines()[0][2:] == f"media: {line}"

            away = "not known: the engine does not answer; the agent has never looked"
            said("unknown", away)
            assert _code(host) == 4
            fleet.box.engine.start()
            # What is only reported is no failure.
            good = f"in sync with {fleet.workspace.git('rev-parse', 'HEAD')[:7]} (gitea)"
            good += "; only reported: rogue"
            agent.says(good)
            said("in-sync", good)
            shown = host.commitd("status").stdout
            assert shown.startswith(f"✓ media: {good}; last change ")
            assert "undeclared rogue (" in shown
            assert "‖" not in shown  # nor is it held
            assert _code(host) == 0
            # Nobody changed anything, and no event tells of it: the next look finds it.
            fleet.box.engine.run("exec", "one-app-1", "touch", "/ill")
            bad = good.replace("in sync with", "at").replace("; only", "; degraded: one; only")
            agent.says(bad)
            said("failed", bad)
            assert _code(host) == 1
    result = host.once()
    assert (result.returncode, result.stdout.splitlines()) == (
        1, [bad, "  degraded: one: one-app-1 is unhealthy"],
    )  # fmt: skip


def test_what_goes_on_and_what_was_just_ordered_is_told_while_a_cycle_lasts(fleet: Fleet) -> None:
    crash = fleet.box.images.build("crash", "1.0", command="exit 3")
    bad = fleet.compose(crash, more=f"    {NEVER_WELL}\n")
    files: dict[str, str | bytes | None] = {LIST: "- bad\n", "stacks/bad/compose.yaml": bad}
    fleet.commit("first", files)
    host = fleet.host(remotes=[fleet.box.gitea])
    assert host.once().returncode == 1
    assert host.once().returncode == 1
    [hold] = host.json("status")["holds"]
    assert hold["reason"] == "failed"
    assert hold["message"].startswith("it failed and waits for a change: ")
    # The agent is away: what is tried again is tried later.
    assert "bad again once it runs" in host.commitd("retry", "bad").stdout
    assert host.json("status")["holds"][0]["message"] == "it is tried again once the agent runs"
    slow = fleet.compose(more=_FILE_THERE)
    fleet.commit("slow", {LIST: "- bad\n- slow\n", "stacks/slow/compose.yaml": slow})
    with host.running() as agent:
        agent.says("bad-app-1 has ended with 3")
        wait_until(lambda: "slow-app-1" in fleet.running(), what="the slow stack to begin")
        assert "again now" in host.commitd("retry", "bad").stdout

        def working() -> list[tuple[str, str]]:
            shown = host.json("status")["working"]
            return [(each["action"], each["subject"]) for each in shown]

        wait_until(lambda: working() == [("deploy", "slow")], what="the other to be done with")
        status = host.json("status")
        stacks = {stack["name"]: stack for stack in status["stacks"]}
        assert stacks["slow"]["working"]["action"] == "deploy"
        assert (stacks["slow"]["sync"], stacks["slow"]["health"]) == ("pending", "progressing")
        shown = host.commitd("status").stdout
        assert re.search(r"^. media: at [0-9a-f]{7} \(gitea\); deploying slow \(\d+ s\)", shown)
        assert "… deploying" in shown
        assert _code(host) == 1
        agent.end(signal.SIGKILL)
    # What it had begun nobody is doing any more.
    status = host.json("status")
    assert (status["working"], status["state"], _code(host)) == ([], "unknown", 4)
    assert "deploying" not in host.commitd("status").stdout
    fleet.box.engine.run("exec", "slow-app-1", "touch", "/go")


def test_while_nobody_looks_or_answers_the_state_is_not_known(fleet: Fleet) -> None:
    fleet.commit("first", {LIST: "- one\n", "stacks/one/compose.yaml": fleet.compose()})
    host = fleet.connected(remotes=[fleet.box.gitea], stale_after="8s")
    with host.running() as agent:
        agent.says("in sync with")
        wait_until(lambda: _code(host) == 0, what="the state to be known")
        assert host.json("status")["agent"]["running"] is True
        assert "remote gitea: answers; " in host.commitd("status").stdout
        fleet.box.gitea.stop()
        agent.says("not known: no remote has answered since ")
        status = host.json("status")
        assert (status["state"], _code(host)) == ("unknown", 4)
        line = status["verdict"]
        assert line in agent.log
        assert re.fullmatch(
            r"not known: no remote has answered since \d{4}-\S+Z;"
            r" as far as is known: in sync with [0-9a-f]{7}",
            line,
        )
        assert host.commitd("status").stdout.startswith("? media: not known: ")
        fleet.box.gitea.start()
        wait_until(lambda: _code(host) == 0, what="the remote to answer again")
    status = host.json("status")
    assert (status["state"], _code(host)) == ("unknown", 4)
    assert re.fullmatch(
        r"not known: the agent has not looked since \d{4}-\S+Z \(it does not run\);"
        r" as far as is known: in sync with [0-9a-f]{7} \(gitea\)",
        status["verdict"],
    )
    assert [remote["current"] for remote in status["remotes"]] == [False]
    shown = host.commitd("status").stdout
    assert "! The agent is not running: systemctl start commitd" in shown
    assert re.search(
        r"^remote gitea: last answered \d{4}-\d\d-\d\d [\d:]{8}; ", shown, re.MULTILINE
    )
    # All of it is local time in one form, and its zone is named once.
    assert len(re.findall(r"\d{4}-\d\d-\d\d[T ][\d:]{8}", shown)) == shown.count("-") // 2
    assert shown.count(" UTC") == 1
    assert "Z" not in re.sub(r"[A-Z]{2,}", "", shown)
    # The runtime directory does not survive a restart of the machine; the journal does.
    looked = status["agent"]["looked_at"]
    for file in (host.root / "run").glob("*.json"):
        file.unlink()
    assert host.json("status")["agent"]["looked_at"] == looked

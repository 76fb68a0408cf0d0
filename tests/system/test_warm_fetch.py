"""A new commit comes over the SSH connection that is kept for asking, if that can be."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from tests.sandbox.host import Host, RunningAgent
    from tests.system.conftest import Fleet


def _commit(fleet: Fleet, value: str) -> str:
    more = f"    environment: {{VALUE: '{value}'}}\n"
    files = {
        "host/media/stacks.yaml": "- one\n",
        "stacks/one/compose.yaml": fleet.compose(more=more),
    }
    return fleet.commit(f"value {value}", files)[:7]


@pytest.fixture
def host(fleet: Fleet) -> Host:
    """One with a remote over SSH alone; what is in ``programs`` stands before the machine's."""
    host = fleet.connected(remotes=[fleet.box.gitea])
    programs = host.root / "programs"
    programs.mkdir()
    host.path.insert(0, str(programs))
    return host


def _counted(host: Host, name: str, then: str) -> Path:
    """Where a line stands for each start of the program, which then does that."""
    log, script = host.root / f"{name}.log", host.root / "programs" / name
    log.touch()
    script.write_text(f"#!/bin/sh\necho started >>{log}\n{then}\n")
    script.chmod(0o755)
    return log


def _times(log: Path) -> int:
    return len(log.read_text().splitlines())


def test_a_new_commit_is_fetched_without_another_connection(fleet: Fleet, host: Host) -> None:
    ssh = _counted(host, "ssh", 'exec /usr/bin/ssh "$@"')
    _commit(fleet, "1")
    with host.running() as agent:
        agent.says("in sync with")
        assert _times(ssh) == 1  # a whole history is fetched by Git alone
        for value in ("2", "3"):
            agent.says(f"in sync with {_commit(fleet, value)}")
        assert _times(ssh) == 1


def test_a_fetch_that_fails_over_the_kept_connection_has_one_of_its_own(
    fleet: Fleet, host: Host
) -> None:
    ssh = _counted(host, "ssh", 'exec /usr/bin/ssh "$@"')
    cat = _counted(host, "cat", "exit 1")
    _commit(fleet, "1")
    with host.running() as agent:
        agent.says("in sync with")
        agent.says(f"in sync with {_commit(fleet, '2')}")
        assert _times(cat) > 0
        assert _times(ssh) == 2
    assert "shows" not in agent.log  # nothing is said of a remote that delivers


def test_a_fetch_over_the_kept_connection_leaves_nothing_open(fleet: Fleet, host: Host) -> None:
    _commit(fleet, "1")
    with host.running() as agent:
        agent.says("in sync with")
        agent.says(f"in sync with {_commit(fleet, '2')}")
        before = _pipes(agent)
        for value in ("3", "4", "5"):
            agent.says(f"in sync with {_commit(fleet, value)}")
        wait_until(lambda: _pipes(agent) <= before, what="its pipes to be closed")


def _pipes(agent: RunningAgent) -> int:
    found = 0
    for path in Path(f"/proc/{agent.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += str(path.readlink()).startswith("pipe:")
    return found


def test_a_remote_that_falls_silent_amid_a_fetch_gives_way_to_the_next(fleet: Fleet) -> None:
    _commit(fleet, "1")
    host = fleet.connected()
    preferred, other = fleet.box.gitea, fleet.box.github
    with host.running() as agent:
        agent.says("in sync with")
        large = base64.b64encode(os.urandom(3_000_000)).decode()
        fleet.workspace.write({"large": large})
        sha = fleet.workspace.commit("large")
        preferred.proxy.mode("drip", 300_000)
        fleet.workspace.push(preferred)
        agent.send(signal.SIGUSR1)
        wait_until(lambda: _head(host, preferred.name) == sha, what="the commit to be seen")
        preferred.proxy.mode("blackhole")
        fleet.workspace.push(other)
        agent.send(signal.SIGUSR1)
        agent.says(f"gitea: it has not delivered {sha[:7]} within 2 s, and another remote has it")
        agent.says(f"in sync with {sha[:7]} (github)")


def test_remotes_that_are_slow_deliver_in_the_end(fleet: Fleet) -> None:
    _commit(fleet, "1")
    host = fleet.connected()
    with host.running() as agent:
        agent.says("in sync with")
        for server in (fleet.box.gitea, fleet.box.github):
            server.proxy.mode("drip", 500_000)
        large = base64.b64encode(os.urandom(3_000_000)).decode()
        sha = fleet.commit("large", {"large": large})
        agent.send(signal.SIGUSR1)
        agent.says(f"in sync with {sha[:7]}")


def _head(host: Host, remote: str) -> str:
    seen: dict[str, dict[str, str]] = json.loads((host.root / "run/remotes.json").read_text())
    return seen[remote]["head"]

"""While a new commit makes trouble, what the applied one declares is kept up."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.sandbox.process import run, wait_until

if TYPE_CHECKING:
    from tests.sandbox.host import Host, RunningAgent
    from tests.system.conftest import Fleet

LIST = "host/media/stacks.yaml"


def _host(fleet: Fleet) -> tuple[Host, str]:
    """In sync by one remote over the network, with the applied commit."""
    files = {LIST: "- one\n", "stacks/one/compose.yaml": fleet.compose()}
    sha = fleet.commit("first", files)
    host = fleet.connected(remotes=[fleet.box.gitea])
    assert host.once().returncode == 0
    return host, sha


def _is_kept_up(fleet: Fleet, host: Host, applied: str) -> None:
    """What is missing is started, and what nobody declared is ended, again and again."""
    for name in ("rogue1", "rogue2"):
        fleet.box.engine.run("rm", "--force", "one-app-1")
        fleet.box.engine.run("run", "--detach", "--name", name, fleet.idle)
        wait_until(
            lambda: set(fleet.running()) == {"one-app-1"},
            what=f"{name} to be evicted and one-app-1 to be started",
            seconds=120,
        )
        assert host.json("status")["revision"]["applied"] == applied


def _bomb(fleet: Fleet) -> str:
    """A commit of a few KB with more paths than anybody can list."""
    git = ["git", "-C", str(fleet.workspace.path)]
    line = "100644 blob " + run([*git, "rev-parse", f"HEAD:{LIST}"]).decode().strip()
    for _ in range(12):
        entries = "".join(f"{line}\t{name}\n" for name in "abcdefghij")
        line = "040000 tree " + run([*git, "mktree"], stdin=entries.encode()).decode().strip()
    root = run([*git, "ls-tree", "HEAD"]).decode() + f"{line}\tbomb\n"
    tree = run([*git, "mktree"], stdin=root.encode()).decode().strip()
    sha = fleet.workspace.git("commit-tree", tree, "-p", "HEAD", "-m", "a bomb")
    fleet.workspace.git("update-ref", "refs/heads/main", sha)
    fleet.workspace.push(fleet.box.gitea)
    return sha


def _in_sync(agent: RunningAgent, sha: str) -> None:
    agent.says(f"in sync with {sha[:7]}", timeout_s=120)


def test_a_git_bomb_is_held_and_repairs_and_evictions_go_on(fleet: Fleet) -> None:
    host, good = _host(fleet)
    with host.running() as agent:
        _in_sync(agent, good)
        bad = _bomb(fleet)
        agent.says(f"{bad[:7]}: .: more than", timeout_s=120)
        _is_kept_up(fleet, host, good)
        holds = host.json("status")["holds"]
        assert [hold["reason"] for hold in holds] == ["unsafe-checkout"]
        fleet.workspace.git("reset", "--quiet", "--hard", good)
        mended = fleet.workspace.commit("mended")
        fleet.workspace.push(fleet.box.gitea, force=True)
        _in_sync(agent, mended)


def test_a_fetch_that_drips_is_said_and_repairs_and_evictions_go_on(fleet: Fleet) -> None:
    host, good = _host(fleet)
    with host.running() as agent:
        _in_sync(agent, good)
        fleet.box.gitea.proxy.mode("drip", 4000)
        fleet.workspace.write({"noise.bin": os.urandom(4_000_000)})
        newer = fleet.workspace.commit("much")
        fleet.workspace.push(fleet.box.gitea)
        agent.says("a new commit is still being fetched or looked at", timeout_s=120)
        _is_kept_up(fleet, host, good)
        fleet.box.gitea.proxy.mode("pass")
        _in_sync(agent, newer)

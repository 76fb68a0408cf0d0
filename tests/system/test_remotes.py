"""Two remotes, one truth: whatever one of them does, the host stays on it or says why."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.process import run, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet


@pytest.fixture
def host(fleet: Fleet) -> Host:
    """A host in sync with the first commit, which both remotes have."""
    fleet.commit("first", _stack(fleet, "1"))
    host = fleet.connected()
    result = host.once()
    assert result.returncode == 0, result.stderr
    return host


def _stack(fleet: Fleet, value: str) -> dict[str, str | bytes | None]:
    more = f"    environment: {{VALUE: '{value}'}}\n"
    return {
        "host/media/stacks.yaml": "- one\n",
        "stacks/one/compose.yaml": fleet.compose(more=more),
    }


def _commit(fleet: Fleet, value: str) -> str:
    """Commit without pushing."""
    fleet.workspace.write(_stack(fleet, value))
    return fleet.workspace.commit(f"value {value}")


def _applied(host: Host) -> str:
    applied: str = host.json("status")["revision"]["applied"]
    return applied


def _remotes(host: Host) -> dict[str, dict[str, Any]]:
    return {remote["name"]: remote for remote in host.json("status")["remotes"]}


def _rewrite(fleet: Fleet) -> str:
    """Replace the history on the workspace by one with another root."""
    fleet.workspace.git("checkout", "--quiet", "--orphan", "rewritten")
    sha = _commit(fleet, "rewritten")
    fleet.workspace.git("branch", "--quiet", "--move", "--force", "main")
    return sha


def _fork(fleet: Fleet, value: str) -> str:
    """Another commit on top of the one before the last."""
    fleet.workspace.git("reset", "--quiet", "--hard", "HEAD~1")
    return _commit(fleet, value)


# --- behind, ahead, diverged ---


def test_a_fallback_that_is_ahead_of_a_reachable_first_remote_is_followed(
    fleet: Fleet, host: Host
) -> None:
    newer = _commit(fleet, "2")
    fleet.workspace.push(fleet.box.github)
    assert host.once().returncode == 0
    assert _applied(host) == newer
    gitea = _remotes(host)["gitea"]
    assert (gitea["relation"], gitea["lag"]) == ("behind", 1)


def test_remotes_that_have_forked_hold_and_say_so(fleet: Fleet, host: Host) -> None:
    first = _applied(host)
    _commit(fleet, "2")
    fleet.workspace.push(fleet.box.gitea)
    fork = _fork(fleet, "3")
    fleet.workspace.push(fleet.box.github)
    result = host.once()
    assert result.returncode == 3
    assert _applied(host) == first
    hold = host.json("status")["holds"][0]
    assert "diverged" in hold["message"]
    assert fork[:7] in hold["message"]


def test_a_history_rewritten_on_one_remote_is_not_followed(fleet: Fleet, host: Host) -> None:
    first = _applied(host)
    _rewrite(fleet)
    fleet.workspace.push(fleet.box.gitea, force=True)
    assert host.once().returncode == 3
    assert _applied(host) == first
    assert _remotes(host)["gitea"]["relation"] == "diverged"


def test_a_rewrite_while_the_other_remote_is_down_waits(fleet: Fleet, host: Host) -> None:
    first = _applied(host)
    fleet.box.github.stop()
    _rewrite(fleet)
    fleet.workspace.push(force=True)
    assert host.once().returncode == 3
    assert _applied(host) == first


def test_a_history_rewritten_on_all_remotes_is_followed(fleet: Fleet, host: Host) -> None:
    rewritten = _rewrite(fleet)
    fleet.workspace.push(force=True)
    result = host.once()
    assert result.returncode == 0, result.stderr
    assert _applied(host) == rewritten


def test_with_history_follow_a_single_remote_may_rewrite(fleet: Fleet) -> None:
    fleet.commit("first", _stack(fleet, "1"))
    host = fleet.connected(remotes=[fleet.box.gitea], history="follow")
    host.once()
    rewritten = _rewrite(fleet)
    fleet.workspace.push(force=True)
    assert host.once().returncode == 0
    assert _applied(host) == rewritten


def test_a_head_that_went_back_is_stale_and_not_applied(fleet: Fleet, host: Host) -> None:
    newer = _commit(fleet, "2")
    fleet.workspace.push()
    host.once()
    fleet.workspace.git("reset", "--quiet", "--hard", "HEAD~1")
    fleet.workspace.push(force=True)
    result = host.once()
    assert result.returncode == 0
    assert _applied(host) == newer
    assert "behind" in result.stdout


# --- emptied, deleted, recreated ---


def _empty(fleet: Fleet) -> None:
    run(["git", "-C", fleet.box.gitea.path, "update-ref", "-d", "refs/heads/main"])


def _other_branch(fleet: Fleet) -> None:
    path = fleet.box.gitea.path
    run(["git", "-C", path, "update-ref", "refs/heads/other", "refs/heads/main"])
    run(["git", "-C", path, "update-ref", "-d", "refs/heads/main"])


def _recreate(fleet: Fleet) -> None:
    path = fleet.box.gitea.path
    for inner in path.iterdir():
        shutil.rmtree(inner) if inner.is_dir() else inner.unlink()
    run(["git", "init", "--quiet", "--bare", "--initial-branch=main", path])


@pytest.mark.parametrize(
    ("harm", "said"),
    [(_empty, "empty"), (_other_branch, "no branch 'main'"), (_recreate, "empty")],
)
def test_an_emptied_remote_is_not_an_empty_host(
    fleet: Fleet, host: Host, harm: Callable[[Fleet], None], said: str
) -> None:
    before = fleet.running()
    harm(fleet)
    try:
        result = host.once()
        assert result.returncode == 3, result.stderr
        assert fleet.running() == before
        gitea = _remotes(host)["gitea"]
        assert (said in gitea["error"], gitea["relation"]) == (True, "unknown")
        newer = _commit(fleet, "2")
        fleet.workspace.push(fleet.box.github)
        host.once()
        assert _applied(host) == newer
    finally:
        run(["git", "-C", fleet.box.gitea.path, "for-each-ref"])
        fleet.workspace.push(fleet.box.gitea, force=True)


def test_a_branch_that_no_remote_has_is_named_and_nothing_is_removed(
    fleet: Fleet, host: Host
) -> None:
    first = _applied(host)
    fleet.box.engine.run("run", "--detach", "--name", "rogue", fleet.idle)
    before = fleet.running()
    _other_branch(fleet)
    fleet.box.github.stop()
    try:
        result = host.once()
        said = "held: gitea: the branch to follow is not there: there is no branch 'main'"
        assert said in result.stderr
        for again in (result, host.once()):
            assert again.returncode == 1
            assert "in sync" not in again.stdout
            assert "no remote answers" not in again.stdout
        assert (fleet.running(), _applied(host)) == (before, first)
        [hold] = [h for h in host.json("status")["holds"] if h["subject"] == "gitea"]
        assert f"there is no branch 'main'; it showed {first[:7]} before" in hold["message"]
        fleet.workspace.push(fleet.box.gitea)
        assert host.once().returncode == 0
        assert "rogue" not in fleet.running()
    finally:
        fleet.workspace.push(fleet.box.gitea, force=True)


# --- down, in every way ---

SILENT = {"blackhole", "drip"}
IMPATIENT = {"agent.adapters.probes.base.ASK_S": 6.0}
"""With a remote that says nothing; how patient the agent is: test_probes."""


@pytest.mark.parametrize(
    ("mode", "amount"), [("cut", 0), ("blackhole", 0), ("drip", 1), ("cut_after", 40)]
)
def test_a_first_remote_that_is_sick_hands_over_to_the_second(
    fleet: Fleet, host: Host, mode: Any, amount: int
) -> None:
    newer = _commit(fleet, "2")
    fleet.workspace.push()
    fleet.box.gitea.proxy.mode(mode, amount)
    if mode in SILENT:
        host.constants = IMPATIENT
    result = host.once()
    assert result.returncode == 0, result.stderr
    assert _applied(host) == newer
    gitea = _remotes(host)["gitea"]
    assert gitea["reachable"] is False
    assert gitea["error"]
    assert gitea["down_since"]


def _wrong_host_key(host: Host, fleet: Fleet) -> None:
    known = host.root / "known_hosts"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", host.root / "other"])
    kind, key, _ = (host.root / "other.pub").read_text().split()
    known.write_text(
        f"[127.0.0.1]:{fleet.box.gitea.url.split(':')[2].split('/')[0]} {kind} {key}\n"
    )
    host.config["remotes"][0]["known_hosts"] = str(known)


def _no_such_repository(host: Host, fleet: Fleet) -> None:  # noqa: ARG001
    host.config["remotes"][0]["url"] += "-gone"


def _wrong_ssh_key(host: Host, fleet: Fleet) -> None:  # noqa: ARG001
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", host.root / "stranger"])
    host.config["remotes"][0]["ssh_key"] = str(host.root / "stranger")


@pytest.mark.parametrize("harm", [_wrong_host_key, _no_such_repository, _wrong_ssh_key])
def test_a_remote_that_cannot_be_trusted_or_read_is_down_with_its_reason(
    fleet: Fleet, host: Host, harm: Callable[[Host, Fleet], None]
) -> None:
    newer = _commit(fleet, "2")
    fleet.workspace.push()
    harm(host, fleet)
    host.write_config()
    assert host.once().returncode == 0
    assert _applied(host) == newer
    gitea = _remotes(host)["gitea"]
    assert gitea["reachable"] is False
    assert gitea["error"].startswith("gitea")


def test_a_pack_that_is_cut_anywhere_leaves_everything_as_it_was(fleet: Fleet) -> None:
    fleet.commit("first", _stack(fleet, "1"))
    host = fleet.connected(remotes=[fleet.box.github])
    host.once()
    before, first = fleet.running(), _applied(host)
    fleet.workspace.write({"stacks/one/noise.bin": bytes(range(256)) * 2000})
    newer = _commit(fleet, "2")
    fleet.workspace.push()
    conf = host.repo / "stacks/one/compose.yaml"
    tree = conf.read_bytes()
    for offset in (1500, 4000, 5500):
        fleet.box.github.proxy.mode("cut_after", offset)
        host.once()
        assert _applied(host) in {first, newer}
        if _applied(host) == newer:
            break
        assert fleet.running() == before
        assert conf.read_bytes() == tree
        assert not [*(host.state / "incoming").glob("*.*")]
    fleet.box.github.proxy.mode("pass")
    assert host.once().returncode == 0
    assert _applied(host) == newer


# --- over time ---


def test_failover_and_return_skip_nothing_and_repeat_nothing(fleet: Fleet, host: Host) -> None:
    expected = [_applied(host)]
    host.constants = IMPATIENT
    with host.running() as agent:
        agent.says("in sync with")
        modes: list[Any] = ["pass", "cut", "pass", "blackhole", "pass"]
        for number, mode in enumerate(modes, 2):
            fleet.box.gitea.proxy.mode(mode)
            expected.append(_commit(fleet, str(number)))
            fleet.workspace.push()
            agent.says(f"in sync with {expected[-1][:7]}")
        before = fleet.running()
        wait_until(lambda: _remotes(host)["gitea"]["reachable"], what="gitea to be back")
        assert fleet.running() == before
    accepted = [e["revision"] for e in host.json("history", "media", "-n", "50")]
    assert accepted[::-1] == expected
    deploys = [e for e in host.json("history", "one", "-n", "50") if e["action"] == "deploy"]
    assert [e["revision"] for e in deploys][::-1] == expected


def test_with_all_remotes_down_at_boot_the_last_good_commit_is_enforced(
    fleet: Fleet, host: Host
) -> None:
    first = _applied(host)
    for server in (fleet.box.gitea, fleet.box.github):
        server.proxy.mode("cut")
    fleet.box.engine.run("rm", "--force", "one-app-1")
    with host.running() as agent:
        agent.says("no remote answers")
        wait_until(lambda: "one-app-1" in fleet.running(), what="the stack to be put right")
        assert _applied(host) == first
        assert all(remote["down_since"] for remote in _remotes(host).values())


def test_sync_looks_now(fleet: Fleet, host: Host) -> None:
    assert host.commitd("sync").returncode == 1
    for remote in host.config["remotes"]:
        remote["poll"] = "24h"
    host.write_config()
    with host.running() as agent:
        agent.says("in sync with")
        newer = _commit(fleet, "2")
        fleet.workspace.push()
        host.commitd("sync", check=True)
        agent.says(f"in sync with {newer[:7]}")


# --- the clone ---


def _truncate_packs(host: Host) -> None:
    for pack in (host.git_dir / "objects").rglob("*"):
        if pack.is_file():
            pack.chmod(0o644)
            pack.write_bytes(pack.read_bytes()[: pack.stat().st_size // 2])


def _empty_ref(host: Host) -> None:
    (host.git_dir / "refs/commitd/applied").write_text("")


def _no_head(host: Host) -> None:
    (host.git_dir / "HEAD").write_text("")


def _locks(host: Host) -> None:
    (host.git_dir / "index.lock").write_text("")
    (host.state / "incoming/half.new").mkdir()


def _gone(host: Host) -> None:
    shutil.rmtree(host.git_dir)


@pytest.mark.parametrize("harm", [_truncate_packs, _empty_ref, _no_head, _locks, _gone])
def test_a_broken_clone_is_rebuilt_and_no_container_notices(
    fleet: Fleet, host: Host, harm: Callable[[Host], None]
) -> None:
    before, first = fleet.running(), _applied(host)
    (host.repo / "stacks/one/data.bin").write_text("precious")
    harm(host)
    result = host.once()
    assert result.returncode == 0, result.stderr
    assert fleet.running() == before
    assert _applied(host) == first
    newer = _commit(fleet, "2")
    fleet.workspace.push()
    assert host.once().returncode == 0
    assert _applied(host) == newer
    assert (host.repo / "stacks/one/data.bin").read_text() == "precious"


def test_a_reset_that_was_cut_short_is_finished_by_the_next_cycle(fleet: Fleet, host: Host) -> None:
    """As if the agent had been killed between the files and the note that they are there."""
    first = _applied(host)
    fleet.workspace.write({"stacks/one/new.conf": "new"})
    newer = _commit(fleet, "2")
    fleet.workspace.push()
    git = ["git", f"--git-dir={host.git_dir}"]
    run([*git, "fetch", "-q", str(fleet.box.gitea.path), "main"])
    run([*git, "update-ref", "refs/commitd/pending", newer])
    (host.repo / "stacks/one/new.conf").write_text("new")
    (host.repo / "stacks/one/compose.yaml").write_text("half written")
    assert _applied(host) == first
    result = host.once()
    assert result.returncode == 0, result.stderr
    assert _applied(host) == newer
    assert (host.repo / "stacks/one/compose.yaml").read_text() != "half written"


def test_a_commit_that_no_remote_delivers_is_held_and_said(fleet: Fleet, host: Host) -> None:
    first = _applied(host)
    _commit(fleet, "2")
    fleet.workspace.push()
    hidden = []
    for server in (fleet.box.gitea, fleet.box.github):
        blob = run(["git", "-C", server.path, "rev-parse", "main:stacks/one/compose.yaml"])
        name = blob.decode().strip()
        (loose,) = server.path.glob(f"objects/{name[:2]}/{name[2:]}")
        hidden.append((loose, loose.read_bytes()))
        loose.unlink()
    result = host.once()
    assert result.returncode == 1
    assert "a new commit cannot be fetched" in result.stderr
    assert _applied(host) == first
    for loose, content in hidden:
        loose.write_bytes(content)
        loose.chmod(0o444)
    assert host.once().returncode == 0
    assert _applied(host) != first


def test_a_hold_ends_when_its_cause_is_mended_on_the_host(fleet: Fleet, host: Host) -> None:
    (host.repo / "stacks/one/data").write_text("precious")
    fleet.workspace.write({"stacks/one/data": "from git"})
    newer = _commit(fleet, "2")
    fleet.workspace.push()
    with host.running() as agent:
        agent.says("an untracked file is in the way")
        (host.repo / "stacks/one/data").rename(host.root / "data")
        agent.says(f"in sync with {newer[:7]}")


def test_a_clone_that_is_lost_does_not_forget_which_way_is_forward(
    fleet: Fleet, host: Host
) -> None:
    older = _applied(host)
    newer = _commit(fleet, "2")
    fleet.workspace.push()
    host.once()
    before = fleet.running()
    shutil.rmtree(host.git_dir)
    fleet.workspace.git("reset", "--quiet", "--hard", older)
    fleet.workspace.push(force=True)
    result = host.once()
    assert result.returncode == 1
    assert newer[:7] in result.stderr
    assert fleet.running() == before


def test_a_full_disk_leaves_the_last_good_commit_in_force(fleet: Fleet) -> None:
    fleet.commit("first", _stack(fleet, "1"))
    host = fleet.connected(enrolled=False)
    host.state.mkdir(mode=0o700)
    run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", host.state])
    try:
        assert host.once().returncode == 0
        before, first = fleet.running(), _applied(host)
        fleet.workspace.write({"stacks/one/noise.bin": os.urandom(30_000_000)})
        newer = _commit(fleet, "2")
        fleet.workspace.push()
        result = host.once()
        assert result.returncode == 1
        assert "cannot be fetched" in result.stderr
        assert fleet.running() == before
        assert _applied(host) == first
        run(["mount", "-o", "remount,size=300m", host.state])
        assert host.once().returncode == 0
        assert _applied(host) == newer
    finally:
        run(["umount", "--lazy", host.state])


def test_a_host_of_an_older_agent_is_taken_over_as_it_is(fleet: Fleet, host: Host) -> None:
    """Git's directory was in the checkout, and there was no export."""
    before, first = fleet.running(), _applied(host)
    git = ["git", f"--git-dir={host.repo}/.git", f"--work-tree={host.repo}"]
    host.git_dir.rename(host.repo / ".git")
    (host.repo / ".git/export.index").unlink()
    shutil.rmtree(host.state / "export")
    run([*git, "reset", "-q", "--hard", "refs/commitd/applied"])
    (host.repo / "stacks/one/data.bin").write_text("precious")
    result = host.once()
    assert result.returncode == 0, result.stderr
    assert (fleet.running(), _applied(host)) == (before, first)
    assert not (host.repo / ".git").exists()
    newer = _commit(fleet, "2")
    fleet.workspace.push()
    assert host.once().returncode == 0
    assert _applied(host) == newer
    assert (host.repo / "stacks/one/data.bin").read_text() == "precious"

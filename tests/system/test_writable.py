"""A container that could write to what is judged in Git is not started, unless that is allowed."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

STACK = "stacks/web/compose.yaml"
LIST = {"host/media/stacks.yaml": "- web\n"}
POLICY = "global/commitd.yaml"


def _compose(fleet: Fleet, mount: str, version: int = 1) -> str:
    return fleet.compose(more=f"    environment: {{V: '{version}'}}\n    volumes: ['{mount}']\n")


@pytest.mark.parametrize("mount", ["./:/work", "../..:/repo", "${DATA:-.}/conf:/x"])
def test_a_mount_of_files_of_git_for_writing_is_refused_and_what_runs_goes_on(
    fleet: Fleet, mount: str
) -> None:
    files = {STACK: _compose(fleet, f"{mount}:ro"), "stacks/web/conf/a": "one", **LIST}
    host = fleet.synced(files)
    before = fleet.running()
    fleet.commit("may write", {STACK: _compose(fleet, mount, 2)})
    result = host.once()
    assert result.returncode == 1
    assert f"{STACK}:6: app: /" in result.stdout
    assert "the container can write to " in result.stdout
    assert "mount it with :ro" in result.stdout
    assert "writable_checkout: {allow: [web]} in commitd.yaml permits it" in result.stdout
    assert fleet.running() == before
    (web,) = host.json("status")["stacks"]
    assert (web["sync"], web["health"]) == ("failed", "healthy")
    fleet.commit("allowed", {POLICY: "writable_checkout: {allow: [web]}\n"})
    assert host.once().returncode == 0
    assert fleet.environment("web-app-1")["V"] == "2"


def test_what_a_stack_is_allowed_is_logged_when_it_changes_and_not_at_each_deploy(
    fleet: Fleet,
) -> None:
    first = {STACK: _compose(fleet, "/etc:/x:ro"), **LIST}
    fleet.commit("first", first)
    with fleet.host().running() as agent:
        agent.says("app: mounts /etc, ")
        agent.says("in sync with")
        second = fleet.commit("second", {STACK: _compose(fleet, "/etc:/x:ro", 2)})
        agent.says(f"in sync with {second[:7]}")
        fleet.commit("third", {STACK: _compose(fleet, "/:/x:ro", 3)})
        agent.says("app: mounts /, ")
        assert agent.log.count("web: allowed: ") == 2


def _as_deployed_by_an_older_agent(host: Host) -> None:
    """Under no policy: the release has the digest that is declared now."""
    with contextlib.closing(sqlite3.connect(host.state / "journal.db")) as db, db:
        ((text,),) = db.execute("SELECT value FROM meta WHERE key = 'declared'").fetchall()
        declared = json.loads(text)
        now = declared["stacks"]["web"], declared["revision"]["sha"]
        db.execute("UPDATE releases SET digest = ?, revision = ? WHERE stack = 'web'", now)
        db.execute("DELETE FROM attempts")


def test_what_an_older_agent_has_deployed_is_repaired_and_is_what_a_bad_release_goes_back_to(
    fleet: Fleet,
) -> None:
    writes = _compose(fleet, "./conf:/conf")
    host = fleet.synced(
        {STACK: writes, "stacks/web/conf/a": "one", POLICY: "writable_checkout: allow\n", **LIST}
    )
    fleet.commit("no policy", {POLICY: None})
    assert host.once().returncode == 1
    _as_deployed_by_an_older_agent(host)
    before = fleet.running()
    assert host.once().returncode == 0
    assert fleet.running() == before, "nothing is recreated"
    fleet.box.engine.run("rm", "--force", "web-app-1")
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    assert "stacks/web/conf, where Git has a" in result.stdout + result.stderr
    assert "web-app-1" in fleet.running()

    unwell = "    healthcheck: {test: [CMD, 'false'], interval: 1s, retries: 1}\n"
    bad = _compose(fleet, "./conf:/conf:ro", 2) + unwell
    fleet.commit(
        "as it has to be, and unwell", {STACK: f"x-commitd: {{health_timeout: 3s}}\n{bad}"}
    )
    assert "rolled back to" in host.once().stdout
    assert fleet.environment("web-app-1")["V"] == "1"

"""Why something runs here, or does not: asked of a host that has lived a little."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.surface.cli.main import USAGE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

LIST = "host/media/stacks.yaml"
POLICY = "global/commitd.yaml"


def _commit(fleet: Fleet, message: str, files: Mapping[str, str]) -> dict[str, str]:
    """Commit, push, and return the commit as `why --json` shows it."""
    sha = fleet.commit(message, files)
    form = "--format=%an <%ae>%x00%cI%x00%s"
    author, at, subject = fleet.workspace.git("log", "-1", form, sha).split("\0")
    return {"sha": sha, "author": author, "committed_at": at, "subject": subject}


@pytest.fixture
def lived(fleet: Fleet) -> tuple[Host, dict[str, dict[str, str]]]:
    """A host and its commits, by what they did last."""
    files = {f"stacks/{n}/compose.yaml": fleet.compose(fleet.web) for n in ("one", "two")}
    allow = "# who may run beside the stacks\nallow:\n  - name: friend-*\n"
    commits = {"listed": _commit(fleet, "list one", {LIST: "# runs here\n- one\n", **files})}
    both = {LIST: "# runs here\n- one\n- two\n", POLICY: allow}
    commits["allowed"] = _commit(fleet, "friends", both)
    host = fleet.host(remotes=[fleet.box.gitea])
    assert host.once().returncode == 0
    commits["changed"] = _commit(
        fleet, "web 2", {"stacks/one/compose.yaml": fleet.compose(fleet.web2)}
    )
    assert host.once().returncode == 0
    commits["left"] = _commit(fleet, "no more two", {LIST: "# runs here\n- one\n"})
    for name in ("rogue", "friend-1"):
        fleet.box.engine.run("run", "--detach", "--name", name, fleet.idle)
    assert host.once().returncode == 0
    return host, commits


def test_a_stack_and_its_container_lead_to_line_commit_and_cause(
    fleet: Fleet, lived: tuple[Host, dict[str, dict[str, str]]]
) -> None:
    host, commits = lived
    stack = host.json("why", "one")
    assert stack["declared"] == {"where": f"{LIST}:2", "commit": commits["listed"]}
    assert (stack["kind"], stack["stack"], stack["state"]["sync"]) == ("stack", "one", "synced")
    [service] = stack["services"]
    compose = "stacks/one/compose.yaml"
    assert (service["name"], service["image"]) == ("app", fleet.web2)
    assert (service["where"], service["commit"]) == (f"{compose}:3", commits["changed"])
    assert [c["name"] for c in service["containers"]] == ["one-app-1"]
    last = stack["last"]
    assert (last["action"], last["status"]) == ("deploy", "succeeded")
    file, image = last["cause"]
    assert (file["kind"], file["name"]) == ("file", compose)
    assert (image["kind"], image["stack"], image["service"]) == ("image", "one", "app")
    assert (image["from"], image["to"]) == (fleet.web, fleet.web2)
    assert stack["touched"] == {compose: commits["changed"]}

    container = fleet.running()["one-app-1"]
    for word in ("one-app-1", container[:12]):
        answer = host.json("why", word)
        assert answer["because"] == (
            f"one-app-1 is of the service app of one, which {LIST}:2 declares"
        )
        assert answer["services"] == stack["services"]
        assert answer["declared"] == stack["declared"]
        assert answer["container"]["id"] == container

    shown = host.commitd("why", "one").stdout
    for words in (f"{LIST}:2", '"list one"', f"{compose}:3", '"web 2"', fleet.web2, "✓ synced"):
        assert words in shown

    short = host.commitd("why", container[:2]).stderr
    assert "is too little of an ID" in short
    assert "one-app-1" in short

    fleet.box.engine.stop()  # what is known without it is still said
    assert host.json("why", "one")["declared"] == stack["declared"]
    answer = host.json("why", "one-app-1")
    assert (answer["stack"], answer["declared"]) == ("one", stack["declared"])
    assert "the engine does not answer" in answer["because"]
    assert host.json("why", "rogue")["ended"]["action"] == "removed"
    assert "whether it runs is not known" in host.json("why", "two")["because"]


def test_what_nobody_declared_leads_to_what_was_done_and_to_the_rule(
    lived: tuple[Host, dict[str, dict[str, str]]],
) -> None:
    host, commits = lived
    gone = host.json("why", "two")
    assert (gone["declared"], gone["left"]) == (None, {"where": LIST, "commit": commits["left"]})
    assert gone["last"]["action"] == "remove-stack"
    assert gone["because"] == "two is not declared any more, and does not run"

    rogue = host.json("why", "rogue")
    assert rogue["because"] == "nobody declared rogue: belongs to no stack"
    ended = rogue["ended"]
    assert (ended["action"], rogue["last"]["action"]) == ("removed", "evict")
    assert rogue["container"]["name"].startswith("commitd-evicted-rogue-")
    assert f"commitd undo {ended['id'][:12]}" in host.commitd("why", ended["id"][:8]).stdout
    assert "did you mean 'rogue'?" in host.commitd("undo", "rouge").stderr
    assert host.commitd("undo", "rogue", "--for", "1h").returncode == 0
    back = host.json("why", "rogue")
    assert back["exempt"]["reason"] == "brought-back"
    assert back["container"]["state"] == "running"

    friend = host.json("why", "friend-1")
    assert friend["exempt"] == {
        "reason": "allow-rule", "message": f"allowed by a rule: {POLICY}:3",
        "where": f"{POLICY}:3", "commit": commits["allowed"],
    }  # fmt: skip
    for wrong, near in (("oen", "'one'"), ("rouge", "'rogue'"), ("friend", "'friend-1'")):
        result = host.commitd("why", wrong)
        assert result.returncode == USAGE
        assert f"did you mean {near}" in result.stderr

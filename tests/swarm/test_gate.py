"""What is said of tasks that fail on a node without an agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.sandbox.swarm import stack_file

if TYPE_CHECKING:
    from tests.sandbox.cluster import Cluster
    from tests.system.conftest import Fleet

_ON_WORKER = {"placement": {"constraints": ["node.role == worker"]}}


def test_what_crashes_on_a_worker_is_said_with_its_last_words(fleet: Fleet, pair: Cluster) -> None:
    app = {"image": fleet.idle, "deploy": _ON_WORKER}
    first = {
        "host/prod/stacks.yaml": "- web\n",
        "stacks/web/compose.yaml": stack_file({"app": app}),
    }
    fleet.commit("first", first)
    box = pair.nodes[0].box
    host = fleet.connected(box=box, **fleet.of_a_swarm(box))
    assert host.once().returncode == 0
    bad = fleet.box.images.build("bad", "1.0", command="echo the disk is full; exit 4")
    fleet.commit("bad", {"stacks/web/compose.yaml": stack_file({"app": {**app, "image": bad}})})
    assert host.once().returncode == 1
    back = host.json("history", "web")[0]
    assert (back["action"], back["status"]) == ("rollback", "succeeded")
    assert "task: non-zero exit (4) (on node2)" in back["message"]
    assert "its last words: the disk is full" in back["message"]
    assert pair.nodes[0].swarm.images() == {"web_app": {fleet.idle}}

"""A Swarm of a manager and a worker, with two versions of the engine, through its days."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.cluster import Cluster
from tests.sandbox.process import wait_until
from tests.swarm.repository import RUNNING, STACKS, WITH_CONFIG, WITH_SECRET, files

if TYPE_CHECKING:
    from tests.sandbox.host import Host
    from tests.sandbox.swarm import Swarm
    from tests.system.conftest import Fleet


def _manager(fleet: Fleet, cluster: Cluster) -> Host:
    box = cluster.nodes[0].box
    return fleet.connected(box=box, **fleet.of_a_swarm(box))


def _deployed(fleet: Fleet, cluster: Cluster) -> Host:
    """The agent of the only manager, after the first deploy."""
    fleet.commit("first", files(fleet, word="first"))
    host = _manager(fleet, cluster)
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    cluster.nodes[0].swarm.wait_for(RUNNING)
    return host


def _restarted(swarm: Swarm, before: dict[str, frozenset[str]]) -> set[str]:
    """The services that have other tasks than before."""
    return {name for name, ids in swarm.task_ids().items() if ids != before.get(name)}


def _config(swarm: Swarm, service: str) -> str:
    """The name of the only config of a service."""
    (used,) = swarm.service(service)["Spec"]["TaskTemplate"]["ContainerSpec"]["Configs"]
    return str(used["ConfigName"])


@pytest.mark.parametrize("engines", [[False, True], [True, False]], ids=["own", "other"])
def test_ten_services_are_deployed_at_once_and_then_left_alone(
    fleet: Fleet, engines: list[bool]
) -> None:
    """Whichever of the two engines, and of their command lines, the manager has."""
    with Cluster(fleet.box, engines=engines, managers=1) as cluster:
        host, swarm = _deployed(fleet, cluster), cluster.nodes[0].swarm
        nodes = {task["NodeID"] for name in RUNNING for task in swarm.tasks(name)}
        assert len(nodes) == 2
        assert len(swarm.names("secrets")) == 1
        before, services = swarm.task_ids(), swarm.services()
        assert "in sync with" in host.once().stdout
        assert "in sync with" in host.once().stdout
        assert swarm.task_ids() == before
        assert swarm.services() == services  # not even a version of a specification is another
        stacks = {stack["name"]: stack["sync"] for stack in host.json("status")["stacks"]}
        assert stacks == dict.fromkeys(STACKS, "synced")


def test_a_release_that_crashes_or_has_no_image_goes_back(fleet: Fleet, pair: Cluster) -> None:
    host, swarm = _deployed(fleet, pair), pair.nodes[0].swarm
    good = swarm.images()
    crashing = fleet.box.images.build("crashing", "1.0", command="exit 7")
    fleet.commit("crashes", files(fleet, image=crashing))
    result = host.once()
    assert result.returncode == 1, result.stdout
    assert "exit" in result.stdout
    swarm.wait_for(RUNNING)
    assert swarm.images() == good
    back, deploy = host.json("history", "web")[:2]
    assert (back["action"], deploy["action"], deploy["status"]) == ("rollback", "deploy", "failed")
    before = swarm.task_ids()
    assert host.once().returncode == 1  # it is still not what is declared
    assert swarm.task_ids() == before
    absent = f"{fleet.box.registry.address}/absent:1.0@sha256:{'0' * 64}"
    fleet.commit("has no image", files(fleet, image=absent))
    assert host.once().returncode == 1
    swarm.wait_for(RUNNING)
    assert swarm.images() == good
    # The others were not touched by any of it.
    assert {name.partition("_")[0] for name in _restarted(swarm, before)} <= {"web"}
    mended = fleet.box.images.build("mended", "1.0")
    fleet.commit("mended", files(fleet, image=mended))
    assert host.once().returncode == 0
    swarm.wait_for(RUNNING)
    assert swarm.images("web") == {name: {mended} for name in swarm.services("web")}


def test_a_new_config_and_a_new_secret_restart_only_who_uses_them(
    fleet: Fleet, pair: Cluster
) -> None:
    host, swarm = _deployed(fleet, pair), pair.nodes[0].swarm
    before, secrets = swarm.task_ids(), swarm.names("secrets")
    config = _config(swarm, WITH_CONFIG)
    fleet.commit("another setting", files(fleet, setting="two"))
    assert host.once().returncode == 0
    swarm.wait_for(RUNNING)
    assert _restarted(swarm, before) == {WITH_CONFIG}
    assert _config(swarm, WITH_CONFIG) != config
    assert swarm.names("secrets") == secrets
    before = swarm.task_ids()
    fleet.commit("another word", files(fleet, setting="two", word="second"))
    assert host.once().returncode == 0
    swarm.wait_for(RUNNING)
    assert _restarted(swarm, before) == {WITH_SECRET}
    assert swarm.names("secrets") != secrets
    (db,) = swarm.tasks(WITH_SECRET)
    node = next(n for n in pair.nodes if n.swarm_id == db["NodeID"])
    container = db["Status"]["ContainerStatus"]["ContainerID"]
    assert node.engine.run("exec", container, "cat", "/run/secrets/word") == "second\n"


def test_a_node_that_is_down_is_no_drift_and_its_tasks_move(fleet: Fleet, pair: Cluster) -> None:
    host, swarm = _deployed(fleet, pair), pair.nodes[0].swarm
    worker = pair.nodes[1]
    services = {name: found["Version"] for name, found in swarm.services().items()}
    with host.running() as agent:
        agent.says("in sync with")
        worker.unplug()
        wait_until(
            lambda: swarm.nodes()["node2"]["Status"]["State"] == "down",
            what="node2 to be down",
            seconds=120,
        )
        replicated = {name: count for name, count in RUNNING.items() if name != "edge_agent"}

        def moved() -> bool:
            here = swarm.nodes()["node1"]["ID"]
            tasks = {name: swarm.tasks(name) for name in replicated}
            return all(
                sum(task["NodeID"] == here for task in found) == replicated[name]
                for name, found in tasks.items()
            )

        wait_until(moved, what="the tasks to be on node1")
        # A commit is deployed as ever meanwhile.
        sha = fleet.commit("another setting", files(fleet, setting="two"))
        agent.says(f"in sync with {sha[:7]}", timeout_s=120)
        worker.plug()
        pair.ready()
        swarm.wait_for(RUNNING)
    actions = [entry["action"] for entry in host.json("history")]
    assert actions.count("deploy") == len(STACKS) + 1
    assert not {"rollback", "evict"} & {*actions}
    # Docker's command line asks for each service of a stack anew.
    updated = {n for n, found in swarm.services().items() if found["Version"] != services[n]}
    assert updated == {*swarm.services(WITH_CONFIG.partition("_")[0])}


def test_what_is_changed_by_hand_is_put_right(fleet: Fleet, pair: Cluster) -> None:
    host, swarm = _deployed(fleet, pair), pair.nodes[0].swarm
    good = swarm.images()

    def other_image(spec: dict[str, Any]) -> None:
        spec["TaskTemplate"]["ContainerSpec"]["Image"] = fleet.web

    with host.running() as agent:
        agent.says("in sync with")
        swarm.scale("web_worker", 1)
        swarm.update("edge_watch", other_image)
        swarm.engine.api("DELETE", f"/services/{swarm.service('data_queue')['ID']}")

        def right() -> bool:
            return (
                swarm.images() == good
                and {name: len(ids) for name, ids in swarm.task_ids().items()} == RUNNING
            )

        wait_until(right, what="the services to be as declared", seconds=120)
    assert host.once().returncode == 0


def test_what_nobody_declared_is_ended_and_can_be_brought_back(fleet: Fleet, pair: Cluster) -> None:
    host, swarm = _deployed(fleet, pair), pair.nodes[0].swarm
    before = swarm.task_ids()
    with host.running() as agent:
        agent.says("in sync with")
        swarm.create("rogue", fleet.idle, replicas=2)

        def ended() -> bool:
            mode = swarm.service("rogue")["Spec"]["Mode"]
            return mode["Replicated"]["Replicas"] == 0 and not swarm.tasks("rogue")

        wait_until(ended, what="the rogue to be ended")
        host.commitd("undo", "rogue", check=True)
        wait_until(lambda: len(swarm.task_ids()["rogue"]) == 2, what="the rogue to be back")
    assert {name: ids for name, ids in swarm.task_ids().items() if name != "rogue"} == before


def test_a_stack_that_left_the_list_is_removed_with_its_objects(
    fleet: Fleet, pair: Cluster
) -> None:
    host, swarm = _deployed(fleet, pair), pair.nodes[0].swarm
    before = swarm.task_ids()
    fleet.commit("no more data", files(fleet, stacks=("edge", "web")))
    assert host.once().returncode == 0
    assert not swarm.services("data")
    assert not swarm.names("secrets")
    assert swarm.task_ids() == {n: ids for n, ids in before.items() if not n.startswith("data_")}

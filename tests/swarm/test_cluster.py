"""What the other tests here rely on: the machines are one Swarm, and each can be lost."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.sandbox.process import SandboxError, wait_until
from tests.sandbox.swarm import stack_file

if TYPE_CHECKING:
    from tests.sandbox.cluster import Cluster
    from tests.system.conftest import Fleet


def test_two_engines_are_one_swarm_and_containers_reach_each_other(
    fleet: Fleet, pair: Cluster
) -> None:
    manager, worker = pair.nodes
    versions = {
        name: node["Description"]["Engine"]["EngineVersion"].partition(".")[0]
        for name, node in manager.swarm.nodes().items()
    }
    assert versions == {
        "node1": manager.engine.api("GET", "/version")["Version"][:2],
        "node2": "28",
    }
    serve = "exec httpd -f -h /www -p 80"
    web = fleet.box.images.build("server", "1.0", command=serve, files={"www/index.html": "v1"})
    spread = {"deploy": {"mode": "global", "endpoint_mode": "dnsrr"}, "networks": ["own"]}
    stack = stack_file({"web": {"image": web, **spread}}, networks={"own": {}})
    manager.swarm.deploy("st", stack)
    manager.swarm.wait_for({"st_web": 2})
    (here,) = manager.engine.containers()
    (there,) = worker.engine.containers()
    address = there["NetworkSettings"]["Networks"]["st_own"]["IPAddress"]

    def answers() -> bool:
        with contextlib.suppress(SandboxError):  # its server has not begun to listen
            words = ["exec", here["Id"], "wget", "-qO-", f"http://{address}"]
            return manager.engine.run(*words) == "v1"
        return False

    wait_until(answers, what="the container on node2 to answer")


def test_a_machine_without_power_is_down_and_comes_back(fleet: Fleet, pair: Cluster) -> None:
    manager, worker = pair.nodes
    stack = stack_file({"all": {"image": fleet.idle, "deploy": {"mode": "global"}}})
    manager.swarm.deploy("st", stack)
    manager.swarm.wait_for({"st_all": 2})
    worker.power_off()
    assert not worker.up

    def state() -> str:
        return str(manager.swarm.nodes()["node2"]["Status"]["State"])

    wait_until(lambda: state() == "down", what="node2 to be down", seconds=120)
    worker.power_on()
    pair.ready()
    manager.swarm.wait_for({"st_all": 2})


def test_another_manager_leads_when_the_leader_has_no_power(fleet: Fleet, trio: Cluster) -> None:
    first = trio.leader()
    first.swarm.create("app", fleet.idle, replicas=3)
    first.swarm.wait_for({"app": 3})
    first.power_off()
    second = trio.leader()
    assert second is not first
    second.swarm.wait_for({"app": 3})
    first.power_on()
    trio.ready()
    assert trio.leader() is second

"""What the agent of another node than the leader's says, and what is left of a leader's orders."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.sandbox.process import wait_until
from tests.sandbox.swarm import stack_file

if TYPE_CHECKING:
    from tests.sandbox.cluster import Cluster, Node
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

STACKS = "host/prod/stacks.yaml"


def _files(image: str) -> dict[str, str]:
    web = {"app": {"image": image}}
    return {
        STACKS: "- web\n- db\n",
        "stacks/web/compose.yaml": stack_file(web),
        "stacks/db/compose.yaml": stack_file({"app": {"image": image}}),
    }


def _host(fleet: Fleet, node: Node) -> Host:
    return fleet.connected(box=node.box, **fleet.of_a_swarm(node.box))


def _wait_for_standby(host: Host, leader: Node) -> None:
    def stands_by() -> bool:
        status = host.json("status")
        return bool(status["state"] == "standby" and status["standby"] == {"leader": leader.name})

    wait_until(stands_by, what=f"{host.root.name} to stand by")


def test_a_worker_runs_no_agent_in_this_mode(fleet: Fleet, pair: Cluster) -> None:
    fleet.commit("first", _files(fleet.idle))
    done = _host(fleet, pair.nodes[1]).once()
    assert done.returncode == 2
    assert "this node is a worker" in done.stderr
    assert pair.nodes[0].swarm.services() == {}


def test_what_a_person_ordered_holds_on_under_the_next_leader(fleet: Fleet, trio: Cluster) -> None:
    first = fleet.commit("first", _files(fleet.idle))
    hosts = {node.name: _host(fleet, node) for node in trio.nodes}
    leader = trio.leader()
    for node in trio.nodes:
        if node is not leader:
            done = hosts[node.name].once()
            assert (done.returncode, done.stdout.split(";")[0]) == (
                0,
                f"standby: leader is {leader.name}",
            )
    with ExitStack() as running:
        agents = {name: running.enter_context(host.running()) for name, host in hosts.items()}
        agents[leader.name].says("in sync with")
        for node in trio.nodes:
            if node is not leader:
                _wait_for_standby(hosts[node.name], leader)
                status = hosts[node.name].json("status")
                assert (status["revision"]["applied"], status["stacks"]) == (first, [])
                assert hosts[node.name].commitd("status", "--exit-code").returncode == 0
        hosts[leader.name].commitd("suspend", "db", check=True)
        agents[leader.name].says("suspended: db")

        leader.power_off()
        second = trio.leader()
        agents[second.name].says("suspended: db")
        fleet.commit("second", _files(fleet.web))
        wait_until(
            lambda: second.swarm.images()["web_app"] == {fleet.web}, what="the second commit"
        )
        assert second.swarm.images()["db_app"] == {fleet.idle}

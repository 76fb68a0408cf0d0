"""What the agent of another node than the leader's says, and what is left of a leader's orders."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
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


def _role(at: Node, node: Node, role: str) -> None:
    found = at.swarm.nodes()[node.name]
    path = f"/nodes/{found['ID']}/update?version={found['Version']['Index']}"
    at.engine.api("POST", path, {**found["Spec"], "Role": role})


def test_plaintext_is_on_the_leader_alone(fleet: Fleet, trio: Cluster) -> None:
    key = "stacks/web/k.secret.key"
    web = stack_file(
        {"app": {"image": fleet.idle, "secrets": ["key"]}},
        secrets={"key": {"file": "./.decrypted.k.secret.key"}},
    )
    more: dict[str, str | bytes | None] = {
        "stacks/web/compose.yaml": web,
        key: fleet.box.encrypt(b"canary-1", kind="binary"),
    }
    fleet.commit("first", {**_files(fleet.idle), **more})
    first = trio.leader()
    host = _host(fleet, first)

    def canaries() -> list[Path]:
        places = (host.state, Path(host.config["runtime_dir"]))
        files = [path for place in places for path in place.rglob("*") if path.is_file()]
        return [path for path in files if b"canary-1" in path.read_bytes()]

    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    assert canaries()
    other = next(node for node in trio.nodes if node is not first)
    _role(other, first, "worker")
    wait_until(lambda: other.swarm.leader() not in {None, first.name}, what="another leader")
    _role(other, first, "manager")
    trio.ready()
    assert host.once().stdout.startswith("standby")
    assert canaries() == []


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

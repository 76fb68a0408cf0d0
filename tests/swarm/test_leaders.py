"""Three managers with an agent each: one acts, and another goes on when it cannot any more."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.engine_proxy import EngineProxy
from tests.sandbox.process import wait_until
from tests.sandbox.swarm import stack_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.cluster import Cluster, Node
    from tests.sandbox.engine_proxy import Request
    from tests.sandbox.host import Host, RunningAgent
    from tests.system.conftest import Fleet

SERVICES = ("a", "b", "c", "d", "e")
COUNTS = {f"web_{name}": 1 for name in SERVICES}


def files(image: str, **more: Any) -> dict[str, str | bytes | None]:
    """A stack of five services with this image."""
    stack = stack_file({name: {"image": image, **more} for name in SERVICES})
    return {"host/prod/stacks.yaml": "- web\n", "stacks/web/compose.yaml": stack}


class Agents:
    """An agent on each manager, which are `hosts` by the names of the nodes."""

    def __init__(self, fleet: Fleet, cluster: Cluster) -> None:
        self.fleet = fleet
        self.cluster = cluster
        self.hosts: dict[str, Host] = {
            node.name: fleet.connected(box=node.box, **fleet.of_a_swarm(node.box))
            for node in cluster.managers
        }
        self.running: dict[str, RunningAgent] = {}

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """All of them run."""
        with contextlib.ExitStack() as stack:
            for name, host in self.hosts.items():
                self.running[name] = stack.enter_context(host.running())
            yield

    def of(self, node: Node) -> tuple[Host, RunningAgent]:
        return self.hosts[node.name], self.running[node.name]

    def others(self, node: Node) -> list[Node]:
        """The other managers."""
        return [each for each in self.cluster.managers if each is not node]

    def deploys(self, node: Node) -> list[tuple[str, str]]:
        """Action and status of what this manager's agent has done to the stack, newest first."""
        found = self.hosts[node.name].json("history", "web")
        return [(entry["action"], entry["status"]) for entry in found]


@pytest.fixture
def agents(fleet: Fleet, trio: Cluster) -> Agents:
    return Agents(fleet, trio)


def test_one_acts_and_the_others_stand_by_and_refuse_orders(
    fleet: Fleet, trio: Cluster, agents: Agents
) -> None:
    fleet.commit("first", files(fleet.idle))
    leader = trio.leader()
    with agents.at_work():
        _, agent = agents.of(leader)
        agent.says("in sync with")
        leader.swarm.wait_for(COUNTS)
        before = leader.swarm.task_ids()
        sha = fleet.commit("second", files(fleet.box.images.build("idle", "2.0")))
        agent.says(f"in sync with {sha[:7]}", timeout_s=120)
        for node in agents.others(leader):
            host, standing_by = agents.of(node)
            standing_by.says("standby")
            wait_until(
                lambda host=host: host.json("status")["revision"]["applied"] == sha,  # type: ignore[misc]
                what="the others to follow",
            )
            assert f"leader is {leader.name}" in host.json("status")["verdict"]
            assert agents.deploys(node) == []
            for words in (["suspend", "web"], ["retry", "web"], ["undo", "x"], ["approve", sha]):
                refused = host.commitd(*words)
                assert refused.returncode != 0
                assert f"leader is {leader.name}" in refused.stdout + refused.stderr
        after = leader.swarm.task_ids()
    assert all(len(after[name]) == 1 and after[name] != before[name] for name in COUNTS)
    assert agents.deploys(leader) == [("deploy", "succeeded")] * 2


def test_the_next_leader_finishes_what_one_without_power_has_begun(
    fleet: Fleet, trio: Cluster, agents: Agents
) -> None:
    fleet.commit("first", files(fleet.idle))
    leader = trio.leader()
    newer = fleet.box.images.build("idle", "2.0")
    off, gone = threading.Event(), threading.Event()

    def hook(_: int, request: Request) -> None:
        if request.kind == "POST /services/*/update":
            updates.append(request)
        if len(updates) == 3 and not off.is_set():
            off.set()
            leader.power_off()
            gone.set()
        if off.is_set():
            raise ConnectionAbortedError

    updates: list[Request] = []
    with EngineProxy(leader.engine.socket, leader.box.root / "proxy.sock") as proxy:
        host = agents.hosts[leader.name]
        host.config["docker"]["socket"] = proxy.host
        host.write_config()
        with agents.at_work():
            _, agent = agents.of(leader)
            agent.says("in sync with")
            for node in agents.others(leader):
                agents.of(node)[1].says("standby")
            proxy.on_effect(hook)
            sha = fleet.commit("second", files(newer))
            wait_until(gone.is_set, what="the leader to have no power amid it", seconds=120)
            second = trio.leader()
            assert second is not leader
            agents.of(second)[1].says(f"in sync with {sha[:7]}", timeout_s=240)
            wait_until(
                lambda: second.swarm.images() == {name: {newer} for name in COUNTS},
                what="the new release to run",
                seconds=120,
            )
            second.swarm.wait_for(COUNTS)
            assert agents.deploys(second) == [("deploy", "succeeded")]
            (third,) = {*agents.others(leader)} & {*agents.others(second)}
            assert agents.deploys(third) == []
            # It comes back, and does nothing.
            before = second.swarm.task_ids()
            proxy.on_effect(None)
            leader.power_on()
            trio.ready()
            with host.running() as again:
                again.says("standby")
            assert trio.leader() is second
            second.swarm.wait_for(COUNTS)
            after = second.swarm.task_ids()
            moved = {name for name in COUNTS if after[name] != before[name]}
    assert not moved


def test_a_leader_that_is_one_no_more_ends_its_deploy_and_rolls_nothing_back(
    fleet: Fleet, trio: Cluster, agents: Agents
) -> None:
    fleet.commit("first", files(fleet.idle))
    leader = trio.leader()
    gate = fleet.box.root / "gate"
    gate.mkdir(exist_ok=True)
    slow = fleet.box.images.build(
        "slow", "1.0", healthcheck=f"test -e {gate}/open", command="exec tail -f /dev/null"
    )
    more = {
        "volumes": [f"{gate}:{gate}:ro"],
        "healthcheck": {"interval": "1s", "retries": 200, "start_period": "200s"},
    }
    with agents.at_work():
        _, agent = agents.of(leader)
        agent.says("in sync with")
        sha = fleet.commit("second", files(slow, **more))
        wait_until(
            lambda: (
                leader.swarm.service("web_a")["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
                == slow
            ),
            what="the new release to be on its way",
            seconds=120,
        )
        node = leader.swarm.nodes()[leader.name]
        agents.others(leader)[0].engine.api(
            "POST",
            f"/nodes/{node['ID']}/update?version={node['Version']['Index']}",
            {**node["Spec"], "Role": "worker"},
        )
        second = trio.leader(among=agents.others(leader))
        (gate / "open").touch()
        agents.of(second)[1].says(f"in sync with {sha[:7]}", timeout_s=240)
        second.swarm.wait_for(COUNTS)
    assert second.swarm.images() == {name: {slow} for name in COUNTS}
    assert ("rollback", "succeeded") not in agents.deploys(leader) + agents.deploys(second)
    assert ("deploy", "cancelled") in agents.deploys(leader)
    assert agents.deploys(second) == [("deploy", "succeeded")]


def test_the_next_leader_does_not_try_again_what_has_failed(
    fleet: Fleet, trio: Cluster, agents: Agents
) -> None:
    fleet.commit("first", files(fleet.idle))
    leader = trio.leader()
    crashing = fleet.box.images.build("crashing", "1.0", command="exit 7")
    with agents.at_work():
        _, agent = agents.of(leader)
        agent.says("in sync with")
        fleet.commit("second", files(crashing))
        agent.says("rolled back", timeout_s=120)
        leader.swarm.wait_for(COUNTS)
        leader.power_off()
        second = trio.leader()
        host, next_one = agents.of(second)
        next_one.says("this manager (", timeout_s=120)
        wait_until(
            lambda: "web" in host.json("status")["verdict"], what="it to have looked", seconds=120
        )
        second.swarm.wait_for(COUNTS)
        assert second.swarm.images() == {name: {fleet.idle} for name in COUNTS}
        assert agents.deploys(second) == [("hold", "held")]

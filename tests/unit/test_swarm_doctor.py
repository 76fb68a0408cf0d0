"""What doctor and setup say of a Swarm."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from agent.domain.doctor import swarm
from agent.domain.onboarding import todo
from agent.domain.swarm.leadership import Place
from agent.domain.swarm.model import SwarmNode
from tests.unit.test_swarm_leadership import node
from tests.values import replace

ONE, TWO, THREE = node("node1"), node("node2", leads=True), node("node3")
WORKER = node("node4", role="worker")


def silent(of: SwarmNode) -> SwarmNode:
    return replace(of, reachable=False)


@pytest.mark.parametrize(
    ("managers", "said"),
    [
        ((ONE, TWO, THREE), ["ok: 3 of 3 managers answer"]),
        ((ONE,), ["warning: one manager"]),
        ((ONE, TWO), ["warning: 2 of 2 managers answer and 2 must"]),
        ((ONE, TWO, silent(THREE)), ["warning: 2 of 3", "warning: 2 of 3 managers answer and 2"]),
    ],
)
def test_how_many_managers_may_still_be_lost_is_said(
    managers: Sequence[SwarmNode], said: Sequence[str]
) -> None:
    found = [f"{f.level}: {f.what}" for f in swarm.managers((*managers, WORKER))]
    assert len(found) == len(said)
    assert all(text.startswith(begin) for text, begin in zip(found, said, strict=True)), found


def test_nodes_that_are_down_drained_or_too_old_are_named() -> None:
    down = replace(WORKER, state="down")
    drained = replace(THREE, availability="drain")
    old = replace(ONE, engine="19.3.0")
    found = [f"{f.level}: {f.what}" for f in swarm.others((old, TWO, drained, down))]
    assert found == [
        "warning: 1 of 4 nodes are down: node4",
        "warning: no tasks are given to node3 (drained or paused)",
        "problem: node1: Docker Engine 19.3.0 is too old",
        "ok: 4 nodes, with Docker Engine 19.3.0, 28.0.0",
    ]


def test_a_leader_whose_agent_has_never_led_is_told_of() -> None:
    place = Place(id=ONE.id, node="node1", leader="node2", leader_id=TWO.id, leads=False)
    nodes = (ONE, TWO)
    assert list(swarm.last_leader(place, TWO.id, nodes)) == []
    [found] = swarm.last_leader(place, ONE.id, nodes)
    assert (found.level, found.remedy) == ("warning", "on node2: systemctl status commitd")
    begun = replace(place, leads=True, leader="node1")
    assert list(swarm.last_leader(begun, None, (replace(ONE, leads=True),))) == []


@pytest.mark.parametrize(
    ("mode", "part", "said"),
    [
        ("host", None, None),
        ("host", "manager", "docker: {mode: swarm}"),
        ("host", "worker", "a worker of a Swarm"),
        ("swarm", "manager", "host/prod/age.pub has all of them"),
        ("swarm", "worker", "a worker of its Swarm"),
        ("swarm", None, "in no Swarm"),
    ],
)
def test_setup_says_what_a_swarm_needs(mode: str, part: str | None, said: str | None) -> None:
    found = todo.of_a_swarm("prod", mode, part)
    assert found == said or (said is not None and said in (found or ""))

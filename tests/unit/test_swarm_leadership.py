"""Which manager of a Swarm acts, and what is said where none may."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import anyio
import pytest

from agent.adapters.engine.engine import Engine
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import STANDBY, Journal
from agent.control.source import remote_status
from agent.control.status import status
from agent.control.swarm.manager import Manager
from agent.domain.config import Config, Docker, Remote
from agent.domain.errors import ConfigError, TransientError
from agent.domain.outcome import Reason
from agent.domain.status.facts import LastLook
from agent.domain.swarm import leadership
from agent.domain.swarm.model import Membership, SwarmNode
from tests.values import replace


def node(name: str, *, leads: bool = False, role: str = "manager") -> SwarmNode:
    return SwarmNode(
        id=f"id-of-{name}",
        hostname=name,
        role="manager" if role == "manager" else "worker",
        availability="active",
        state="ready",
        leads=leads,
        engine="28.0.0",
    )


MEMBER = Membership(state="active", node_id="id-of-node1", cluster="c", control=True)
THREE = (node("node1"), node("node2", leads=True), node("node3"))


def test_a_manager_goes_by_its_id() -> None:
    assert leadership.node_id(MEMBER) == "id-of-node1"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (replace(MEMBER, state="inactive", control=False), "docker swarm init"),
        (replace(MEMBER, state="", control=False), "docker swarm init"),
        (replace(MEMBER, control=False), "this node is a worker"),
    ],
)
def test_where_no_agent_can_deploy_to_a_swarm_it_is_refused_with_the_remedy(
    found: Membership, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        leadership.node_id(found)


@pytest.mark.parametrize(
    ("state", "said"),
    [("locked", "docker swarm unlock"), ("pending", "pending"), ("error", "docker info")],
)
def test_a_manager_that_is_not_there_yet_is_waited_for(state: str, said: str) -> None:
    with pytest.raises(TransientError, match=said):
        leadership.node_id(replace(MEMBER, state=state, control=False))


def test_the_leader_acts_and_all_others_know_its_name() -> None:
    places = [leadership.place(THREE, each.id) for each in THREE]
    assert [place and (place.node, place.leader, place.leads) for place in places] == [
        ("node1", "node2", False),
        ("node2", "node2", True),
        ("node3", "node2", False),
    ]


def test_who_is_no_manager_among_them_has_no_place() -> None:
    assert leadership.place(THREE, "id-of-node4") is None
    assert leadership.place((*THREE, node("node4", role="worker")), "id-of-node4") is None


def test_without_a_leader_nobody_acts() -> None:
    with pytest.raises(TransientError, match="no leader"):
        leadership.place((node("node1"), node("node2")), "id-of-node1")


def test_machines_of_one_name_are_told_apart() -> None:
    twin = replace(node("node1", leads=True), id="id-of-twin")
    found = leadership.place((node("node1"), twin), "id-of-node1")
    assert found is not None
    assert (found.node, found.leader) == ("node1 (id-of-node1)", "node1 (id-of-twin)")


def test_a_leader_whose_agent_does_nothing_for_a_minute_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(anyio, "current_time", lambda: now)
    found = Manager(Engine("unix:///none"), AsyncJournal(Journal(tmp_path / "j.db")), "prod")
    place = leadership.place(THREE, "id-of-node1")
    assert place is not None
    assert found.idle(place, "id-of-node3") == ()
    now = 59.0
    assert found.idle(place, "id-of-node3") == ()
    now = 61.0
    [hold] = found.idle(place, "id-of-node3")
    assert (hold.reason, hold.needs_person) == (Reason.LEADER_IDLE, True)
    assert "node2" in hold.detail
    assert found.idle(place, "id-of-node2") == ()
    now = 100.0
    assert found.idle(place, "id-of-node3") == ()


@pytest.mark.parametrize(("mode", "standby"), [("swarm", "node2"), ("host", None)])
def test_a_host_that_was_a_manager_before_does_not_stand_by(
    tmp_path: Path, mode: Literal["host", "swarm"], standby: str | None
) -> None:
    journal = Journal(tmp_path / "j.db")
    journal.put(STANDBY, "node2")
    remote = Remote(name="gitea", url="file:///srv/r.git")
    config = Config(host="prod", remotes=(remote,), docker=Docker(mode=mode), runtime_dir=tmp_path)
    answers = {"gitea": remote_status.recall(journal, ["gitea"])["gitea"]}
    found = status.facts(
        journal, config, answers=answers, containers=(), running=True, look=LastLook()
    )
    assert found.standby == standby

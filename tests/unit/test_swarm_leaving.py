"""What goes with a stack, or a service, that left a Swarm, and what never does."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.engine.engine import Engine
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.adapters.swarm.cluster import service_of, task_of
from agent.control.swarm.remove import ServiceRemover
from agent.control.undeclared.protection import Protection
from agent.domain.errors import CommitdError
from agent.domain.swarm import leaving
from agent.domain.swarm.model import EVICTED, OURS, STACK, SwarmNode, SwarmService, SwarmTask
from tests.unit import builders
from tests.unit.test_engine_client import answer, asked, place, pong
from tests.values import replace

__all__ = ["place"]


def service(
    name: str, labels: dict[str, str] | None = None, networks: tuple[str, ...] = ()
) -> SwarmService:
    spec = {
        "Name": name,
        "Labels": {STACK: "web", **(labels or {})},
        "TaskTemplate": {"Networks": [{"Target": each} for each in networks]},
        "Mode": {"Replicated": {"Replicas": 1}},
    }
    return service_of({"ID": f"id-{name}", "Version": {"Index": 1}, "Spec": spec})


def task(service: str, state: str, node: str = "n1", *networks: str) -> SwarmTask:
    spec: dict[str, Any] = {"Networks": [{"Target": each} for each in networks]}
    raw = {"ID": f"t-{service}", "ServiceID": service, "NodeID": node, "Spec": spec}
    return task_of({**raw, "Status": {"State": state}})


def node(identifier: str, state: str) -> SwarmNode:
    return SwarmNode(
        id=identifier,
        hostname=identifier,
        role="worker",
        availability="active",
        state=state,
        leads=False,
        engine="",
    )


def test_a_stack_has_not_left_while_its_secrets_may_be_there(place: Path) -> None:
    """So the removal of it is tried again: it has no next deploy that would see to them."""

    def says(request: str) -> bytes:
        if "/_ping" in request:
            return pong("1.41")
        return answer(500) if "/secrets" in request else answer(200, b"[]")

    async def work(engine: Engine) -> None:
        async def leads() -> None: ...

        with closing(Journal(place / "journal.db")) as file:
            journal = AsyncJournal(file)
            protection = Protection(engine, journal)
            remover = ServiceRemover(engine, journal, lambda: None, protection, confirm=leads)
            with pytest.raises(CommitdError):
                await remover.take_down("web", builders.desired().revision)

    asked(place, says, work)


OURS_LABEL = {OURS: "web"}
GOES = [
    service("web_app"),  # of the release
    service("web_left", OURS_LABEL),  # of a deploy that failed
]
STAYS = [
    service("web_by-hand"),
    service("app", OURS_LABEL),  # its name is of no stack
    service("web_kept", {OURS: "web", EVICTED: "{}"}),
    service("web_back", OURS_LABEL),  # by commitd undo
    service("web_other", {OURS: "other"}),
]


def names(found: list[SwarmService]) -> list[str]:
    return [each.name for each in found]


def test_with_a_stack_goes_what_deploys_made_and_nothing_that_only_claims_to_be_of_it() -> None:
    found = leaving.of_stack([*GOES, *STAYS], "web", {"app"}, {"id-web_back"})
    assert names(found) == names(GOES)


@pytest.mark.parametrize(
    ("files", "left", "gone"),
    [
        ({"app"}, {"app", "old"}, ["web_left"]),
        ({"app", "left"}, {"app"}, []),  # a service of a profile that nobody has chosen
        ({"app", "left"}, {"app", "left"}, ["web_left"]),  # of one that is chosen no more
    ],
)
def test_only_services_that_left_go_while_their_stack_stays(
    files: set[str], left: set[str], gone: list[str]
) -> None:
    stack = replace(builders.stack("web"), services=frozenset(files))
    listed = [*GOES, *STAYS]
    found = leaving.of_services(listed, stack, left, {"app"}, {"id-web_back"})
    assert names(found) == gone


def test_where_other_files_name_services_nothing_is_taken_for_left_behind() -> None:
    stack = replace(builders.stack("web"), services=frozenset({"app"}), more=True)
    assert leaving.of_services(GOES, stack, {"app"}, {"app"}, ()) == []


@pytest.mark.parametrize(
    ("tasks", "up"),
    [
        ([task("gone", "running")], 1),
        ([task("gone", "shutdown"), task("gone", "failed"), task("gone", "complete")], 0),
        ([task("id-web_app", "running")], 0),  # of a service that is still there
        ([task("gone", "running", "n2")], 0),  # on a node that is down
    ],
)
def test_a_stack_is_gone_once_its_tasks_have_ended_where_that_can_be_known(
    tasks: list[SwarmTask], up: int
) -> None:
    nodes = [node("n1", "ready"), node("n2", "down")]
    assert len(leaving.still_up(tasks, GOES, nodes)) == up


def test_a_network_that_a_service_or_a_task_uses_stays() -> None:
    listed = [service("other_app", networks=("a",)), service("x", {EVICTED: "{}"})]
    tasks = [task("gone", "running", "n1", "b"), task("gone", "shutdown", "n1", "c")]
    assert leaving.unused({"a", "b", "c", "d"}, listed, tasks) == ["c", "d"]


def test_a_port_is_published_under_the_number_that_the_file_gives() -> None:
    spec = {
        "Name": "web_app",
        "EndpointSpec": {
            "Ports": [
                {"TargetPort": 80, "PublishedPort": 8080, "PublishMode": "ingress"},
                {"TargetPort": 53, "PublishedPort": 53, "Protocol": "udp", "PublishMode": "host"},
                {"TargetPort": 90},
            ]
        },
    }
    found = service_of({"ID": "i", "Version": {"Index": 1}, "Spec": spec})
    assert sorted(map(str, leaving.ports(found))) == ["port 53/udp", "port 8080/tcp"]

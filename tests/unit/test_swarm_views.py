"""A service of a Swarm is one container to everything that decides about containers."""

from __future__ import annotations

from typing import Any

import pytest

from agent.domain.container import CONFIG_HASH, KEPT_PREFIX, SWARM_TASK, TaskOnNode
from agent.domain.swarm import views
from agent.domain.swarm.model import (
    EVICTED,
    OURS,
    STACK,
    Mode,
    SwarmNode,
    SwarmService,
    SwarmTask,
)

STACKS = "/var/lib/commitd/repo/stacks"

NODES = [
    SwarmNode(
        id=each,
        hostname=f"node-{each}",
        role="manager",
        availability="active",
        state="ready",
        leads=each == "n",
        engine="28.5.2",
    )
    for each in ("n", "m")
]


def service(
    name: str = "web_app",
    *,
    mode: Mode = "replicated",
    wanted: int | None = 2,
    labels: dict[str, str] | None = None,
    condition: str = "any",
    image: str = "a",
) -> SwarmService:
    return SwarmService(
        id=f"id-{name}",
        name=name,
        version=7,
        labels={STACK: "web", OURS: "web"} if labels is None else labels,
        image=image,
        mode=mode,
        wanted=wanted,
        created=100.0,
        updated=200.0,
        update=None,
        update_message="",
        configs=frozenset(),
        secrets=frozenset(),
        networks=frozenset(),
        spec={
            "Name": name,
            "TaskTemplate": {
                "ForceUpdate": 0,
                "ContainerSpec": {"Image": image},
                "RestartPolicy": {"Condition": condition},
            },
        },
    )


def task(state: str, *, desired: str = "running", **other: Any) -> SwarmTask:
    given: dict[str, Any] = {
        "id": "t",
        "service_id": "id-web_app",
        "node_id": "n",
        "slot": 1,
        "error": "",
        "exit_code": None,
        "at": 300.0,
        "created": 250.0,
        "container_id": "c",
        "spec": {},
    }
    return SwarmTask(desired=desired, state=state, **{**given, **other})


def _state(one: SwarmService, *tasks: SwarmTask) -> tuple[str, int | None, str | None]:
    [found] = views.containers([one], tasks, NODES, stacks_dir=STACKS, salt="s")
    return found.state, found.exit_code, found.health


RUNS, FAILED = task("running"), task("failed", desired="shutdown", error="task: exited with 3")
ENDED = task("complete", desired="shutdown", exit_code=0)


@pytest.mark.parametrize(
    ("one", "tasks", "state"),
    [
        (service(), [RUNS, RUNS], ("running", None, None)),
        (service(wanted=0), [], ("running", None, None)),
        (service(), [RUNS, task("preparing")], ("running", None, "starting")),
        (service(), [RUNS, FAILED, task("starting")], ("restarting", None, None)),
        (service(), [RUNS, task("pending", error="no suitable node")], ("restarting", None, None)),
        (service(), [RUNS], ("restarting", None, None)),
        (service(mode="global", wanted=None), [RUNS, RUNS, RUNS], ("running", None, None)),
        (service(mode="global", wanted=None), [RUNS, FAILED], ("running", None, None)),
        (service(mode="replicated-job", wanted=1), [ENDED], ("exited", 0, None)),
        (service(mode="replicated-job", wanted=1), [task("running", desired="complete")],
         ("running", None, None)),
        (service(mode="global-job", wanted=None), [task("complete", desired="complete")],
         ("exited", 0, None)),
        (service(wanted=1, condition="none"), [ENDED], ("exited", 0, None)),
        (service(wanted=1, condition="on-failure"), [task("failed", desired="shutdown",
         exit_code=3)], ("exited", 3, None)),
        (service(wanted=1), [ENDED], ("restarting", None, None)),
    ],
)  # fmt: skip
def test_its_state_is_what_its_tasks_do(
    one: SwarmService, tasks: list[SwarmTask], state: tuple[str, int | None, str | None]
) -> None:
    assert _state(one, *tasks) == state


def test_tasks_of_others_and_failures_before_the_last_update_do_not_count() -> None:
    other = task("failed", desired="shutdown", service_id="id-other")
    before = task("failed", desired="shutdown", created=150.0)
    assert _state(service(), RUNS, other, before, task("starting")) == ("running", None, "starting")


def test_its_hash_changes_with_all_that_anybody_changes_of_it() -> None:
    spec = service().spec
    template = spec["TaskTemplate"]
    again = {**spec, "TaskTemplate": {**template, "ForceUpdate": 3}}
    assert views.spec_hash(spec, "s") == views.spec_hash(again, "s")
    assert views.spec_hash(spec, "s") != views.spec_hash(spec, "another salt")
    for other in (
        {**spec, "Labels": {"a": "b"}},
        {**spec, "Mode": {"Replicated": {"Replicas": 9}}},
        {**spec, "TaskTemplate": {**template, "ContainerSpec": {"Image": "b"}}},
    ):
        assert views.spec_hash(spec, "s") != views.spec_hash(other, "s")


def test_it_is_of_its_stack_and_from_here_only_if_the_agent_made_it() -> None:
    [own] = views.containers([service()], [], NODES, stacks_dir=STACKS, salt="s")
    assert (own.project, own.service, own.name) == ("web", "app", "web_app")
    assert own.labels["com.docker.compose.project.working_dir"] == f"{STACKS}/web"
    [by_hand] = views.containers(
        [service(labels={STACK: "web"})], [], NODES, stacks_dir=STACKS, salt="s"
    )
    assert (by_hand.project, by_hand.service) == ("web", "app")
    assert "com.docker.compose.project.working_dir" not in by_hand.labels


def test_labels_of_containers_say_nothing_on_a_service() -> None:
    labels = {
        "com.docker.compose.project": "web",
        "com.docker.compose.service": "app",
        "com.docker.compose.oneoff": "True",
        "com.docker.compose.project.working_dir": f"{STACKS}/web",
        SWARM_TASK: "x",
        "mine": "yes",
    }
    [found] = views.containers(
        [service("x", labels=labels)], [], NODES, stacks_dir=STACKS, salt="s"
    )
    assert (found.project, found.service, found.one_off) == (None, None, False)
    assert found.labels.keys() == {"mine", CONFIG_HASH}


def test_one_that_was_evicted_is_shown_as_kept_and_stopped() -> None:
    kept = service(wanted=0, labels={STACK: "web", EVICTED: "{}"})
    [found] = views.containers([kept], [], NODES, stacks_dir=STACKS, salt="s")
    assert found.name == f"{KEPT_PREFIX}web_app"
    assert found.kept
    assert not found.alive


def test_the_hash_is_the_same_whatever_unset_fields_a_managers_engine_writes_down() -> None:
    """As Docker 20.10 and 28 write the same service, both seen in one Swarm."""
    older = {"Privileges": {"CredentialSpec": None, "SELinuxContext": None}, "Image": "a"}
    newer = {"Privileges": {"CredentialSpec": None, "NoNewPrivileges": False}, "Image": "a"}
    limited = {**newer, "Privileges": {"NoNewPrivileges": True}}

    def hashed(container: dict[str, Any], replicas: int | None) -> str:
        mode = {"Global": {}} if replicas is None else {"Replicated": {"Replicas": replicas}}
        spec = {"TaskTemplate": {"ContainerSpec": container}, "Mode": mode}
        return views.spec_hash(spec, "s")

    assert hashed(older, 1) == hashed(newer, 1)
    others = {hashed(newer, 1), hashed(newer, 0), hashed(newer, None), hashed(limited, 1)}
    assert len(others) == 4


def test_its_tasks_of_now_are_shown_by_the_names_of_their_nodes() -> None:
    there = [RUNS, task("running", node_id="m"), FAILED, task("pending", node_id="")]
    [found] = views.containers([service(wanted=3)], there, NODES, stacks_dir=STACKS, salt="s")
    assert found.tasks == (
        TaskOnNode(node=None, state="pending"),
        TaskOnNode(node="node-m", state="running"),
        TaskOnNode(node="node-n", state="running"),
    )
    job = service(mode="replicated-job", wanted=1)
    [done] = views.containers([job], [ENDED], NODES, stacks_dir=STACKS, salt="s")
    assert done.tasks == (TaskOnNode(node="node-n", state="complete"),)

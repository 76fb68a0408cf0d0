"""Whether a stack on a Swarm is healthy, over what real Swarms listed."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from agent.domain.outcome import Reason
from agent.domain.swarm import course as courses
from agent.domain.swarm import health, patience, places
from agent.domain.swarm.course import Course
from agent.domain.swarm.finding import Finding
from agent.domain.swarm.places import At, Place
from tests.unit import swarm_looks
from tests.unit.swarm_looks import judged

_HEALTHY = (
    "first",
    "unchanged",
    "rolled",
    "placement-only",
    "global",
    "scale-0",
    "exit0-none",
    "job",
    "job-again",
    "global-job",
    "rich",
    "rich-28",
    "port-only",
    "port-rolled",
    "update-while-down",
)
_FAILED = {
    "no-image": (Reason.NO_IMAGE, "No such image: registry.lan/idle:1.0@sha256:000"),
    "no-image-continue": (Reason.NO_IMAGE, "No such image"),
    "no-image-pause": (Reason.PAUSED, "the Swarm has paused its update: No such image"),
    "no-image-rollback": (Reason.SWARM_BACK, "the Swarm rolled its update back: No such image"),
    "one-node-lacks-image": (Reason.NO_IMAGE, "(on node2)"),
    "crash": (Reason.CRASH_LOOP, "(3 times): task: non-zero exit (3)"),
    "crash-late": (Reason.CRASH_LOOP, "task: non-zero exit (3)"),
    "crash-none": (Reason.TASK_ENDED, "task: non-zero exit (3)"),
    "crash-pause": (Reason.PAUSED, "task: non-zero exit (3)"),
    "crash-rollback": (Reason.SWARM_BACK, "task: non-zero exit (3)"),
    "crash-rollback-28": (Reason.SWARM_BACK, "task: non-zero exit (3)"),
    "exit0-any": (Reason.CRASH_LOOP, "it has ended with 0"),
    "sick": (Reason.TASK_UNHEALTHY, "unhealthy container"),
    "no-mount": (Reason.REJECTED, "bind source path does not exist: /nonexistent/x"),
    "no-node": (Reason.NO_NODE, "scheduling constraints not satisfied on 1 node"),
    "port-taken": (Reason.NO_NODE, "host-mode port already in use on 1 node"),
    "global-no-node": (Reason.NO_NODE, "none of 1 nodes is active and fits it"),
    "job-failed": (Reason.TASK_ENDED, "task: non-zero exit (3)"),
    "global-job-failed": (Reason.TASK_ENDED, "task: non-zero exit (3)"),
}
_BY_HAND = {"by-hand": "changed it", "rolled-back-by-hand": "rolled it back"}
_PASSING = {
    "no-image",
    "no-image-continue",
    "one-node-lacks-image",
    "no-node",
    "port-taken",
    "global-no-node",
}
"""What lies with the nodes or a registry, not with the files."""


def _final(name: str, ends: float | None = None) -> Finding:
    return next(found[0] for _, found in judged(name, ends=ends) if found and found[0].final)


@pytest.mark.parametrize("name", _HEALTHY)
def test_what_runs_as_it_was_deployed_is_healthy_and_nothing_is_final_before(name: str) -> None:
    looks = judged(name, ends=20.0)
    assert looks[-1][1] == []
    assert looks[0][1] != [] or name == "update-while-down"
    assert not [found for _, found in looks if found and (found[0].final or found[0].outside)]


@pytest.mark.parametrize("name", _FAILED)
def test_what_does_not_run_fails_for_its_own_reason_with_the_task_s_own_words(name: str) -> None:
    if name == "one-node-lacks-image":  # one look: four tasks were refused on each place by then
        found = judged(name, ends=20.0)[0][1]
        assert {each.reason for each in found} == {Reason.NO_IMAGE}
        assert _FAILED[name][1] in str(found[0])
        return
    finding = _final(name, ends=40.0)
    reason, words = _FAILED[name]
    assert finding.reason is reason
    assert words in str(finding)
    assert finding.passing == (name in _PASSING)


@pytest.mark.parametrize("name", _BY_HAND)
def test_what_somebody_changes_meanwhile_is_no_fault_of_the_release(name: str) -> None:
    found = [
        found[0] for _, found in judged(name) if found and (found[0].final or found[0].outside)
    ]
    assert found
    assert all(finding.outside and not finding.final for finding in found)
    assert _BY_HAND[name] in str(found[0])


def test_every_recording_is_looked_at() -> None:
    assert {*_HEALTHY, *_FAILED, *_BY_HAND, "node-down"} == set(swarm_looks.names())


def test_a_crash_is_not_final_before_it_has_gone_on_for_a_while() -> None:
    looks = judged("crash", steady_s=3.0)
    assert not any(finding.final for _, found in looks for finding in found)
    assert any("a task has failed (4 times)" in str(found[0]) for _, found in looks if found)


def test_a_port_that_the_older_task_still_has_is_waited_for() -> None:
    waits = [found[0] for _, found in judged("port-rolled") if found and found[0].error]
    assert "host-mode port already in use" in str(waits[0])
    assert waits[0].reason is None


def test_a_status_of_before_the_deploy_is_not_taken_for_one_of_it() -> None:
    raw = swarm_looks.read("crash-pause")
    look = [*swarm_looks.looks(raw)][-1]
    _, found = health.judge(Course(began=raw["wall"] + 3600.0), raw["images"], look, 1.0)
    assert [finding.reason for finding in found] == [None]
    _, found = health.judge(Course(began=raw["began"]), raw["images"], look, 1.0)
    assert found[0].reason is Reason.PAUSED


def test_tasks_of_a_node_that_is_down_are_nobody_s_fault() -> None:
    """Its place of a replicated service is taken on another node, that of a global one is none."""
    raw = swarm_looks.read("node-down")
    look = next(swarm_looks.looks(raw))
    _, found = health.judge(Course(began=look.wall - 1.0), raw["images"], look, 1.0)
    assert found == []


def test_a_job_that_ended_well_before_has_to_do_it_again() -> None:
    raw = swarm_looks.read("job-again")
    look = next(swarm_looks.looks(raw))
    before = [task for task in look.tasks if task.iteration == 0]
    assert [task.state for task in before] == ["complete"]
    late = replace(look, tasks=before, wall=look.wall + 60.0)
    _, found = health.judge(Course(began=raw["began"]), raw["images"], late, 1.0)
    assert str(found[0]) == "web: 0 of 1 tasks have ended well"
    assert judged("job-again")[-1][1] == []


def test_tasks_of_an_older_spec_do_not_count_though_the_swarm_says_nothing_yet() -> None:
    raw = swarm_looks.read("rolled")
    look = next(swarm_looks.looks(raw))
    older = [replace(task, desired="running") for task in look.tasks if task.state == "running"]
    assert len(older) == 2
    quiet = [replace(each, update=None, updated=0.0) for each in look.services]
    late = replace(look, services=quiet, tasks=older)
    _, found = health.judge(Course(began=raw["began"]), raw["images"], late, 1.0)
    assert str(found[0]) == "web: 0 of 2 tasks run"


def test_a_task_that_fitted_no_node_and_is_given_up_does_not_hide_the_one_before() -> None:
    raw = swarm_looks.read("first")
    *_, last = swarm_looks.looks(raw)
    runs = next(task for task in last.tasks if task.state == "running")
    placed = {**runs.spec, "Placement": {"Constraints": ["node.labels.disk == ssd"]}}
    given_up = replace(
        runs,
        id="later",
        node_id="",
        desired="shutdown",
        state="shutdown",
        created=runs.created + 9,
        spec=placed,
    )
    service = next(each for each in last.services if each.id == runs.service_id)
    place = places.name(service, runs)
    found = places.of(service, [*last.tasks, given_up])
    assert [each for each in found if places.name(service, each.task) == place] == [
        Place(At.RUNS, runs)
    ]


def test_failures_are_counted_although_the_swarm_forgets_the_tasks() -> None:
    raw = swarm_looks.read("no-mount")
    course = Course(began=raw["began"])
    for look in swarm_looks.looks(raw):
        few = sorted(look.tasks, key=lambda task: task.created)[-2:]
        course = courses.follow(course, replace(look, tasks=few))
    assert max(each.count for each in course.failures.values()) >= 3
    assert len(course.counted) <= 2


def test_a_stack_may_take_as_long_as_its_updates_declare() -> None:
    second = 1_000_000_000
    check = {"Test": ["CMD", "x"], "Interval": 10 * second, "Timeout": second, "Retries": 3}
    spec = {
        "UpdateConfig": {"Parallelism": 2, "Delay": 30 * second, "Monitor": 5 * second},
        "TaskTemplate": {"ContainerSpec": {"Healthcheck": check, "StopGracePeriod": 7 * second}},
    }
    look = next(swarm_looks.looks(swarm_looks.read("first")))
    service = replace(look.services[0], spec=spec, wanted=5)
    assert patience.limit_s([service], 2, 60.0) == 3 * (33.0 + 7.0 + 30.0)
    assert patience.limit_s([service], 2, 600.0) == 600.0
    everywhere = replace(service, wanted=None, spec={"Mode": {"Global": {}}})
    assert patience.limit_s([everywhere], 20, 60.0) == 20 * (10.0 + 5.0)
    assert patience.limit_s([], 2, 60.0) == 60.0


def test_what_is_late_keeps_its_reason_or_says_that_it_is_late() -> None:
    late = patience.overdue(Finding(service="web", said="0 of 1 tasks run"), 60.0)
    assert (late.final, late.reason) == (True, Reason.TIMEOUT)
    assert str(late) == "web: 0 of 1 tasks run after 60 s"
    stuck = Finding(service="web", said="0 of 1 tasks run", reason=Reason.NO_NODE, passing=True)
    assert patience.overdue(stuck, 60.0).reason is Reason.NO_NODE


def test_recordings_hold_nothing_of_a_real_machine() -> None:
    text = json.dumps([swarm_looks.read(name) for name in swarm_looks.names()])
    assert "BEGIN CERTIFICATE" not in text

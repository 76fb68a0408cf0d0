"""What a Swarm cannot run as declared fails for a reason of its own, and goes back."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.images import Layer
from tests.sandbox.process import wait_until
from tests.sandbox.swarm import stack_file

if TYPE_CHECKING:
    from tests.sandbox import Swarm
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

_NOWHERE = {"placement": {"constraints": ["node.labels.disk == ssd"]}}
_WORDS = "echo the database is away; sleep 0.2; exit 3"


def _deploy(fleet: Fleet, services: dict[str, dict[str, Any]], **more: str | bytes) -> None:
    files: dict[str, str | bytes | None] = dict(more)
    fleet.commit("next", {**files, "stacks/web/compose.yaml": stack_file(services)})


def _states(swarm: Swarm, service: str) -> set[str]:
    return {task["Status"]["State"] for task in swarm.tasks(service, running=False)}


def _rolled_back(host: Host) -> dict[str, Any]:
    """What the history says of the newest action, which went back."""
    back, failed, *_ = host.json("history", "web")
    assert (failed["action"], failed["status"]) == ("deploy", "failed")
    assert (back["action"], back["status"]) == ("rollback", "succeeded")
    found: dict[str, Any] = back
    return found


@pytest.mark.parametrize(
    ("action", "reason", "said"),
    [
        ("pause", "update-paused", "the Swarm has paused its update"),
        ("rollback", "swarm-rolled-back", "the Swarm rolled its update back"),
        ("continue", "crash-loop", "a task has failed (3 times)"),
    ],
)
def test_what_crashes_goes_back_and_says_what_the_swarm_made_of_it(
    fleet: Fleet, swarm: Swarm, action: str, reason: str, said: str
) -> None:
    bad = fleet.box.images.build("bad", "1.0", command=_WORDS)
    update = {"failure_action": action, "monitor": "5s"}  # a busy machine sees the crash late
    app = {"image": fleet.idle, "deploy": {"update_config": update}}
    host = fleet.managed({"web": stack_file({"app": app, "api": {"image": fleet.idle}})})
    before = swarm.task_ids()
    _deploy(fleet, {"app": {**app, "image": bad}, "api": {"image": fleet.idle}})
    result = host.once()
    assert result.returncode != 0
    back = _rolled_back(host)
    assert back["reason"] == reason
    assert f"app: {said}" in back["message"]
    assert "task: non-zero exit (3)" in back["message"]
    assert "its last words: the database is away" in back["message"]
    assert swarm.images()["web_app"] == {fleet.idle}
    assert swarm.task_ids()["web_api"] == before["web_api"]
    [stack] = host.json("status")["stacks"]
    assert (stack["sync"], stack["reason"]) == ("failed", "release-unhealthy")


def test_an_image_that_no_node_gets_goes_back_with_what_the_task_says(
    fleet: Fleet, swarm: Swarm
) -> None:
    app = {"image": fleet.idle, "deploy": {"update_config": {"failure_action": "continue"}}}
    host = fleet.managed({"web": stack_file({"app": app})})
    missing = _torn(fleet)
    _deploy(fleet, {"app": {**app, "image": missing}})
    assert host.once().returncode != 0
    back = _rolled_back(host)
    assert back["reason"] == "image-not-found"
    assert f"No such image: {missing[:30]}" in back["message"]
    assert swarm.images()["web_app"] == {fleet.idle}


def test_what_fits_no_node_is_tried_again_until_one_is_there(fleet: Fleet, swarm: Swarm) -> None:
    files = {"web": stack_file({"app": {"image": fleet.idle, "deploy": _NOWHERE}})}
    fleet.commit(
        "first", {"host/prod/stacks.yaml": "- web\n", "stacks/web/compose.yaml": files["web"]}
    )
    host = fleet.manager()
    assert host.once().returncode != 0
    [failed] = host.json("history", "web")
    assert "no suitable node (scheduling constraints not satisfied on 1 node)" in failed["error"]
    [stack] = host.json("status")["stacks"]
    assert stack["reason"] == "retry-pending"
    [node] = swarm.nodes().values()
    labelled = {**node["Spec"], "Labels": {"disk": "ssd"}}
    path = f"/nodes/{node['ID']}/update?version={node['Version']['Index']}"
    swarm.engine.api("POST", path, labelled)
    try:
        swarm.wait_for({"web_app": 1})
        wait_until(lambda: host.once().returncode == 0, what="the next try")
    finally:
        [node] = swarm.nodes().values()
        path = f"/nodes/{node['ID']}/update?version={node['Version']['Index']}"
        swarm.engine.api("POST", path, {**node["Spec"], "Labels": {}})


def test_a_constraint_that_no_node_met_is_taken_back_while_all_runs_on(
    fleet: Fleet, swarm: Swarm
) -> None:
    app = {"image": fleet.idle, "deploy": {"replicas": 2}}
    host = fleet.managed({"web": stack_file({"app": app})})
    before = swarm.task_ids()
    update = {"order": "start-first"}
    _deploy(fleet, {"app": {**app, "deploy": {"replicas": 2, "update_config": update, **_NOWHERE}}})
    assert host.once().returncode == 1
    assert "no suitable node" in host.json("history", "web")[0]["error"]
    _deploy(fleet, {"app": app})
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    assert swarm.task_ids() == before


def test_a_newer_commit_ends_the_wait_for_an_older_one(fleet: Fleet, swarm: Swarm) -> None:
    check = {"test": ["CMD", "test", "-e", "/never"], "interval": "1s", "retries": 600}
    host = fleet.managed({"web": stack_file({"app": {"image": fleet.idle}})})
    with host.running() as agent:
        agent.says("in sync with")
        _deploy(fleet, {"app": {"image": fleet.idle, "healthcheck": check}})
        wait_until(
            lambda: "starting" in _states(swarm, "web_app"), what="a task that is not healthy yet"
        )
        fleet.commit(
            "newer", {"stacks/web/compose.yaml": stack_file({"app": {"image": fleet.web}})}
        )
        agent.says("superseded by a newer commit, while app: 0 of 1 tasks run")
        wait_until(lambda: swarm.images()["web_app"] == {fleet.web}, what="the newer one to run")
    ends = [(each["action"], each["status"]) for each in host.json("history", "web")]
    assert ("deploy", "cancelled") in ends
    assert "rollback" not in {action for action, _ in ends}


def test_a_health_check_that_fails_goes_back(fleet: Fleet, swarm: Swarm) -> None:
    sick = fleet.box.images.build("sick", "1.0", healthcheck="exit 1")
    app = {"image": fleet.idle}
    host = fleet.managed({"web": stack_file({"app": app})})
    _deploy(fleet, {"app": {"image": sick}})
    assert host.once().returncode != 0
    back = _rolled_back(host)
    assert "unhealthy container" in back["message"]
    assert swarm.images()["web_app"] == {fleet.idle}


def test_what_is_to_end_is_healthy_once_it_has_and_fails_if_it_does_not_end_well(
    fleet: Fleet, swarm: Swarm
) -> None:
    """Stack files of docker 20.10 know no jobs: ``tests/unit/test_swarm_health.py`` has them."""
    once = {"condition": "none"}
    deploy = {"restart_policy": once, "update_config": {"failure_action": "continue"}}
    well = fleet.box.images.build("job", "1.0", command="sleep 0.3")
    bad = fleet.box.images.build("bad", "1.0", command=_WORDS)
    host = fleet.managed({"web": stack_file({"job": {"image": well, "deploy": deploy}})})
    assert {task["Status"]["State"] for task in swarm.tasks("web_job", running=False)} == {
        "complete"
    }
    _deploy(fleet, {"job": {"image": bad, "deploy": deploy}})
    assert host.once().returncode != 0
    back = _rolled_back(host)
    assert back["reason"] == "task-failed"
    assert "job: a task has failed, and none follows: task: non-zero exit (3)" in back["message"]


@pytest.mark.usefixtures("swarm")
def test_no_secret_shows_in_what_is_said_of_a_task(fleet: Fleet) -> None:
    tells = fleet.box.images.build("tells", "1.0", command='echo "it is $TOKEN"; exit 3')
    app = {"image": fleet.idle, "environment": {"TOKEN": "${TOKEN}"}}
    secret = fleet.box.encrypt("TOKEN=correct-horse-battery\n")
    fleet.commit(
        "first",
        {
            "host/prod/stacks.yaml": "- web\n",
            "stacks/web/compose.yaml": stack_file({"app": app}),
            "stacks/web/app.secret.env": secret,
        },
    )
    host = fleet.manager()
    first = host.once()
    assert first.returncode == 0, first.stdout + first.stderr
    _deploy(fleet, {"app": {**app, "image": tells}})
    result = host.once()
    assert result.returncode != 0
    back = _rolled_back(host)
    assert "its last words may hold a secret" in back["message"]
    _deploy(fleet, {"app": {**app, "command": ["/bin/${TOKEN}"]}})
    again = host.once()
    assert again.returncode != 0
    shown = [result.stdout, result.stderr, again.stdout, again.stderr]
    shown += [str(host.json("history")), str(host.json("status"))]
    assert "[redacted]" in host.json("history", "web")[0]["message"]
    assert not [text for text in shown if "correct-horse-battery" in text]


def _torn(fleet: Fleet) -> str:
    """An image that its registry tells of, and of which it has lost a part."""
    files = {"torn": "by nobody"}
    image = fleet.box.images.build("torn", "1.0", files=files)
    content = {name: text.encode() for name, text in files.items()}
    digest = hashlib.sha256(Layer(content).packed).hexdigest()
    blobs = fleet.box.root / "registry" / "data" / "docker" / "registry" / "v2" / "blobs" / "sha256"
    (blobs / digest[:2] / digest / "data").unlink()
    return image

"""Stacks of a Swarm are brought to what is declared, by the agent of its manager."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.sandbox.swarm import stack_file

if TYPE_CHECKING:
    from tests.sandbox import Swarm
    from tests.system.conftest import Fleet


def test_a_stack_is_deployed_and_deployed_once(fleet: Fleet, swarm: Swarm) -> None:
    sha = fleet.commit(
        "first",
        {
            "host/prod/stacks.yaml": "- web\n",
            "stacks/web/compose.yaml": stack_file(
                {
                    "app": {"image": fleet.idle, "deploy": {"replicas": 2}},
                    "api": {"image": fleet.web},
                }
            ),
        },
    )
    host = fleet.manager()
    result = host.once()
    assert result.returncode == 0, result.stderr + result.stdout
    assert f"in sync with {sha[:7]}" in result.stdout
    swarm.wait_for({"web_app": 2, "web_api": 1})
    before, history = swarm.services(), host.json("history")
    assert [(each["action"], each["status"]) for each in host.json("history", "web")] == [
        ("deploy", "succeeded")
    ]
    assert host.once().returncode == 0
    assert swarm.services() == before
    assert host.json("history") == history


def test_a_new_image_rolls_its_service_and_no_other(fleet: Fleet, swarm: Swarm) -> None:
    services = {"app": {"image": fleet.idle}, "api": {"image": fleet.web}}
    fleet.commit(
        "first",
        {
            "host/prod/stacks.yaml": "- web\n",
            "stacks/web/compose.yaml": stack_file(services),
        },
    )
    host = fleet.manager()
    assert host.once().returncode == 0
    before = swarm.task_ids()
    fleet.commit(
        "new",
        {"stacks/web/compose.yaml": stack_file({**services, "api": {"image": fleet.web2}})},
    )
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    after = swarm.task_ids()
    assert after["web_app"] == before["web_app"]
    assert after["web_api"].isdisjoint(before["web_api"])
    assert swarm.images()["web_api"] == {fleet.web2}


def test_an_image_that_ends_at_once_goes_back(fleet: Fleet, swarm: Swarm) -> None:
    bad = fleet.box.images.build("bad", "1.0", command="exit 3")
    services = {"app": {"image": fleet.idle}, "api": {"image": fleet.web}}
    first = fleet.commit(
        "first",
        {
            "host/prod/stacks.yaml": "- web\n",
            "stacks/web/compose.yaml": stack_file(services),
        },
    )
    host = fleet.manager()
    assert host.once().returncode == 0
    before = swarm.task_ids()
    fleet.commit(
        "bad", {"stacks/web/compose.yaml": stack_file({**services, "api": {"image": bad}})}
    )
    assert host.once().returncode != 0
    assert swarm.images()["web_api"] == {fleet.web}
    assert swarm.task_ids()["web_app"] == before["web_app"]
    [back, failed, *_] = host.json("history", "web")
    assert (failed["action"], failed["status"]) == ("deploy", "failed")
    assert (back["action"], back["status"]) == ("rollback", "succeeded")
    assert back["revision"] == first
    host.once()  # which does not try it again
    assert [each["action"] for each in host.json("history", "web")].count("deploy") == 2
    assert swarm.task_ids()["web_app"] == before["web_app"]

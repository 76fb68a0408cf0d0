"""Stacks of a Swarm are brought to what is declared, by the agent of its manager."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.process import wait_until
from tests.sandbox.swarm import stack_file
from tests.system import registries

if TYPE_CHECKING:
    from pathlib import Path

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


def test_what_somebody_changes_of_a_service_is_put_right(fleet: Fleet, swarm: Swarm) -> None:
    other = fleet.box.images.build("idle", "2.0", files={"other": ""})
    services: dict[str, dict[str, Any]] = {
        "app": {"image": fleet.idle, "environment": {"A": "1"}},
        "api": {"image": fleet.idle},
    }
    host = fleet.managed({"web": stack_file(services)})
    before = swarm.services()

    def changed(spec: dict[str, Any]) -> None:
        spec["TaskTemplate"]["ContainerSpec"] |= {"Image": other, "Env": ["A=2"]}

    swarm.scale("web_app", 3)
    swarm.update("web_api", changed)
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    after = swarm.services()
    assert {name: each["Spec"] for name, each in after.items()} == {
        name: each["Spec"] for name, each in before.items()
    }
    swarm.wait_for({"web_app": 1, "web_api": 1})
    [repair, _] = host.json("history", "web")
    assert (repair["action"], repair["reason"]) == ("restart", "drifted")
    assert {(each["kind"], each["service"]) for each in repair["cause"]} >= {
        ("config-hash", "app"),
        ("config-hash", "api"),
    }


def test_a_service_that_somebody_removes_comes_back(fleet: Fleet, swarm: Swarm) -> None:
    services = {"app": {"image": fleet.idle}, "api": {"image": fleet.idle}}
    host = fleet.managed({"web": stack_file(services)})
    before = swarm.task_ids()
    swarm.engine.run("service", "rm", "web_api")
    assert host.once().returncode == 0
    swarm.wait_for({"web_app": 1, "web_api": 1})
    assert swarm.task_ids()["web_app"] == before["web_app"]


def test_a_service_that_left_goes_once_the_rest_is_healthy(fleet: Fleet, swarm: Swarm) -> None:
    services = {"app": {"image": fleet.idle}, "api": {"image": fleet.web}}
    host = fleet.managed({"web": stack_file(services)})
    bad = fleet.box.images.build("bad", "1.0", command="exit 3")
    fleet.commit("bad", {"stacks/web/compose.yaml": stack_file({"app": {"image": bad}})})
    assert host.once().returncode != 0
    assert swarm.services().keys() == {"web_app", "web_api"}
    fleet.commit("less", {"stacks/web/compose.yaml": stack_file({"app": {"image": fleet.idle}})})
    assert host.once().returncode == 0
    assert swarm.services().keys() == {"web_app"}
    [left] = host.json("history", "web_api")
    assert (left["action"], left["reason"]) == ("evict", "service-not-declared")


def test_a_stack_that_left_the_list_is_removed(fleet: Fleet, swarm: Swarm) -> None:
    one = stack_file({"app": {"image": fleet.idle}})
    host = fleet.managed({"web": one, "api": one})
    sha = fleet.commit("less", {"host/prod/stacks.yaml": "- web\n"})
    assert host.once().returncode == 0
    assert swarm.services().keys() == {"web_app"}
    newest = host.json("history", "api")[0]
    assert (newest["action"], newest["revision"]) == ("remove-stack", sha)


def test_stacks_come_after_others_and_wait_for_them(fleet: Fleet, swarm: Swarm) -> None:
    bad = fleet.box.images.build("bad", "1.0", command="exit 3")
    last = stack_file({"app": {"image": fleet.idle}}, **{"x-commitd": {"after": ["first"]}})
    fleet.commit(
        "both",
        {
            "host/prod/stacks.yaml": "- last\n- first\n",
            "stacks/first/compose.yaml": stack_file({"app": {"image": bad}}),
            "stacks/last/compose.yaml": last,
        },
    )
    host = fleet.manager()
    host.once()
    assert swarm.services().keys() == {"first_app"}
    fleet.commit("good", {"stacks/first/compose.yaml": stack_file({"app": {"image": fleet.idle}})})
    assert host.once().returncode == 0
    swarm.wait_for({"first_app": 1, "last_app": 1})


def test_a_suspended_stack_is_left_alone(fleet: Fleet, swarm: Swarm) -> None:
    host = fleet.managed({"web": stack_file({"app": {"image": fleet.idle}})})
    host.commitd("suspend", "web", check=True)
    swarm.scale("web_app", 2)
    host.once()
    swarm.wait_for({"web_app": 2})
    host.commitd("resume", "web", check=True)
    assert host.once().returncode == 0
    swarm.wait_for({"web_app": 1})


def test_configs_and_secrets_reach_their_services(fleet: Fleet, swarm: Swarm) -> None:
    box = fleet.box
    compose = stack_file(
        {"app": {"image": fleet.idle, "configs": ["setting"], "secrets": ["word"],
                 "environment": {"TOKEN": "${TOKEN}"}}},
        configs={"setting": {"file": "./setting.txt"}},
        secrets={"word": {"file": "./.decrypted.word.secret.txt"}},
    )  # fmt: skip
    fleet.commit(
        "first",
        {
            "host/prod/stacks.yaml": "- web\n",
            "stacks/web/compose.yaml": compose,
            "stacks/web/setting.txt": "one\n",
            "stacks/web/web.secret.env": box.encrypt("TOKEN=correct-horse\n"),
            "stacks/web/word.secret.txt": box.encrypt(b"battery staple\n", kind="binary"),
        },
    )
    host = fleet.manager()
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    [app] = fleet.box.engine.containers(all=False)
    read = "cat /setting; cat /run/secrets/word; echo $TOKEN"
    said = swarm.engine.run("exec", app["Id"], "sh", "-c", read)
    assert said.split("\n")[:3] == ["one", "battery staple", "correct-horse"]
    assert "battery" not in result.stderr


def test_a_newer_commit_ends_the_wait_for_health(fleet: Fleet, swarm: Swarm) -> None:
    fleet.commit(
        "never well",
        {
            "host/prod/stacks.yaml": "- web\n",
            "stacks/web/compose.yaml": stack_file({"app": _never_well(fleet)}),
        },
    )
    with fleet.manager().running() as agent:
        wait_until(lambda: "web_app" in swarm.services(), what="the service")
        services = {"app": {"image": fleet.idle}}
        sha = fleet.commit("well", {"stacks/web/compose.yaml": stack_file(services)})
        agent.says(f"in sync with {sha[:7]}")
        assert "superseded by a newer commit" in agent.log
    assert swarm.images() == {"web_app": {fleet.idle}}


def test_a_manager_that_is_stopped_in_the_wait_goes_on_with_it(fleet: Fleet, swarm: Swarm) -> None:
    slow = {"image": fleet.idle, "healthcheck": {"test": "test -e /tmp/well", "interval": "1s",
                                                 "retries": 100}}  # fmt: skip
    sha = fleet.commit(
        "slow",
        {"host/prod/stacks.yaml": "- web\n", "stacks/web/compose.yaml": stack_file({"app": slow})},
    )
    host = fleet.manager()
    with host.running() as agent:
        wait_until(lambda: "web_app" in swarm.services(), what="the service")
        assert agent.end() == 0
    [stopped] = host.json("history", "web")
    assert (stopped["action"], stopped["status"]) == ("deploy", "cancelled")
    wait_until(lambda: bool(fleet.running()), what="its container")
    task = swarm.tasks("web_app", running=False)
    with host.running() as agent:
        agent.says("deploying")
        [container] = fleet.running()
        fleet.box.engine.run("exec", container, "touch", "/tmp/well")
        agent.says(f"in sync with {sha[:7]}")
    assert [each["ID"] for each in swarm.tasks("web_app", running=False)] == [
        each["ID"] for each in task
    ]


def test_in_doubt_about_the_list_nothing_goes_and_what_is_declared_is_deployed(
    fleet: Fleet, swarm: Swarm
) -> None:
    one = stack_file({"app": {"image": fleet.idle}})
    two = stack_file({"app": {"image": fleet.idle}, "api": {"image": fleet.idle}})
    host = fleet.managed({"web": two, "api": one})
    fleet.commit("odd", {"host/prod/stacks.yaml": "- web\n- 7\n", "stacks/web/compose.yaml": one})
    host.once()
    assert swarm.services().keys() == {"web_app", "web_api", "api_app"}
    fleet.commit("even", {"host/prod/stacks.yaml": "- web\n"})
    host.once()
    assert "api_app" not in swarm.services()


def _never_well(fleet: Fleet) -> dict[str, Any]:
    check = {"test": "false", "interval": "1s", "retries": 100}
    return {"image": fleet.idle, "healthcheck": check}


def test_plan_status_and_why_look_at_services(fleet: Fleet, swarm: Swarm) -> None:
    host = fleet.managed({"web": stack_file({"app": {"image": fleet.idle}})})
    assert host.json("plan")["unchanged"] == ["web"]
    [stack] = host.json("status")["stacks"]
    assert (stack["sync"], stack["health"]) == ("synced", "healthy")
    document = host.json("status")
    [node] = document["nodes"]
    assert (node["role"], node["state"], node["leads"]) == ("manager", "ready", True)
    assert stack["services"][0]["tasks"] == [{"node": node["name"], "state": "running"}]
    assert f"app running (1 on {node['name']})" in host.commitd("status", check=True).stdout
    assert f"running, 1 on {node['name']}" in host.commitd("why", "web", check=True).stdout
    swarm.scale("web_app", 2)
    [deploy] = host.json("plan")["deploys"]
    assert (deploy["stack"], deploy["reason"]) == ("web", "drifted")
    assert deploy["cause"][0]["kind"] == "config-hash"
    assert "web" in host.commitd("why", "web", check=True).stdout
    swarm.create("by-hand", fleet.idle)
    assert [each["name"] for each in host.json("plan")["evictions"]] == ["by-hand"]


def test_a_service_that_ended_for_good_is_started_again_and_no_other(
    fleet: Fleet, swarm: Swarm
) -> None:
    ends = fleet.box.images.build("ends", "1.0", command="sleep 3; exit 3")
    never = {"restart_policy": {"condition": "none"}}
    services: dict[str, dict[str, Any]] = {
        "ends": {"image": ends, "deploy": never},
        "app": {"image": fleet.idle},
    }
    host = fleet.managed({"web": stack_file(services)})
    wait_until(lambda: not swarm.task_ids()["web_ends"], what="its task to end")
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    tasks = {name: len(swarm.tasks(f"web_{name}", running=False)) for name in ("ends", "app")}
    assert tasks == {"ends": 2, "app": 1}
    assert host.json("history", "web")[0]["reason"] == "drifted"


def test_a_stack_that_has_nothing_to_run_is_in_sync(fleet: Fleet, swarm: Swarm) -> None:
    host = fleet.managed({"web": stack_file({"app": {"image": fleet.idle}})})
    sha = fleet.commit("off", {"stacks/web/compose.yaml": "services: {}\n"})
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"in sync with {sha[:7]}" in result.stdout
    assert swarm.services() == {}


def test_a_renamed_stack_waits_for_its_data_on_whichever_node(fleet: Fleet, swarm: Swarm) -> None:
    # No task of it was ever here, so this node has no such volume.
    elsewhere = {"image": fleet.idle, "volumes": ["data:/data"], "deploy": {"replicas": 0}}
    stack = stack_file({"app": elsewhere}, volumes={"data": {}})
    host = fleet.managed({"old": stack})
    sha = fleet.commit(
        "rename",
        {
            "host/prod/stacks.yaml": "- new\n",
            "stacks/old/compose.yaml": None,
            "stacks/new/compose.yaml": stack,
        },
    )
    assert host.once().returncode != 0
    assert swarm.services().keys() == {"old_app"}
    said = host.commitd("status").stdout
    assert "the volume old_data" in said
    host.commitd("approve", sha, "--without-data", check=True)
    assert host.once().returncode == 0
    assert swarm.services().keys() == {"new_app"}


def test_what_a_failed_release_added_is_ended_and_comes_back_with_the_next(
    fleet: Fleet, swarm: Swarm
) -> None:
    services: dict[str, dict[str, Any]] = {"app": {"image": fleet.idle}}
    host = fleet.managed({"web": stack_file(services)})
    bad = fleet.box.images.build("bad", "1.0", command="exit 3")
    more = {"app": {"image": bad}, "more": {"image": fleet.idle}}
    fleet.commit("bad", {"stacks/web/compose.yaml": stack_file(more)})
    host.once()  # which brings the older release back
    host.once()

    def running() -> dict[str, int]:
        return {name: len(ids) for name, ids in swarm.task_ids().items()}

    wait_until(lambda: running() == {"web_app": 1, "web_more": 0}, what="what was added to end")
    more["app"] = {"image": fleet.idle}
    fleet.commit("good", {"stacks/web/compose.yaml": stack_file(more)})
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    assert running() == {"web_app": 1, "web_more": 1}
    assert host.json("status")["undeclared"] == []


def test_an_image_that_the_registry_lacks_leaves_what_runs_untouched(
    fleet: Fleet, swarm: Swarm
) -> None:
    host = fleet.managed({"web": stack_file({"app": {"image": fleet.idle}})})
    before = swarm.services(), swarm.task_ids()
    missing = f"{fleet.idle.partition('@')[0]}@sha256:{'0' * 64}"
    fleet.commit("missing", {"stacks/web/compose.yaml": stack_file({"app": {"image": missing}})})
    assert host.once().returncode != 0
    assert (swarm.services(), swarm.task_ids()) == before
    failed = host.json("history", "web")[0]
    assert (failed["action"], failed["status"]) == ("deploy", "failed")
    assert "cannot be pulled" in failed["error"]
    fleet.box.registry.stop()  # which is not asked for what runs already
    fleet.commit("back", {"stacks/web/compose.yaml": stack_file({"app": {"image": fleet.idle}})})
    assert host.once().returncode == 0
    assert swarm.task_ids() == before[1]


@pytest.mark.usefixtures("basic")
def test_nodes_get_the_login_of_the_leader(fleet: Fleet, swarm: Swarm, tmp_path: Path) -> None:
    registry = f"127.0.0.1:{registries.BASIC}"
    address = fleet.box.registry.address
    image = fleet.box.images.build("private", "1.0").replace(address, registry)
    stack = {"stacks/web/compose.yaml": stack_file({"app": {"image": image}})}
    fleet.commit("first", {"host/prod/stacks.yaml": "- web\n", **stack})
    host = fleet.manager()
    result = host.once()
    assert "no basic auth credentials" in result.stdout
    assert swarm.services() == {}
    login = base64.b64encode(f"{registries.USER}:{registries.PASSWORD}".encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry: {"auth": login}}}))
    host.commitd("retry", "web", check=True)
    result = host.commitd("once", DOCKER_CONFIG=str(tmp_path))
    assert result.returncode == 0, result.stdout + result.stderr
    assert swarm.images() == {"web_app": {image}}
    assert registries.PASSWORD not in result.stdout + result.stderr
    swarm.scale("web_app", 0)
    result = host.once()  # as a manager without that login
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"docker login {registry} on each manager" in result.stderr
    swarm.scale("web_app", 0)
    wait_until(lambda: not fleet.box.engine.containers(all=False), what="its task to end")
    identity = swarm.engine.run("image", "inspect", "--format", "{{.Id}}", image).strip()
    fleet.box.engine.remove_containers()
    swarm.engine.run("image", "rm", "--force", identity)
    swarm.scale("web_app", 1)  # which pulls it by the login that the service has
    swarm.wait_for({"web_app": 1})


def test_a_network_that_a_swarm_would_leave_as_it_is_stops_the_deploy(
    fleet: Fleet, swarm: Swarm
) -> None:
    app = {"image": fleet.idle, "networks": ["back"]}
    fixed = {"ipam": {"config": [{"subnet": "10.77.0.0/24"}]}, "driver_opts": {"encrypted": ""}}
    host = fleet.managed({"web": stack_file({"app": app}, networks={"back": fixed})})
    changed = {**app, "environment": {"A": "1"}}
    sha = fleet.commit("seen", {"stacks/web/compose.yaml": stack_file(
        {"app": changed}, networks={"back": {**fixed, "labels": {}}})})  # fmt: skip
    assert host.once().returncode == 0  # the network is as it was
    assert f"in sync with {sha[:7]}" in host.commitd("status").stdout
    before = swarm.services()
    file = stack_file({"app": changed}, networks={"back": {**fixed, "internal": True}})
    sha = fleet.commit("inside", {"stacks/web/compose.yaml": file})
    clone, there = host.git_dir, "+refs/heads/main:refs/commitd/remotes/gitea"
    fleet.workspace.git("--git-dir", clone, "fetch", "--quiet", fleet.box.gitea.path, there)
    [planned] = host.json("plan", "--rev", sha)["deploys"]
    assert "it would be refused: stacks/web/compose.yaml:" in str(planned["notes"])
    assert "internal of the network web_back cannot be changed" in str(planned["notes"])
    assert host.once().returncode != 0
    assert swarm.services() == before
    failed = host.json("history", "web")[0]
    assert (failed["action"], failed["status"]) == ("deploy", "failed")
    assert "internal of the network web_back cannot be changed" in failed["error"]
    assert "stacks/web/compose.yaml:" in failed["error"]
    host.commitd("suspend", "web", check=True)
    swarm.engine.run("stack", "rm", "web")
    wait_until(lambda: not swarm.networks(), what="the network to be removed")
    host.commitd("resume", "web", check=True)
    host.commitd("retry", "web", check=True)
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    assert [each["Internal"] for each in swarm.networks()] == [True]


def test_a_volume_that_was_made_with_something_else_stops_the_deploy(
    fleet: Fleet, swarm: Swarm
) -> None:
    app = {"image": fleet.idle, "volumes": ["data:/data"]}
    host = fleet.managed({"web": stack_file({"app": app}, volumes={"data": {}})})
    before = swarm.services()
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}
    file = stack_file({"app": app}, volumes={"data": {"driver_opts": options}})
    fleet.commit("smaller", {"stacks/web/compose.yaml": file})
    assert host.once().returncode != 0
    assert swarm.services() == before
    error = host.json("history", "web")[0]["error"]
    assert "driver_opts of the volume web_data cannot be changed" in error


def test_another_mode_of_a_service_stops_the_deploy_before_anything_changes(
    fleet: Fleet, swarm: Swarm
) -> None:
    services: dict[str, dict[str, Any]] = {"a": {"image": fleet.idle}, "b": {"image": fleet.idle}}
    host = fleet.managed({"web": stack_file(services)})
    before = swarm.services()
    services = {
        "a": {"image": fleet.web},
        "b": {"image": fleet.idle, "deploy": {"mode": "global"}},
    }
    fleet.commit("on each", {"stacks/web/compose.yaml": stack_file(services)})
    assert host.once().returncode != 0
    assert swarm.services() == before
    host.once()
    deploys = [each for each in host.json("history", "web") if each["action"] == "deploy"]
    assert len(deploys) == 2  # which is not tried again
    assert "web_b is replicated, not global" in deploys[0]["error"]
    swarm.engine.run("service", "rm", "web_b")
    host.commitd("retry", "web", check=True)
    assert host.once().returncode == 0
    swarm.wait_for({"web_a": 1, "web_b": 1})

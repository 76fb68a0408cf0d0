"""What the verbs say of a Swarm is said of services and tasks, and is true."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.sandbox.swarm import stack_file

if TYPE_CHECKING:
    from tests.sandbox import Swarm
    from tests.system.conftest import Fleet

_COMPOSE, _CONF = "stacks/web/compose.yaml", "stacks/web/conf.txt"


def test_diff_says_which_services_get_new_tasks(fleet: Fleet, swarm: Swarm) -> None:
    configs = {"conf": {"file": "./conf.txt"}}

    def web(**app: Any) -> dict[str, str]:
        services = {"app": {"image": fleet.idle, "configs": ["conf"], **app},
                    "side": {"image": fleet.idle}}  # fmt: skip
        return {_COMPOSE: stack_file(services, configs=configs)}

    fleet.workspace.write({_CONF: "one\n"})
    host = fleet.managed({"web": web()[_COMPOSE]})
    before = swarm.task_ids()

    def said() -> str:
        clone = str(fleet.workspace.path)
        return host.commitd("diff", "--dir", clone, "HEAD~1", "HEAD", check=True).stdout

    fleet.commit("three", web(deploy={"replicas": 3}))
    assert "scale app: 3 replicas instead of 1" in said()
    assert host.once().returncode == 0
    assert swarm.task_ids()["web_app"] > before["web_app"]
    fleet.commit("config", {_CONF: "two\n"})
    assert "recreate app: stacks/web/conf.txt changes, so it gets new tasks" in said()
    assert host.once().returncode == 0
    assert not swarm.task_ids()["web_app"] & before["web_app"]
    now = swarm.task_ids()
    fleet.commit("label", web(deploy={"replicas": 3, "labels": {"a": "b"}}))
    assert "update app: its tasks stay" in said()
    assert host.once().returncode == 0
    assert swarm.task_ids() == now


def test_plan_why_and_enroll_speak_of_services(fleet: Fleet, swarm: Swarm) -> None:
    services: dict[str, Any] = {
        "app": {"image": fleet.idle, "deploy": {"replicas": 2}},
        "api": {"image": fleet.idle},
    }
    host = fleet.managed({"web": stack_file(services)})
    assert "warning: no stack" not in host.commitd("check", str(fleet.workspace.path)).stdout
    swarm.scale("web_app", 1)
    swarm.engine.run("service", "rm", "web_api")
    swarm.create("rogue", fleet.idle)
    plan = host.commitd("plan", check=True).stdout
    assert "start api: the service is not there" in plan
    assert "recreate app: its settings are not those of its release" in plan
    assert "web/app containers" not in plan
    assert "evict rogue" in plan
    assert "belongs to no stack" in plan
    assert host.once().returncode == 0
    why = host.commitd("why", "rogue", check=True).stdout
    assert "nobody declared rogue: belongs to no stack" in why
    assert "container" not in why, why
    nothing = host.commitd("why", "nothing").stderr
    assert "no stack, service or container here is called 'nothing'" in nothing
    pages = fleet.box.root / "pages-of-a-swarm"
    host.commitd("page", "--out", str(pages), check=True)
    assert "Undeclared services" in (pages / "index.html").read_text()
    new = fleet.manager(enrolled=False)
    asked = new.commitd("enroll")
    assert "a container" not in asked.stdout + asked.stderr

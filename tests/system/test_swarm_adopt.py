"""Stacks that somebody deployed to a Swarm by hand are taken into the repository."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml

from tests.sandbox.process import run
from tests.sandbox.swarm import stack_file

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox import Swarm
    from tests.system.conftest import Fleet

_PASSWORD = "hunter$2hunter"
_LIMITS = {
    "limits": {"cpus": "0.5", "memory": "64M", "pids": 100},
    "reservations": {"memory": "6M"},
}


def _much(fleet: Fleet) -> dict[str, Any]:
    """A service with about all that a stack's file knows."""
    return {
        "image": fleet.idle,
        "command": ["sh", "-c", "trap exit INT; echo $$A; while :; do sleep 1; done"],
        "environment": {"A": "1", "Z": "x y=z", "DB_PASSWORD": _PASSWORD.replace("$", "$$")},
        "networks": {"net": {"aliases": ["other"]}, "shared": {}},
        "hostname": "h1",
        "user": "0",
        "working_dir": "/tmp",
        "init": True,
        "tty": True,
        "stop_grace_period": "3s",
        "stop_signal": "SIGINT",
        "cap_add": ["NET_ADMIN"],
        "cap_drop": ["CHOWN"],
        "dns": ["10.0.0.53"],
        "dns_search": ["example.com"],
        "extra_hosts": ["db:10.0.0.1"],
        "sysctls": {"net.core.somaxconn": "128"},
        "ulimits": {"nofile": {"soft": 100, "hard": 200}, "nproc": 65535},
        "labels": {"con": "tainer"},
        "logging": {"driver": "json-file", "options": {"max-size": "1m"}},
        "healthcheck": {"test": ["CMD", "true"], "interval": "1500ms", "timeout": "2s"},
        "volumes": ["data:/data", "/tmp:/host:ro", {"type": "tmpfs", "target": "/t"}],
        "secrets": ["word"],
        "ports": [{"target": 81, "published": 8081, "protocol": "udp", "mode": "host"}],
        "deploy": {
            "replicas": 1,
            "labels": {"x1": "y1"},
            "restart_policy": {"condition": "any", "max_attempts": 3, "window": "10s"},
            "placement": {
                "constraints": ["node.role == manager"],
                "preferences": [{"spread": "node.id"}],
            },
            "resources": _LIMITS,
        },
    }


def _by_hand(fleet: Fleet, swarm: Swarm, place: Path) -> None:
    """Two stacks that a person has deployed: one with much, one whose services have a config."""
    for name, text in (
        ("word", "canary\n"),
        ("conf", "one\n"),
        ("hidden", f"password={_PASSWORD}"),
    ):
        (place / name).write_text(text)
    swarm.engine.run("network", "create", "--driver", "overlay", "shared")
    network = {"attachable": True, "driver_opts": {"com.docker.network.driver.mtu": "1400"}}
    much = stack_file(
        {"app": _much(fleet), "every": {"image": fleet.idle, "deploy": {"mode": "global"}}},
        networks={"net": network, "shared": {"external": True, "name": "shared"}},
        volumes={"data": {"labels": {"v": "w"}}},
        secrets={"word": {"file": str(place / "word")}},
    )
    swarm.deploy("much", much)
    files = {key: {"file": str(place / key)} for key in ("conf", "hidden")}
    hosts = ["bb:10.0.0.1", "aa:10.0.0.2"]
    two = {"app": {"image": fleet.idle, "configs": ["conf"]},
           "side": {"image": fleet.idle, "configs": ["hidden"]},
           "hosts": {"image": fleet.idle, "extra_hosts": hosts}}  # fmt: skip
    swarm.deploy("conf", stack_file(two, configs=files))
    swarm.wait_for({"much_app": 1, "much_every": 1, "conf_app": 1, "conf_side": 1, "conf_hosts": 1})


def test_stacks_that_a_person_deployed_are_adopted_and_no_task_is_replaced_unsaid(
    fleet: Fleet, swarm: Swarm, tmp_path: Path
) -> None:
    _by_hand(fleet, swarm, tmp_path)
    before, templates = swarm.task_ids(), _templates(swarm)
    host, clone = fleet.manager(enrolled=False), fleet.workspace.path
    result = host.commitd("adopt", str(clone), "--age", fleet.box.age.recipient, "--json")
    assert result.returncode == 3, result.stdout + result.stderr
    assert _PASSWORD not in result.stdout + result.stderr
    told = {each["name"]: each for each in json.loads(result.stdout)["projects"]}
    assert {name: each["status"] for name, each in told.items()} == {
        "much": "proven",
        "conf": "changes",
    }
    said = told["conf"]["message"].split("; ")
    assert "app gets new tasks: its config conf_conf comes from Git" in said
    moved = {f"conf_{each.split()[0]}" for each in said}
    assert moved <= {"conf_app", "conf_hosts"}  # not each version of Compose sorts the latter
    assert told["much"]["secret"] == ["DB_PASSWORD"]
    assert any("the secret much_word: no one can read it" in each for each in told["much"]["notes"])
    assert any("the config conf_hidden: it looks" in each for each in told["conf"]["notes"])
    for path in clone.rglob("*"):
        if path.is_file() and ".git/" not in str(path):
            assert _PASSWORD not in path.read_text(), path
    assert (clone / "host/prod/commitd.yaml").read_text() == "mode: swarm\n"
    assert (clone / "stacks/conf/configs/conf").read_text() == "one\n"
    found = host.commitd("check", str(clone))
    assert found.returncode == 0, found.stdout
    plan = host.commitd("plan", "--dir", str(clone))
    assert plan.returncode == 0, plan.stderr
    assert "container" not in plan.stdout, plan.stdout

    fleet.commit("as it runs", {})
    assert host.once().returncode == 0
    host.enroll()
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    expected = {"much_app": 1, "much_every": 1, "conf_app": 1, "conf_side": 1, "conf_hosts": 1}
    swarm.wait_for(expected)
    after, now = swarm.task_ids(), _templates(swarm)
    assert {name for name in before if after[name] != before[name]} == moved
    assert {name for name in before if now[name] != templates[name]} == moved
    assert {s["name"]: s["sync"] for s in host.json("status")["stacks"]} == {
        "much": "synced",
        "conf": "synced",
    }
    again = host.commitd("adopt", str(clone))
    assert "left out, because commitd runs them already: conf, much" in again.stdout


def test_what_a_file_cannot_say_is_not_adopted(fleet: Fleet, swarm: Swarm, tmp_path: Path) -> None:
    swarm.deploy("odd", stack_file({"app": {"image": fleet.idle}}))
    swarm.deploy("job", stack_file({"app": {"image": fleet.idle}}))
    swarm.create("alone", fleet.idle)

    def grouped(spec: dict[str, Any]) -> None:
        spec["TaskTemplate"]["ContainerSpec"]["Groups"] = ["99"]

    swarm.update("odd_app", grouped)
    run(["git", "init", "--quiet", tmp_path])
    (tmp_path / "host/prod").mkdir(parents=True)
    (tmp_path / "host/prod/commitd.yaml").write_text("allow:\n- name: alone\n")
    host = fleet.manager()
    result = host.commitd("adopt", str(tmp_path))
    assert result.returncode == 1, result.stdout + result.stderr
    assert (
        "odd: cannot be adopted: odd_app: a stack's file has no word for "
        "TaskTemplate.ContainerSpec.Groups"
    ) in result.stdout
    assert "job: adopted; " in result.stdout
    assert "alone (127.0.0.1:5000/idle:1.0" in result.stdout
    assert not (tmp_path / "stacks/odd").exists()
    assert yaml.safe_load((tmp_path / "host/prod/commitd.yaml").read_text()) == {
        "allow": [{"name": "alone"}],
        "mode": "swarm",
    }
    missing = host.commitd("adopt", str(tmp_path), "jib")
    assert (missing.returncode, "no stack 'jib' runs here" in missing.stderr) == (2, True)


def _templates(swarm: Swarm) -> dict[str, Any]:
    return {name: each["Spec"]["TaskTemplate"] for name, each in swarm.services().items()}

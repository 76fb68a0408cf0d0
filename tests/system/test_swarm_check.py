"""What `commitd check` says of a Swarm's stacks, and that a host and its repository agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.example import GOOD, IMAGE
from tests.sandbox.swarm import stack_file
from tests.system.clones import Clone

if TYPE_CHECKING:
    from tests.sandbox import Sandbox, Swarm
    from tests.system.conftest import Fleet

STACK = "stacks/site/compose.yaml"
SITE = f"""\
services:
  app:
    image: {IMAGE}
    container_name: site
    restart: unless-stopped
    privileged: true
    ports:
      - "127.0.0.1:8080:80"
      - "8443:443"
    volumes:
      - ./conf:/etc/site:ro
      - data:/data
      - /srv/files:/files
    depends_on:
      db: {{condition: service_healthy}}
    networks: [back]
  db:
    image: {IMAGE}
    security_opt: ["no-new-privileges:true"]
    deploy:
      replicas: 2
      placement: {{constraints: [node.hostname == one]}}
    volumes: [data:/data]
  from_another:
    extends: {{file: base.yaml, service: base}}
volumes:
  data:
networks:
  back:
    driver: bridge
x-commitd:
  on_change: {{app: restart}}
"""
FILES = {
    **GOOD,
    "host/prod/stacks.yaml": "- site\n",
    "host/prod/commitd.yaml": "mode: swarm\n",
    STACK: SITE,
    "stacks/site/conf": "x\n",
    "stacks/site/base.yaml": f"services:\n  base:\n    image: {IMAGE}\n    mem_swappiness: 1\n",
}


def test_check_says_what_a_swarm_cannot_do_with_the_line_and_what_to_use(box: Sandbox) -> None:
    clone = Clone(box, FILES)
    found = [each for each in clone.findings() if each["rule"] == "swarm"]
    said = {f"{each['file']}:{each['line']}": each for each in found}
    assert all(each["hint"] for each in found)
    assert {place: each["level"] for place, each in said.items()} == {
        f"{STACK}:4": "warning",  # container_name
        f"{STACK}:5": "warning",  # restart
        f"{STACK}:6": "error",  # privileged
        f"{STACK}:8": "error",  # a port for one address
        f"{STACK}:11": "error",  # a file of the repository
        f"{STACK}:12": "warning",  # a local volume, of a service that may run anywhere
        f"{STACK}:13": "warning",  # a path of the nodes
        f"{STACK}:15": "warning",  # depends_on
        f"{STACK}:19": "error",  # security_opt
        f"{STACK}:24": "error",  # mem_swappiness, which was extended
        f"{STACK}:30": "error",  # a network of one machine
        f"{STACK}:32": "warning",  # on_change
    }
    assert "deploy.restart_policy" in said[f"{STACK}:5"]["hint"]
    assert "configs:" in said[f"{STACK}:11"]["hint"]
    clone.write({"host/prod/commitd.yaml": None})
    assert not [each for each in clone.findings(code=0) if each["rule"] == "swarm"]


def test_check_finds_a_name_that_two_stacks_give_a_service_of_a_swarm(box: Sandbox) -> None:
    one, other = "stacks/a/compose.yaml", "stacks/a_b/compose.yaml"
    clone = Clone(
        box,
        {
            **GOOD,
            "host/prod/stacks.yaml": "- a\n- a_b\n",
            "host/prod/commitd.yaml": "mode: swarm\n",
            one: f"services:\n  x:\n    image: {IMAGE}\n  b_c:\n    image: {IMAGE}\n",
            other: f"services:\n  c:\n    image: {IMAGE}\n",
        },
    )
    found = [each for each in clone.findings() if each["rule"] == "service-name"]
    assert {(each["level"], f"{each['file']}:{each['line']}") for each in found} == {
        ("error", f"{one}:4"),
        ("error", f"{other}:2"),
    }
    clone.write({"host/prod/commitd.yaml": None})
    assert not [each for each in clone.findings(code=0) if each["rule"] == "service-name"]


def test_what_check_calls_good_is_deployed_and_what_it_refuses_is_not(
    fleet: Fleet, swarm: Swarm
) -> None:
    bad = stack_file({"app": {"image": fleet.idle, "privileged": True}})
    good = stack_file({"app": {"image": fleet.idle, "stop_signal": "SIGKILL"}})
    fleet.commit(
        "first",
        {
            "host/prod/stacks.yaml": "- bad\n- good\n",
            "stacks/bad/compose.yaml": bad,
            "stacks/good/compose.yaml": good,
        },
    )
    host = fleet.manager()
    result = host.once()
    assert result.returncode == 1
    assert swarm.services().keys() == {"good_app"}
    (failed,) = host.json("history", "bad")
    assert failed["error"].startswith("app: privileged: tasks are never privileged")
    assert "cap_add" in failed["error"]


def test_a_commit_and_a_configuration_that_differ_stop_everything(
    fleet: Fleet, swarm: Swarm
) -> None:
    stack = {"stacks/web/compose.yaml": stack_file({"app": {"image": fleet.idle}})}
    listed = {"host/prod/stacks.yaml": "- web\n"}
    fleet.commit("silent", {**listed, **stack, "host/prod/commitd.yaml": "{}\n"})
    host = fleet.manager()
    result = host.once()
    assert result.returncode != 0
    assert "does not say that prod is a Swarm" in result.stdout + result.stderr
    assert not swarm.services()
    found = host.commitd("doctor", "--json").stdout
    assert "host/prod/commitd.yaml at gitea does not say that prod is a Swarm" in found

    fleet.commit("said", {"host/prod/commitd.yaml": "mode: swarm\n"})
    assert host.once().returncode == 0
    assert swarm.services().keys() == {"web_app"}
    before = swarm.services()

    fleet.commit("another", {"host/prod/stacks.yaml": "[]\n", "host/prod/commitd.yaml": "{}\n"})
    assert host.once().returncode != 0
    assert swarm.services() == before

    fleet.commit("back", {"host/prod/stacks.yaml": "- web\n"})
    host.config["docker"]["mode"] = "host"
    host.write_config()
    result = host.once()
    assert result.returncode != 0
    assert "says that prod is a Swarm" in result.stdout + result.stderr
    assert not fleet.box.engine.containers() or swarm.services() == before

"""That a repository says which of its hosts are Swarms, and what follows from it."""

from __future__ import annotations

import pytest

from agent.domain.errors import PermanentError
from agent.domain.finding import Level
from agent.domain.repository import fleet_policy, layout, swarm_mode
from agent.domain.review import repository_scan
from agent.domain.review.checks import hosts, stacks
from agent.domain.review.checks.hosts import Here
from agent.domain.review.checks.places import Places
from tests.unit.builders import revision, tree

STACK = "stacks/web/compose.yaml"
IMAGE = f"nginx:1@sha256:{'0' * 64}"
FILES = {"host/prod/stacks.yaml": "- web\n", "host/media/stacks.yaml": "- web\n"}


def scanned(content: str, **policies: str) -> repository_scan.RepositoryScan:
    files = {**FILES, STACK: content}
    files |= {f"host/{host}/commitd.yaml": text for host, text in policies.items()}
    return repository_scan.take(
        tree(files), {path: text.encode() for path, text in files.items()}, revision()
    )


@pytest.mark.parametrize(
    ("fleets", "hosts_own", "swarm"),
    [
        (None, None, False),
        (None, "mode: swarm\n", True),
        ("mode: swarm\n", None, True),
        ("mode: swarm\n", "mode: host\n", False),
        ("mode: host\n", "mode: swarm\n", True),
    ],
)
def test_the_host_has_the_last_word_on_its_mode(
    fleets: str | None, hosts_own: str | None, swarm: bool
) -> None:
    given = {"global/commitd.yaml": fleets, "host/prod/commitd.yaml": hosts_own}
    files = {path: text for path, text in given.items() if text} | FILES
    contents = {path: text.encode() for path, text in files.items()}
    desired = layout.read(tree(files), contents, revision(), "prod")
    assert desired.swarm is swarm
    swarm_mode.agree(desired, swarm=swarm)
    with pytest.raises(PermanentError) as err:
        swarm_mode.agree(desired, swarm=not swarm)
    assert err.value.where == "host/prod/commitd.yaml"
    assert "mode: swarm" in str(err.value.hint)


def test_another_mode_is_no_mode_and_changes_no_digest() -> None:
    with pytest.raises(PermanentError, match=r"f:1: mode: cannot be kubernetes|f:1: mode: cannot"):
        fleet_policy.read(b"mode: kubernetes\n", "f")
    assert fleet_policy.read(b"mode: swarm\n", "f").in_digest == []


def test_only_a_swarms_stacks_are_judged_as_such_with_the_line() -> None:
    content = (
        f"services:\n  a:\n    image: {IMAGE}\n    container_name: x\n    network_mode: host\n"
    )
    taken = scanned(content, prod="mode: swarm\n")
    model = {"services": {"a": {"image": IMAGE, "container_name": "x", "network_mode": "host"}}}
    found = []
    for host, rules in (("media", {"privileges"}), ("prod", {"privileges", "swarm"})):
        (stack,) = taken.hosts[host].stacks
        found = list(stacks.judge(stack, model, "/repo", Places(taken.files, stack)))
        assert {each.rule for each in found} == rules
    said = {each.where: (each.level, each.hint) for each in found if each.rule == "swarm"}
    assert said[f"{STACK}:4"] == (Level.WARNING, "leave it out: others reach it as a")
    level, hint = said[f"{STACK}:5"]
    assert level is Level.ERROR
    assert "networks: {host: {external: true, name: host}}" in str(hint)


def test_what_is_refused_everywhere_is_said_once() -> None:
    content = f"services:\n  a:\n    image: {IMAGE}\n    build: .\n"
    taken = scanned(content, prod="mode: swarm\n")
    (stack,) = taken.faulty["prod"]
    model = {"services": {"a": {"image": IMAGE, "build": {"context": "/repo/stacks/web"}}}}
    found = list(stacks.judge(stack, model, "/repo", Places(taken.files, stack)))
    assert [each.rule for each in found] == ["policy"]


def test_an_image_without_a_digest_can_be_another_one_on_each_node() -> None:
    content = "services: {a: {image: nginx:1}}\n"
    taken = scanned(content, prod="mode: swarm\npins: warn\n")
    (stack,) = taken.hosts["prod"].stacks
    model = {"services": {"a": {"image": "nginx:1"}}}
    (found,) = stacks.judge(stack, model, "/repo", Places(taken.files, stack))
    assert found.message.endswith("so that nodes may run different ones")


def test_settings_that_mean_nothing_in_a_swarm_are_told_of() -> None:
    content = (
        f"services: {{a: {{image: {IMAGE}}}}}\n"
        "x-commitd:\n  health_timeout: 2m\n  on_change: {a: restart}\n  secret_owner: '1:1'\n"
    )
    taken = scanned(content, prod="mode: swarm\n")
    (stack,) = taken.hosts["prod"].stacks
    found = list(stacks.meaningless(Places(taken.files, stack)))
    assert [each.where for each in found] == [f"{STACK}:4", f"{STACK}:5"]


def test_tasks_of_one_service_share_a_port_of_the_swarm() -> None:
    content = f"services: {{a: {{image: {IMAGE}}}, b: {{image: {IMAGE}}}}}\n"
    taken = scanned(content, prod="mode: swarm\n")
    port = {"target": 80, "published": "80", "mode": "ingress", "protocol": "tcp"}
    one = {"a": {"ports": [port], "deploy": {"replicas": 3}}}
    for host, services, faults in (
        ("media", one, 1),
        ("prod", one, 0),
        ("prod", {**one, "b": {"ports": [port]}}, 1),
    ):
        (stack,) = taken.hosts[host].stacks
        here = Here("web", {"services": services}, Places(taken.files, stack))
        assert len(list(hosts.ports([here]))) == faults

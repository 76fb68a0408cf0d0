"""Networks and volumes: what cannot be changed is said before anything is touched."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from agent.adapters.compose.compose import Compose
from agent.adapters.compose.invocation import Invocation
from agent.domain.resources import provision
from tests.sandbox import EngineError
from tests.unit import builders

if TYPE_CHECKING:
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet


def _networked(fleet: Fleet, key: str, settings: str) -> str:
    more = f"    networks: [{key}]\n"
    return f"{fleet.compose(more=more)}networks:\n  {key}: {{{settings}}}\n"


def _volume(fleet: Fleet, settings: str) -> str:
    return f"{fleet.compose(more='    volumes: [data:/data]')}\nvolumes:\n  data: {{{settings}}}\n"


def _started(fleet: Fleet, *names: str) -> dict[str, tuple[str, str]]:
    found = {name: fleet.box.engine.inspect(name) for name in names}
    return {name: (raw["Id"], raw["State"]["StartedAt"]) for name, raw in found.items()}


def _said(host: Host, stack: str) -> str:
    return str(next(s for s in host.json("status")["stacks"] if s["name"] == stack)["message"])


HASHED = (2, 31)
"""Since then Compose tells by a label what a network was made with."""
FUNNY = (
    "driver_opts: {com.docker.network.bridge.name: br-own}, attachable: true, "
    "labels: {a: 'x<y&z $$1', é: \"\u2028\"}, x-note: 1, enable_ipv6: false, "
    "ipam: {driver: default, config: [{subnet: 10.77.0.0/24, gateway: 10.77.0.9, "
    "aux_addresses: {one: 10.77.0.5}}]}"
)


def test_what_cannot_be_changed_is_refused_and_what_can_be_is_changed_whole(fleet: Fleet) -> None:
    stacks = ("first", "second", "own", "data", "labels")
    files: dict[str, str | bytes | None] = {
        "host/media/stacks.yaml": "".join(f"- {name}\n" for name in stacks),
        "stacks/first/compose.yaml": _networked(fleet, "proxy", "name: proxy"),
        "stacks/second/compose.yaml": _networked(fleet, "proxy", "name: proxy"),
        "stacks/own/compose.yaml": _networked(fleet, "back", FUNNY),
        "stacks/data/compose.yaml": _volume(fleet, "driver_opts: {type: tmpfs, device: tmpfs}"),
        "stacks/labels/compose.yaml": _volume(fleet, "labels: {a: '1'}"),
    }
    host = fleet.synced(files)
    _compose_would_label_them_the_same(fleet, host)
    kept = _started(fleet, *(f"{name}-app-1" for name in stacks if name != "own"))
    own = fleet.box.engine.inspect("own-app-1")

    password = "o: 'size=1m,password=hunter2'"
    changed: dict[str, str | bytes | None] = {
        "host/media/stacks.yaml": "".join(f"- {name}\n" for name in (*stacks, "lost", "clash")),
        "stacks/second/compose.yaml": _networked(fleet, "proxy", "name: proxy, internal: true"),
        "stacks/own/compose.yaml": _networked(fleet, "back", f"{FUNNY}, internal: true"),
        "stacks/data/compose.yaml": _volume(
            fleet, f"driver_opts: {{type: tmpfs, device: tmpfs, {password}}}"
        ),
        "stacks/labels/compose.yaml": _volume(fleet, "labels: {a: '2'}"),
        "stacks/lost/compose.yaml": _networked(fleet, "web", "name: nobody, external: true"),
        "stacks/clash/compose.yaml": _networked(
            fleet, "default", "ipam: {config: [{subnet: 10.77.0.0/16}]}"
        ),
    }
    sha = fleet.commit("second", changed)
    clone, there = host.git_dir, "+refs/heads/main:refs/commitd/remotes/gitea"
    fleet.workspace.git("--git-dir", clone, "fetch", "--quiet", fleet.box.gitea.path, there)
    planned = {d["stack"]: d for d in host.json("plan", "--rev", sha)["deploys"]}
    for stack in ("second", "data", "labels"):
        assert [each["action"] for each in planned[stack]["services"]] == ["none"]
        assert f"it would be refused: stacks/{stack}/" in str(planned[stack]["notes"])
    assert planned["lost"]["notes"] == []  # somebody may make it before

    result = host.once()
    assert result.returncode == 1
    assert _started(fleet, *kept) == kept
    said = _said(host, "second")
    assert "stacks/second/compose.yaml:6: internal of the network proxy" in said
    assert "the stack first (first-app-1) is in it" in said
    for stack, key in (("data", "driver_opts"), ("labels", "labels")):
        said = _said(host, stack)
        assert f"stacks/{stack}/compose.yaml:7: {key} of the volume {stack}_data " in said
        assert "give the volume a new name" in said
    assert "hunter2" not in result.stdout + result.stderr
    assert "stacks/lost/compose.yaml:6: there is no network nobody" in _said(host, "lost")
    assert "overlaps with 10.77.0.0/24 of the network own_back" in _said(host, "clash")
    history = host.json("history")
    assert not [each for each in history if each["action"] == "rollback"]

    if fleet.compose_is_older_than(*HASHED):
        assert "Compose does not change internal of the network own_back" in _said(host, "own")
    else:  # what is its own is changed, and its services are found there as before
        now = fleet.box.engine.inspect("own-app-1")
        assert fleet.box.engine.api("GET", "/networks/own_back")["Internal"] is True
        assert _aliases(now, "own_back") == _aliases(own, "own_back") >= {"app", "own-app-1"}

    fleet.commit("back", {path: files.get(path) for path in changed})
    assert host.once().returncode == 0
    assert _started(fleet, *kept) == kept


def test_networks_that_are_there_twice_become_one_or_are_explained(fleet: Fleet) -> None:
    def made(project: str) -> str:
        labels = {"com.docker.compose.project": project, "com.docker.compose.network": "proxy"}
        body = {"Name": "proxy", "Labels": labels}
        return str(fleet.box.engine.api("POST", "/networks/create", body)["Id"])

    def there() -> set[str]:
        found = fleet.box.engine.api("GET", "/networks")
        return {each["Id"] for each in found if each["Name"] == "proxy"}

    fleet.box.engine.pull(fleet.idle)
    first = made("first")
    person = fleet.box.engine.run("run", "-d", "--network", first, fleet.idle).strip()
    try:
        elsewhere = made("elsewhere")
    except EngineError:
        pytest.skip("this engine makes no two networks of one name")
    shared = _networked(fleet, "proxy", "name: proxy")
    files: dict[str, str | bytes | None] = {
        "host/media/stacks.yaml": "- first\n- second\n",
        "stacks/first/compose.yaml": shared,
        "stacks/second/compose.yaml": shared,
    }
    fleet.commit("first", files)
    host = fleet.host(undeclared={"mode": "report"})
    assert host.once().returncode == 1
    assert there() == {first, elsewhere}
    said = _said(host, "first")
    assert "stacks/first/compose.yaml:6: there are 2 networks called proxy" in said
    assert f"{first[:12]} (made for first, " in said
    assert "docker network rm" in said

    fleet.box.engine.run("network", "rm", elsewhere)
    made("second")
    host.commitd("retry", "first")
    host.commitd("retry", "second")
    result = host.once()
    assert result.returncode == 0, result.stdout
    assert there() == {first}
    assert {"first-app-1", "second-app-1"} <= set(fleet.running())
    assert person in fleet.running().values()


def _aliases(raw: dict[str, Any], network: str) -> set[str]:
    """Without the one that is the container's ID."""
    found = raw["NetworkSettings"]["Networks"][network]["Aliases"]
    return {alias for alias in found if not raw["Id"].startswith(alias)}


def _compose_would_label_them_the_same(fleet: Fleet, host: Host) -> None:
    """By that it is told whether Compose would make a network anew."""
    for name in ("first", "own"):
        invocation = Invocation(stack=builders.stack(name), root=host.repo)
        program = Compose(fleet.box.compose, "unix:///nowhere", 60)
        model = anyio.run(program.resolve, invocation).model
        (network,) = (
            d for d in provision.declared(model) if d.kind is provision.ResourceKind.NETWORK
        )
        raw = fleet.box.engine.api("GET", f"/networks/{network.name}")
        made_with = None if fleet.compose_is_older_than(*HASHED) else network.digest
        assert made_with == provision.digest(raw), json.dumps(model)

"""All images are here before the first container is touched; registries are asked politely."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.sandbox import EngineError
from tests.sandbox.engine_proxy import EngineProxy
from tests.sandbox.process import wait_until
from tests.system.registries import BASIC, NGINX, PASSWORD, USER

if TYPE_CHECKING:
    from tests.sandbox.engine_proxy import Request
    from tests.sandbox.host import Host
    from tests.sandbox.proxy import Mode
    from tests.system.conftest import Fleet, Nginx

NOWHERE = f"127.0.0.1:5000/nowhere:1@sha256:{'0' * 64}"


def _files(one: str, two: str) -> dict[str, str | bytes | None]:
    return {
        "host/media/stacks.yaml": "- one\n- two\n",
        "stacks/one/compose.yaml": one,
        "stacks/two/compose.yaml": two,
    }


@pytest.fixture
def host(fleet: Fleet) -> Host:
    """A host where two stacks run."""
    return fleet.synced(_files(fleet.compose(), fleet.compose()))


def _image(fleet: Fleet, container: str) -> str:
    """What it runs; nothing while it is being replaced."""
    found = {c["Names"][0]: c["Id"] for c in fleet.box.engine.containers(all=False)}
    with suppress(EngineError):
        return str(fleet.box.engine.inspect(found.get(f"/{container}", "none"))["Config"]["Image"])
    return ""


def _fresh(fleet: Fleet, tag: str) -> str:
    """The pinned reference of an image that the engine does not have."""
    return fleet.box.images.build("fresh", tag, files={"/tag": tag})


def test_no_container_of_a_stack_is_touched_before_all_its_images_are_here(
    fleet: Fleet, host: Host
) -> None:
    """A pull that fails costs its stack the change, and nobody their containers."""
    before = fleet.running()
    fresh, other = _fresh(fleet, "1"), _fresh(fleet, "11")
    asked: list[str] = []

    def note(_: int, request: Request) -> None:
        asked.append(request.kind)

    two = f"{fleet.compose(fresh)}  more:\n    image: {other}\n    network_mode: host\n"
    one = f"{fleet.compose(more='    hostname: new')}\n  more:\n    image: {NOWHERE}\n"
    fleet.commit("both", _files(one, two))
    with EngineProxy(fleet.box.engine.socket, fleet.box.root / "images-proxy.sock") as proxy:
        host.config["docker"] = {"socket": proxy.host}
        host.write_config()
        proxy.on_effect(note)
        result = host.once()
        stacks = {stack["name"]: stack["sync"] for stack in host.json("status")["stacks"]}
    assert result.returncode == 1
    assert "nowhere" in result.stdout
    pulls = [i for i, kind in enumerate(asked) if kind == "POST /images/create"]
    assert len(pulls) == 3
    assert max(pulls) < min(i for i, kind in enumerate(asked) if "/containers" in kind)
    after = fleet.running()
    assert after["one-app-1"] == before["one-app-1"]
    assert fleet.box.engine.inspect("two-app-1")["Config"]["Image"] == fresh
    assert stacks == {"one": "failed", "two": "synced"}


def test_an_image_that_is_mounted_is_pinned_and_here_before_a_container_is_touched(
    fleet: Fleet, host: Host
) -> None:
    before = fleet.running()

    def mounting(image: str) -> str:
        mount = f"{{type: image, source: '{image}', target: /data}}"
        return fleet.compose(more=f"    hostname: new\n    volumes: [{mount}]\n")

    unpinned = "127.0.0.1:5000/nowhere:1"
    fleet.commit("mounts", _files(mounting(unpinned), mounting(NOWHERE)))
    result = host.once()
    assert result.returncode == 1
    said = f"app: image volume /data: {unpinned} is not pinned by tag and digest"
    assert f"stacks/one/compose.yaml:6: {said}" in result.stdout
    assert f"{NOWHERE} cannot be pulled" in result.stdout
    assert fleet.running() == before


def test_a_slow_registry_holds_up_its_own_stacks_alone(fleet: Fleet, host: Host) -> None:
    """Others go on, what drifts is put right, and a newer commit does not wait; no pull is lost."""
    big = fleet.box.images.build("slow", "1", files={"/blob": os.urandom(300_000)})

    def hostname(container: str) -> str:
        if container not in fleet.running():
            return ""
        return str(fleet.box.engine.inspect(container)["Config"]["Hostname"])

    def new(name: str) -> str:
        return fleet.compose(more=f"    hostname: {name}\n")

    three = {"host/media/stacks.yaml": "- one\n- two\n- three\n"}
    fleet.commit("three", {**three, "stacks/three/compose.yaml": fleet.compose()})
    with host.running() as agent:
        agent.says("in sync with")
        before = fleet.running()
        fleet.box.registry.proxy.mode("blackhole")
        files = {"stacks/three/compose.yaml": fleet.compose(big)}
        fleet.commit("slow", {**_files(fleet.compose(big), new("first")), **three, **files})
        wait_until(lambda: hostname("two-app-1") == "first", what="the other stack to be deployed")
        fleet.box.engine.run("rm", "--force", "two-app-1")
        wait_until(lambda: hostname("two-app-1") == "first", what="the drift to be put right")
        sha = fleet.commit("newer", {"stacks/two/compose.yaml": new("second")})
        wait_until(lambda: hostname("two-app-1") == "second", what="the newer commit")
        assert fleet.running()["one-app-1"] == before["one-app-1"]
        fleet.box.registry.proxy.mode("pass")
        agent.says(f"in sync with {sha[:7]}")
        assert agent.log.count(f"pulling {big}\n") == 1
    for name in ("one", "three"):
        assert fleet.box.engine.inspect(f"{name}-app-1")["Config"]["Image"] == big
        statuses = [e["status"] for e in host.json("history", name) if e["action"] == "deploy"]
        assert statuses[:2] == ["succeeded", "cancelled"]


@pytest.mark.parametrize("mode", [("drip", 2000), ("blackhole", 0)], ids=["trickles", "is silent"])
def test_a_registry_that_hangs_in_a_pull_costs_its_stack_the_change_and_nobody_else(
    fleet: Fleet, host: Host, mode: tuple[Mode, int]
) -> None:
    """After converge.timeout the others go on; when it answers again, so does the one."""
    before = fleet.running()
    tag = f"hangs-{mode[0]}"
    big = fleet.box.images.build("fresh", tag, files={"/blob": os.urandom(1_000_000)})
    host.config["converge"]["timeout"] = "4s"
    host.write_config()
    fleet.commit("new", _files(fleet.compose(big), fleet.compose(more="    hostname: new\n")))
    fleet.box.registry.proxy.mode(*mode)
    result = host.once()
    assert result.returncode == 1
    assert f"{big} was not there after 4 s" in result.stdout
    assert fleet.running()["one-app-1"] == before["one-app-1"]
    assert fleet.box.engine.inspect("two-app-1")["Config"]["Hostname"] == "new"
    fleet.box.registry.proxy.mode("pass")
    del host.config["converge"]["timeout"]
    host.write_config()
    host.commitd("retry", "one", check=True)
    result = host.once()
    assert result.returncode == 0, result.stdout
    assert fleet.box.engine.inspect("one-app-1")["Config"]["Image"] == big


def test_what_is_here_is_not_asked_for_again(fleet: Fleet, host: Host) -> None:
    fleet.box.registry.stop()
    before = fleet.running()
    fleet.commit("name", _files(fleet.compose(), fleet.compose(more="    hostname: new\n")))
    result = host.once()
    assert result.returncode == 0, result.stdout
    assert fleet.running()["one-app-1"] == before["one-app-1"]
    assert fleet.box.engine.inspect("two-app-1")["Config"]["Hostname"] == "new"


def test_a_deploy_that_failed_looks_failed_and_is_tried_again(fleet: Fleet, host: Host) -> None:
    before = fleet.running()
    fresh = _fresh(fleet, "2")
    fleet.box.registry.stop()
    with host.running() as agent:
        agent.says("in sync with")
        fleet.commit("new", _files(fleet.compose(fresh), fleet.compose()))
        agent.says("failed: one")
        assert fleet.running() == before

        def sync() -> dict[str, str]:
            return {stack["name"]: stack["sync"] for stack in host.json("status")["stacks"]}

        wait_until(lambda: sync()["one"] == "failed", what="status to say so")
        fleet.box.registry.start()
        wait_until(lambda: _image(fleet, "one-app-1") == fresh, what="the new image to run")
    assert fleet.running()["two-app-1"] == before["two-app-1"]


def test_a_busy_registry_is_left_alone_for_a_while(fleet: Fleet, host: Host, nginx: Nginx) -> None:
    before = fleet.running()
    busy = f"127.0.0.1:{NGINX}/busy/fresh"
    one, two = (_fresh(fleet, tag).partition("@")[2] for tag in ("3", "4"))

    def asked() -> int:
        return nginx.asked.read_text().count("/v2/busy/fresh")

    with host.running() as agent:
        agent.says("in sync with")
        fleet.commit("one", _files(fleet.compose(f"{busy}:3@{one}"), fleet.compose()))
        agent.says("failed: one")
        # It writes a line when it has answered.
        wait_until(lambda: " 429 " in nginx.asked.read_text(), what="the answer to be noted")
        questions = asked()
        fleet.commit("two", _files(fleet.compose(), fleet.compose(f"{busy}:4@{two}")))
        agent.says(f"{busy}:4@{two}: 127.0.0.1:{NGINX} is rate-limiting this host")
        assert asked() == questions
        assert fleet.running() == before
        assert agent.process.poll() is None


def test_what_a_digest_happens_to_spell_says_nothing_about_its_registry(fleet: Fleet) -> None:
    missing = f"127.0.0.1:5000/nowhere:1@sha256:{'0' * 61}429"
    fresh = _fresh(fleet, "5")
    fleet.commit("first", _files(fleet.compose(missing), fleet.compose()))
    host = fleet.host()
    with host.running() as agent:
        agent.says("failed: one")
        sha = fleet.commit("next", {"stacks/two/compose.yaml": fleet.compose(fresh)})
        agent.says(f"at {sha[:7]}")
        wait_until(lambda: _image(fleet, "two-app-1") == fresh, what="the other to run")


@pytest.mark.usefixtures("basic")
def test_the_login_of_docker_is_used_for_pulls(fleet: Fleet, host: Host, tmp_path: Path) -> None:
    registry = f"127.0.0.1:{BASIC}"
    private = _fresh(fleet, "6").replace("127.0.0.1:5000", registry)
    fleet.commit("private", _files(fleet.compose(private), fleet.compose()))
    result = host.once()
    assert result.returncode == 1
    assert "no basic auth credentials" in result.stdout
    login = {"username": USER, "password": PASSWORD}
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry: login}}))
    host.commitd("retry", "one", check=True)
    with host.running(DOCKER_CONFIG=str(tmp_path)) as agent:
        agent.says("in sync with")
        assert PASSWORD not in agent.log
    assert fleet.box.engine.inspect("one-app-1")["Config"]["Image"] == private


def test_an_image_that_is_not_pinned_is_refused_unless_policy_lets_it_through(
    fleet: Fleet, host: Host
) -> None:
    before = fleet.running()
    loose = fleet.idle.partition("@")[0]
    fleet.commit("loose", _files(fleet.compose(loose), fleet.compose()))
    result = host.once()
    assert result.returncode == 1
    assert (
        f"stacks/one/compose.yaml:3: app: {loose} is not pinned by tag and digest (commitd pin one)"
    ) in result.stdout
    assert fleet.running() == before
    host.commitd("retry", "one", check=True)
    fleet.commit("policy", {"global/commitd.yaml": "pins: warn\n"})
    result = host.once()
    assert result.returncode == 0, result.stdout
    assert "is not pinned" in result.stderr
    assert fleet.box.engine.inspect("one-app-1")["Config"]["Image"] == loose
    assert fleet.running()["two-app-1"] == before["two-app-1"]


def test_what_a_policy_refused_is_tried_again_when_that_changes(fleet: Fleet) -> None:
    loose = fleet.idle.partition("@")[0]
    fleet.commit("loose", _files(fleet.compose(loose), fleet.compose()))
    host = fleet.host()
    assert host.once().returncode == 1
    fleet.commit("policy", {"global/commitd.yaml": "pins: warn\n"})
    assert host.once().returncode == 0

"""Hooks of a service: containers that Compose runs before it, and commands in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

_LIST = "host/media/stacks.yaml"
_FILE = "stacks/web/compose.yaml"


def _hooks(fleet: Fleet) -> list[str]:
    label = "com.docker.compose.hook"
    return [c["Names"][0] for c in fleet.box.engine.containers() if label in c["Labels"]]


def _deploy(fleet: Fleet, host: Host, more: str) -> tuple[int, str]:
    fleet.commit("next", {_LIST: "- web\n", _FILE: fleet.compose(more=more)})
    result = host.once()
    return result.returncode, result.stdout + result.stderr


def test_a_hook_before_the_start_is_held_to_the_rules_of_a_service(fleet: Fleet) -> None:
    hook = fleet.box.images.build("hook", "1.0", command="echo ok > /mark/ok")
    volume = "    volumes: ['mark:/mark']\n"
    good = f"{volume}    pre_start: [{{image: '{hook}', user: root}}]\nvolumes: {{mark: {{}}}}\n"
    host = fleet.host()
    if fleet.compose_is_older_than(5, 3):
        code, said = _deploy(fleet, host, good)
        assert code == 1
        assert "pre_start: needs Docker Compose 5.3 or newer" in said
        pytest.skip("Compose knows pre_start from 5.3 on: make engines")
    assert _deploy(fleet, host, good)[0] == 0
    before = fleet.running()
    assert list(before) == ["web-app-1"]
    assert fleet.box.engine.run("exec", "web-app-1", "cat", "/mark/ok") == "ok\n"
    assert _hooks(fleet) == []
    assert host.json("plan")["deploys"] == []

    code, said = _deploy(fleet, host, good.replace(hook, hook.partition("@")[0]))
    assert code == 1
    assert f"{_FILE}:6: app: pre_start[0]: 127.0.0.1:5000/hook:1.0 is not pinned" in said
    assert fleet.running() == before

    absent = hook.replace("/hook:", "/none:")
    code, said = _deploy(fleet, host, good.replace(hook, absent))
    assert code == 1
    assert f"{absent} cannot be pulled" in said
    assert fleet.running() == before

    asks = f"{{image: '{hook}', privileged: true, volumes: ['/run/docker.sock:/s']}}"
    code, said = _deploy(fleet, host, f"    pre_start: [{asks}]\n")
    assert "app: pre_start[0]: privileged; app: pre_start[0]: mounts the engine's socket" in said
    checked = host.commitd("check", str(fleet.workspace.path))
    assert f"{_FILE}:5: warning: app: pre_start[0]: privileged" in checked.stdout


def test_a_hook_that_fails_sends_its_release_back_at_once(fleet: Fleet) -> None:
    if fleet.compose_is_older_than(2, 30):
        pytest.skip("Compose knows post_start from 2.30 on")
    host = fleet.host()
    assert _deploy(fleet, host, "")[0] == 0
    failing = "{command: [sh, -c, 'echo no such table >&2; exit 4']"
    image = "" if fleet.compose_is_older_than(5, 3) else f", image: '{fleet.web}'"
    key = "pre_start" if image else "post_start"
    code, said = _deploy(
        fleet, host, f"    environment: {{A: b}}\n    {key}: [{failing}{image}}}]\n"
    )
    assert code == 1
    entries = [e for e in host.json("history", "web") if e["action"] in {"deploy", "rollback"}]
    assert [(e["action"], e["status"], e["attempts"]) for e in entries[:2]] == [
        ("rollback", "succeeded", 1),
        ("deploy", "failed", 1),
    ]
    if image:
        assert "pre_start[0] exited with code 4; its last words: no such table" in said
        assert "retained" not in said
    else:
        assert "app hook exited with status 4" in said
    assert list(fleet.running()) == ["web-app-1"]
    assert "A" not in fleet.environment("web-app-1")
    assert _hooks(fleet) == []

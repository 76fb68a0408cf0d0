"""Every declared stack is brought to its declared state, and nothing else is touched."""

from __future__ import annotations

import re
import signal
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.engine_proxy import EngineProxy
from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.engine_proxy import Request
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet


def test_a_new_host_gets_all_its_stacks_and_only_those(fleet: Fleet) -> None:
    fleet.commit(
        "first",
        {
            "host/media/stacks.yaml": "- one\n- two\n",
            "host/other/stacks.yaml": "- three\n",
            **{f"stacks/{name}/compose.yaml": fleet.compose() for name in ("one", "two", "three")},
        },
    )
    result = fleet.host().once()
    assert result.returncode == 0, result.stderr
    assert set(fleet.running()) == {"one-app-1", "two-app-1"}


def test_a_commit_touches_only_the_stack_it_changes(fleet: Fleet) -> None:
    fleet.commit(
        "first",
        {
            "host/media/stacks.yaml": "- one\n- two\n",
            "stacks/one/compose.yaml": fleet.compose(fleet.web),
            "stacks/two/compose.yaml": fleet.compose(),
        },
    )
    host = fleet.host()
    host.once()
    before = fleet.running()
    fleet.commit("new web", {"stacks/one/compose.yaml": fleet.compose(fleet.web2)})
    assert host.once().returncode == 0
    after = fleet.running()
    assert after["two-app-1"] == before["two-app-1"]
    assert after["one-app-1"] != before["one-app-1"]
    newest = host.json("history", "one")[0]
    assert newest["action"] == "deploy"
    assert [(cause["kind"], cause["name"]) for cause in newest["cause"]] == [
        ("file", "stacks/one/compose.yaml"),
        ("image", None),
    ]


def _counting_compose(host: Host, fleet: Fleet, tmp_path: Path) -> Path:
    """Put a note-taker in front of the real Compose; returns its notes."""
    notes = tmp_path / "calls"
    notes.touch()
    program = tmp_path / "docker-compose"
    program.write_text(f'#!/bin/sh\necho "$*" >>{notes}\nexec {fleet.box.compose} "$@"\n')
    program.chmod(0o755)
    host.path.insert(0, str(tmp_path))
    return notes


def test_when_nothing_changed_no_compose_process_is_started(fleet: Fleet, tmp_path: Path) -> None:
    fleet.commit(
        "first",
        {
            "host/media/stacks.yaml": "- one\n- job\n",
            "stacks/one/compose.yaml": fleet.compose(more="    scale: 2\n"),
            "stacks/job/compose.yaml": fleet.compose(more="    command: ['/bin/true']\n"),
        },
    )
    host = fleet.host()
    notes = _counting_compose(host, fleet, tmp_path)
    assert host.once().returncode == 0
    assert "up --no-start" in notes.read_text()
    notes.write_text("")
    fleet.commit("elsewhere", {"README.md": "words"})
    assert host.once().returncode == 0
    assert host.once().returncode == 0
    assert [line for line in notes.read_text().splitlines() if "version" not in line] == []


def test_compose_reads_a_stack_once_and_makes_it_once_also_when_a_container_is_missing(
    fleet: Fleet, tmp_path: Path
) -> None:
    waits = "    depends_on: {app: {condition: service_healthy}}\n    init: true\n"
    check = "    healthcheck: {test: 'true', interval: 1s}\n"
    files = {
        "host/media/stacks.yaml": "- one\n- two\n- waits\n",
        "stacks/one/compose.yaml": fleet.compose(more="    scale: 2\n"),
        "stacks/two/compose.yaml": fleet.compose(),
        "stacks/waits/compose.yaml": fleet.compose(more=check)
        + f"  later:\n    image: {fleet.idle}\n    network_mode: host\n{waits}",
    }
    sha = fleet.commit("first", files)
    host = fleet.host()
    notes = _counting_compose(host, fleet, tmp_path)
    with host.running() as agent:
        agent.says(f"in sync with {sha[:7]}")
        assert _counted(notes) == {
            ("one", "config"): 1, ("one", "up --no-start"): 1,
            ("two", "config"): 1, ("two", "up --no-start"): 1,
            ("waits", "config"): 1, ("waits", "up --no-start"): 1, ("waits", "up --detach"): 1,
        }  # fmt: skip
        notes.write_text("")
        fleet.box.engine.run("rm", "--force", "two-app-1")
        wait_until(lambda: "two-app-1" in fleet.running(), what="its container to be made again")
        agent.says(f"in sync with {sha[:7]}")
        assert _counted(notes) == {("two", "up --no-start"): 1}


def _counted(notes: Path) -> Counter[tuple[str, str]]:
    """How often Compose was run for which project to do what."""
    words = r"--project-name (\S+) .* (config|up --no-start|up --detach|down)\b"
    return Counter(re.findall(words, notes.read_text()))


def test_what_goes_is_recorded_and_so_is_what_is_kept(fleet: Fleet) -> None:
    volume = "    volumes: [data:/data]\nvolumes: {data: {}}\n"
    extra = f"  extra:\n    image: {fleet.idle}\n    network_mode: host\n"
    fleet.commit(
        "first",
        {
            "host/media/stacks.yaml": "- one\n- two\n",
            "stacks/one/compose.yaml": fleet.compose(more=extra),
            "stacks/two/compose.yaml": fleet.compose(more=volume),
        },
    )
    host = fleet.host()
    host.once()
    sha = fleet.commit(
        "less",
        {"host/media/stacks.yaml": "- one\n", "stacks/one/compose.yaml": fleet.compose()},
    )
    assert host.once().returncode == 0
    assert set(fleet.running()) == {"one-app-1"}
    [dropped] = host.json("history", "one-extra-1")
    assert (dropped["action"], dropped["status"]) == ("evict", "succeeded")
    assert dropped["reason"] == "service-not-declared"
    assert dropped["revision"] == sha
    removed = host.json("history", "two")[0]
    assert removed["action"] == "remove-stack"
    assert {
        "kind": "volume", "stack": None, "service": None, "name": "two_data",
        "from": "kept", "to": "kept", "commit": None, "message": "volume two_data: kept → kept",
    } in removed["cause"]  # fmt: skip


def test_a_stack_that_has_nothing_to_run_is_in_sync_and_keeps_its_volumes(fleet: Fleet) -> None:
    runs = fleet.compose(more="    volumes: [data:/data]\n") + "volumes: {data: {}}\n"
    off = runs.replace("network_mode", "profiles: [by-hand]\n    network_mode")
    files: dict[str, str | bytes | None] = {
        "host/media/stacks.yaml": "- one\n- never\n- two\n",
        "stacks/one/compose.yaml": runs,
        "stacks/never/compose.yaml": off,
        "stacks/two/compose.yaml": runs,
    }
    fleet.commit("first", files)
    host = fleet.host()
    result = host.once()
    assert result.returncode == 0, result.stdout
    assert set(fleet.running()) == {"one-app-1", "two-app-1"}

    sha = fleet.commit(
        "off", {"stacks/one/compose.yaml": off, "stacks/two/compose.yaml": "services: {}\n"}
    )
    # Before it is done, it shows as what it is.
    clone, there = host.git_dir, "+refs/heads/main:refs/commitd/remotes/gitea"
    fleet.workspace.git("--git-dir", clone, "fetch", "--quiet", fleet.box.gitea.path, there)
    plan = host.json("plan", "--rev", sha)
    assert {
        deploy["stack"]: [(s["name"], s["action"]) for s in deploy["services"]]
        for deploy in plan["deploys"]
    } == {"one": [("app", "remove")], "two": [("app", "remove")]}
    result = host.once()
    assert result.returncode == 0, result.stdout
    assert fleet.running() == {}
    assert host.box.engine.containers() == []
    volumes = {v["Name"] for v in host.box.engine.api("GET", "/volumes")["Volumes"]}
    assert {"one_data", "two_data"} <= volumes
    status = host.json("status")
    assert f"in sync with {sha[:7]}" in status["verdict"]
    assert [(s["sync"], s["health"], s["reason"]) for s in status["stacks"]] == [
        ("synced", "healthy", "nothing-to-run")
    ] * 3
    [dropped] = host.json("history", "one-app-1")
    assert (dropped["action"], dropped["status"]) == ("evict", "succeeded")
    before = len(host.json("history"))
    assert host.once().returncode == 0
    assert len(host.json("history")) == before

    fleet.commit("on", files)
    assert host.once().returncode == 0
    assert set(fleet.running()) == {"one-app-1", "two-app-1"}


def test_one_failing_stack_stops_no_other_and_says_why(fleet: Fleet) -> None:
    missing = f"127.0.0.1:5000/nowhere:1@sha256:{'0' * 64}"
    fleet.commit(
        "first",
        {
            "host/media/stacks.yaml": "- bad\n- good\n",
            "stacks/bad/compose.yaml": fleet.compose(missing),
            "stacks/good/compose.yaml": fleet.compose(),
        },
    )
    host = fleet.host()
    result = host.once()
    assert result.returncode == 1
    assert "bad" in result.stdout
    assert set(fleet.running()) == {"good-app-1"}
    entry = host.json("history", "bad")[0]
    assert entry["status"] == "failed"
    assert "nowhere" in entry["error"]
    stacks = {stack["name"]: stack for stack in host.json("status")["stacks"]}
    assert stacks["bad"]["sync"] == "failed"
    assert stacks["good"]["sync"] == "synced"


def test_a_failed_pull_leaves_the_old_version_running(fleet: Fleet) -> None:
    fleet.commit(
        "first",
        {"host/media/stacks.yaml": "- one\n", "stacks/one/compose.yaml": fleet.compose(fleet.web)},
    )
    host = fleet.host()
    host.once()
    before = fleet.running()
    missing = f"127.0.0.1:5000/web:9@sha256:{'0' * 64}"
    fleet.commit("bad", {"stacks/one/compose.yaml": fleet.compose(missing)})
    assert host.once().returncode == 1
    assert fleet.running() == before


def test_a_registry_that_comes_back_is_tried_again_in_the_same_cycle(fleet: Fleet) -> None:
    image = fleet.box.images.build("late", "1.0")
    fleet.commit(
        "first",
        {"host/media/stacks.yaml": "- one\n", "stacks/one/compose.yaml": fleet.compose(image)},
    )
    pulls: list[Request] = []

    def come_back(_: int, request: Request) -> None:
        """The first answer is that the registry is away; before the second question it is there."""
        if request.kind == "POST /images/create":
            pulls.append(request)
            if len(pulls) == 1:
                fleet.box.registry.start()

    with EngineProxy(fleet.box.engine.socket, fleet.box.root / "late-proxy.sock") as proxy:
        host = fleet.host(docker={"socket": proxy.host})
        fleet.box.registry.stop()
        proxy.on_effect(come_back, after=True)
        result = host.once()
    assert result.returncode == 0, result.stderr
    assert len(pulls) == 2
    assert set(fleet.running()) == {"one-app-1"}


def test_values_reach_compose_in_the_order_of_the_layout(fleet: Fleet) -> None:
    names = ("GLOBAL", "GLOBAL_SECRET", "HOST", "HOST_SECRET", "STACK", "STACK_SECRET")

    def lines(place: str, first: int) -> str:
        chosen = [n for i, n in enumerate(names) if i >= first]
        return "".join(f"{name}={place}\n" for name in chosen)

    key = [fleet.box.age.recipient]
    environment = ", ".join(f"{name}: '${{{name}}}'" for name in names)
    fleet.commit(
        "first",
        {
            "host/media/stacks.yaml": "- one\n",
            "global/a.env": lines("global", 0),
            "global/a.secret.env": fleet.box.encrypt(lines("global secret $x", 1), key),
            "host/media/a.env": lines("host", 2),
            "host/media/a.secret.env": fleet.box.encrypt(lines("host secret", 3), key),
            "stacks/one/.env": lines("stack", 4),
            "stacks/one/a.secret.env": fleet.box.encrypt(lines("stack secret", 5), key),
            "stacks/one/compose.yaml": fleet.compose(more=f"    environment: {{{environment}}}\n"),
        },
    )
    assert fleet.host().once().returncode == 0
    seen = fleet.environment("one-app-1")
    assert {name: seen[name] for name in names} == {
        "GLOBAL": "global",
        "GLOBAL_SECRET": "global secret $x",
        "HOST": "host",
        "HOST_SECRET": "host secret",
        "STACK": "stack",
        "STACK_SECRET": "stack secret",
    }


def test_the_agents_own_environment_does_not_leak_into_stacks(fleet: Fleet) -> None:
    fleet.commit(
        "first",
        {
            "host/media/stacks.yaml": "- one\n",
            "stacks/one/compose.yaml": fleet.compose(
                more="    environment: {LEAK: '${COMMITD_CONFIG:-clean}'}\n"
            ),
        },
    )
    assert fleet.host().once().returncode == 0
    assert fleet.environment("one-app-1")["LEAK"] == "clean"


@pytest.mark.parametrize("harm", ["stop", "kill", "rm --force"])
def test_a_declared_container_that_was_harmed_comes_back(fleet: Fleet, harm: str) -> None:
    fleet.commit(
        "first",
        {
            "host/media/stacks.yaml": "- one\n",
            "stacks/one/compose.yaml": fleet.compose(more="    restart: always\n"),
        },
    )
    host = fleet.host()
    with host.running() as agent:
        agent.says("in sync with")
        fleet.box.engine.run(*harm.split(), "one-app-1")
        # Right after a kill the engine may still call it running.
        wait_until(
            lambda: host.json("history", "one")[0]["reason"] == "drifted", what="it to be repaired"
        )
        wait_until(lambda: "one-app-1" in fleet.running(), what="the container to come back")


def test_an_agent_killed_in_the_middle_is_continued_by_the_next(fleet: Fleet) -> None:
    slow = (
        "    healthcheck: {test: ['CMD', 'test', '-e', '/go'], interval: 1s, retries: 100}\n"
        "  second:\n"
        f"    image: {fleet.idle}\n    network_mode: host\n"
        "    depends_on: {app: {condition: service_healthy}}\n"
    )
    fleet.commit(
        "first",
        {"host/media/stacks.yaml": "- one\n", "stacks/one/compose.yaml": fleet.compose(more=slow)},
    )
    host = fleet.host()
    with host.running() as agent:
        wait_until(lambda: "one-app-1" in fleet.running(), what="the first service to run")
        assert host.json("history", "one")[0]["status"] == "running"
        assert agent.end(signal.SIGKILL) == -signal.SIGKILL
    fleet.box.engine.run("exec", "one-app-1", "touch", "/go")
    assert host.once().returncode == 0
    assert set(fleet.running()) == {"one-app-1", "one-second-1"}
    statuses = [entry["status"] for entry in host.json("history", "one")]
    assert statuses == ["succeeded", "cancelled"]


def test_the_repository_runs_nothing_on_the_host(fleet: Fleet, tmp_path: Path) -> None:
    canary = tmp_path / "ran"
    script = f"#!/bin/sh\ntouch {canary}\n"
    provider = "  evil:\n    provider: {type: ./bin/evil}\n"
    fleet.workspace.write({"stacks/one/bin/evil": script})
    (fleet.workspace.path / "stacks/one/bin/evil").chmod(0o755)
    fleet.commit(
        "first",
        {
            "host/media/stacks.yaml": "- one\n- two\n- three\n",
            "stacks/one/compose.yaml": fleet.compose(more=provider),
            "stacks/two/compose.yaml": "services:\n  app:\n    build: .\n",
            "stacks/three/compose.yaml": fleet.compose(),
        },
    )
    result = fleet.host().once()
    assert result.returncode == 1
    assert "provider: would run a program of the repository" in result.stderr
    assert "build: is not allowed" in result.stderr
    assert not canary.exists()
    assert set(fleet.running()) == {"three-app-1"}

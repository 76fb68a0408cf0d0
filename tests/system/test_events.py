"""A container that nobody declared is ended at once; one that is declared never."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.sandbox import SandboxError
from tests.sandbox.process import run, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.host import Host, RunningAgent
    from tests.system.conftest import Fleet


@pytest.fixture
def host(fleet: Fleet) -> Host:
    """An enrolled host with one stack, in sync."""
    return fleet.synced(
        {"host/media/stacks.yaml": "- one\n", "stacks/one/compose.yaml": fleet.compose()}
    )


@pytest.fixture
def agent(host: Host) -> Iterator[RunningAgent]:
    with host.running() as agent:
        agent.says("in sync with")
        yield agent


def _rogue(fleet: Fleet, name: str, *options: str) -> None:
    alone = ("--network", "host")  # to make one of its own is half of what it costs
    fleet.box.engine.run("run", "--detach", "--name", name, *alone, *options, fleet.idle)


def _gone(fleet: Fleet, name: str) -> None:
    wait_until(lambda: name not in fleet.running(), what=f"{name} to be ended")


def _shown(host: Host) -> dict[str, str]:
    """What status says of each container that nobody declared."""
    return {each["name"]: each["action"] for each in host.json("status")["undeclared"]}


def test_a_rogue_container_is_ended_kept_and_explained(
    fleet: Fleet, host: Host, agent: RunningAgent
) -> None:
    _rogue(fleet, "rogue", "--restart", "always", "--volume", "precious:/data")
    _gone(fleet, "rogue")
    wait_until(
        lambda: host.json("history")[0]["status"] == "succeeded", what="the eviction to be recorded"
    )
    entry = host.json("history")[0]
    assert (entry["action"], entry["subject"]) == ("evict", "rogue")
    assert entry["reason"] == "no-project"
    kept = [c for c in fleet.box.engine.containers() if "commitd-evicted-rogue" in c["Names"][0]]
    assert len(kept) == 1
    detail = fleet.box.engine.inspect(kept[0]["Id"])
    assert detail["HostConfig"]["RestartPolicy"]["Name"] == "no"
    assert "precious" in fleet.box.engine.run("volume", "ls")
    wait_until(lambda: _shown(host) == {"rogue": "removed"}, what="status to say so")
    assert "one-app-1" in fleet.running()
    assert agent.process.poll() is None


def test_a_kept_container_that_became_declared_is_never_removed(fleet: Fleet, host: Host) -> None:
    host.config["undeclared"]["keep"] = "1s"
    host.write_config()
    fleet.workspace.write({"stacks/two/compose.yaml": fleet.compose()})
    by_hand = [
        "--project-name",
        "two",
        "--file",
        str(fleet.workspace.path / "stacks/two/compose.yaml"),
    ]
    run(
        [fleet.box.compose, *by_hand, "up", "--detach"],
        env={"DOCKER_HOST": fleet.box.engine.host},
    )
    with host.running() as agent:
        agent.says("two-app-1")
        _gone(fleet, "two-app-1")
        fleet.commit("two", {"host/media/stacks.yaml": "- one\n- two\n"})
        wait_until(
            lambda: {"one-app-1", "two-app-1"} <= set(fleet.running()),
            what="two to run under its own name",
        )
    assert host.once().returncode == 0
    assert {"one-app-1", "two-app-1"} <= set(fleet.running())
    names = [c["Names"][0] for c in fleet.box.engine.containers()]
    assert not [name for name in names if "commitd-evicted" in name]


def test_a_project_of_somebody_else_is_undeclared_too(
    fleet: Fleet, host: Host, agent: RunningAgent
) -> None:
    _rogue(fleet, "foreign", "--label", "com.docker.compose.project=foreign")
    _gone(fleet, "foreign")
    assert host.json("history")[0]["reason"] == "unknown-project"
    assert agent.process.poll() is None


def test_it_is_ended_while_a_stack_is_still_converging(
    fleet: Fleet, host: Host, agent: RunningAgent
) -> None:
    blocked = (
        "    healthcheck: {test: ['CMD', 'test', '-e', '/go'], interval: 1s, retries: 100}\n"
        "  second:\n"
        f"    image: {fleet.idle}\n    network_mode: host\n"
        "    depends_on: {app: {condition: service_healthy}}\n"
    )
    fleet.commit(
        "slow",
        {
            "host/media/stacks.yaml": "- one\n- slow\n",
            "stacks/slow/compose.yaml": fleet.compose(more=blocked),
        },
    )
    wait_until(lambda: "slow-app-1" in fleet.running(), what="the slow stack to begin")
    _rogue(fleet, "rogue")
    _gone(fleet, "rogue")
    assert host.json("history", "slow")[0]["status"] == "running"
    fleet.box.engine.run("exec", "slow-app-1", "touch", "/go")
    wait_until(lambda: "slow-second-1" in fleet.running(), what="the slow stack to end")
    assert agent.process.poll() is None


def test_after_the_engine_restarted_the_watch_goes_on(
    fleet: Fleet, host: Host, agent: RunningAgent
) -> None:
    fleet.box.engine.stop()
    agent.says("not known: the engine does not answer")
    fleet.box.engine.start()
    wait_until(lambda: "one-app-1" in fleet.running(), what="the stack to come back")
    _rogue(fleet, "rogue")
    _gone(fleet, "rogue")
    wait_until(
        lambda: host.json("status")["stacks"][0]["sync"] == "synced", what="the repair to be done"
    )
    assert "Traceback" not in agent.log


def test_what_started_while_no_agent_ran_is_found_by_the_listing(fleet: Fleet, host: Host) -> None:
    _rogue(fleet, "rogue")
    assert host.once().returncode == 0
    assert "rogue" not in fleet.running()


def test_before_enrolment_it_is_reported_and_left_alone(fleet: Fleet) -> None:
    fleet.box.engine.pull(fleet.idle)
    _rogue(fleet, "first-here")
    fleet.commit(
        "first", {"host/media/stacks.yaml": "- one\n", "stacks/one/compose.yaml": fleet.compose()}
    )
    host = fleet.host(enrolled=False)
    result = host.once()
    assert result.returncode == 3
    assert "first-here" in result.stderr
    assert "commitd enroll" in result.stderr
    with host.running() as agent:
        agent.says("in sync with" if result.returncode == 0 else "waiting for a person")
        _rogue(fleet, "second")
        wait_until(
            lambda: any(u["name"] == "second" for u in host.json("status")["undeclared"]),
            what="the second one to be reported",
        )
    assert {"first-here", "second"} <= set(fleet.running())


def test_a_one_off_of_a_declared_stack_is_left_alone(
    fleet: Fleet, host: Host, agent: RunningAgent
) -> None:
    labels = ("project=one", "service=app", "oneoff=True")
    options = [word for label in labels for word in ("--label", f"com.docker.compose.{label}")]
    _rogue(fleet, "session", *options)
    _rogue(fleet, "marker")
    _gone(fleet, "marker")
    assert "session" in fleet.running()
    wait_until(lambda: _shown(host).get("marker") == "removed", what="status to say so")
    assert _shown(host).get("session", "exempt") == "exempt"
    assert agent.process.poll() is None


def test_a_container_with_volumes_that_would_die_with_it_is_not_stopped(
    fleet: Fleet, host: Host, agent: RunningAgent
) -> None:
    _rogue(fleet, "throwaway", "--rm", "--volume", "/data")
    agent.says("stopping it would delete its anonymous volumes")
    wait_until(lambda: _shown(host) == {"throwaway": "reported"}, what="status to say so")
    assert "throwaway" in fleet.running()


def test_containers_that_vanish_on_their_own_trouble_nobody(
    fleet: Fleet, host: Host, agent: RunningAgent
) -> None:
    for _ in range(5):
        with contextlib.suppress(SandboxError):
            fleet.box.engine.run("run", "--rm", fleet.idle, "/bin/true")
    _rogue(fleet, "rogue")
    _gone(fleet, "rogue")
    assert "Traceback" not in agent.log
    wait_until(
        lambda: host.json("status")["stacks"][0]["sync"] == "synced", what="the stack to be in sync"
    )


def test_rogues_are_ended_within_a_second_while_stacks_converge(fleet: Fleet, host: Host) -> None:
    """The bound is a promise to users; it is wide of what is measured by `make bench`."""
    names = [f"s{i}" for i in range(6)]
    with host.running() as agent:
        agent.says("in sync with")
        fleet.commit(
            "many",
            {
                "host/media/stacks.yaml": "- one\n" + "".join(f"- {n}\n" for n in names),
                **{f"stacks/{name}/compose.yaml": fleet.compose() for name in names},
            },
        )
        started: dict[str, float] = {}
        ended: dict[str, float] = {}

        def watch() -> None:
            while len(ended) < 3:
                known = list(started)
                running = fleet.running()
                for name in known:
                    if name not in running:
                        ended.setdefault(name, time.monotonic())

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        for i in range(3):
            _rogue(fleet, f"rogue-{i}")
            started[f"rogue-{i}"] = time.monotonic()
        watcher.join(timeout=60)
        assert len(ended) == 3
        wait_until(
            lambda: {f"{n}-app-1" for n in names} <= set(fleet.running()), what="all stacks to run"
        )

"""What nobody declared and is let be all the same: by rules from Git, or by order of a person."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.process import run, wait_until

if TYPE_CHECKING:
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

PROJECT = "com.docker.compose.project"


@pytest.fixture
def host(fleet: Fleet) -> Host:
    """An enrolled host with one stack, in sync, where the presets and two globs are allowed."""
    return fleet.synced(
        {
            "host/media/stacks.yaml": "- one\n",
            "stacks/one/compose.yaml": fleet.compose(),
            "global/commitd.yaml": "allow:\n- preset: ci-runners\n- preset: buildx\n",
            "host/media/commitd.yaml": "allow:\n- name: portainer_*\n- label: tool=yes\n",
        }
    )


def _start(fleet: Fleet, name: str, *options: str) -> None:
    fleet.box.engine.run("run", "--detach", "--name", name, *options, fleet.idle)


def _gone(fleet: Fleet, name: str) -> None:
    wait_until(lambda: name not in fleet.running(), what=f"{name} to be ended")


def _compose(fleet: Fleet, *words: str, project: str = "one") -> None:
    file = str(fleet.workspace.path / "stacks" / project / "compose.yaml")
    run(
        [fleet.box.compose, "--project-name", project, "--file", file, *words],
        env={"DOCKER_HOST": fleet.box.engine.host},
    )


def test_tools_of_people_and_runners_are_let_be_and_shown(fleet: Fleet, host: Host) -> None:
    box = fleet.box
    box.engine.run("network", "create", "github_network_5e1f")
    with host.running() as agent:
        agent.says("in sync with")
        _start(fleet, "buildx_buildkit_builder0")
        _start(fleet, "GITEA-ACTIONS-TASK-7_WORKFLOW-test_JOB-unit")
        _start(fleet, "f00d_node22_1a2b", "--network", "github_network_5e1f")
        _start(fleet, "portainer_agent", "--restart", "always")
        _start(fleet, "labelled", "--label", "tool=yes", "--rm")
        _start(fleet, "task", "--label", "com.docker.swarm.task.id=abc")
        _compose(fleet, "run", "--detach", "--name", "session", "app")
        exempted = set(fleet.running())
        _start(fleet, "labelled-no", "--label", "tool=no")
        _gone(fleet, "labelled-no")
        assert set(fleet.running()) == exempted
        agent.send(signal.SIGUSR1)
        wait_until(
            lambda: (
                len([u for u in host.json("status")["undeclared"] if u["action"] == "exempt"])
                == len(exempted) - 1
            ),
            what="all that is let be to be shown",
        )
    shown = {u["name"]: u["message"] for u in host.json("status")["undeclared"]}
    assert shown["portainer_agent"] == "allowed by a rule: host/media/commitd.yaml:2"
    assert shown["buildx_buildkit_builder0"] == "allowed by a rule: global/commitd.yaml:3"
    assert shown["task"] == "a Swarm task"
    fleet.commit("nothing is allowed any more", {"host/media/commitd.yaml": None})
    assert host.once().returncode == 0
    assert exempted - set(fleet.running()) == {"portainer_agent", "labelled"}


def test_with_a_policy_that_cannot_be_read_nothing_is_removed(fleet: Fleet, host: Host) -> None:
    fleet.commit(
        "typo",
        {
            "global/commitd.yaml": "alow: []\n",
            "host/media/stacks.yaml": "- two\n",
            "stacks/two/compose.yaml": fleet.compose(),
        },
    )
    _start(fleet, "rogue")
    result = host.once()
    assert result.returncode == 1
    assert "global/commitd.yaml:1: unknown key 'alow' (did you mean 'allow'?)" in result.stdout
    assert {"rogue", "one-app-1", "two-app-1"} <= set(fleet.running())


def test_what_was_ended_comes_back_as_it_was_for_a_time(fleet: Fleet, host: Host) -> None:
    _start(fleet, "rogue", "--restart", "always", "--volume", "precious:/data")
    before = fleet.running()["rogue"]
    fleet.box.engine.run("exec", "rogue", "sh", "-c", "echo kept > /note")
    with host.running() as agent:
        _gone(fleet, "rogue")
        agent.says("rogue (")
        wait_until(lambda: host.json("history")[0]["status"] == "succeeded", what="its record")
        assert host.commitd("undo", "nobody").returncode == 1
        result = host.commitd("undo", before[:12], "--for", "1h")
        assert result.returncode == 0, result.stderr

        def told() -> list[str]:
            shown = host.json("status")["undeclared"]
            return [each["action"] for each in shown if each["id"] == before]

        wait_until(lambda: told() == ["exempt"], what="it to be let be, and not removed as well")
        _start(fleet, "marker")
        _gone(fleet, "marker")
        assert fleet.running()["rogue"] == before
    detail = fleet.box.engine.inspect("rogue")
    assert detail["HostConfig"]["RestartPolicy"]["Name"] == "always"
    assert fleet.box.engine.run("exec", "rogue", "cat", "/note") == "kept\n"
    host.config["undeclared"]["keep"] = "1s"
    host.write_config()
    assert host.once().returncode == 0
    assert fleet.running()["rogue"] == before
    assert host.commitd("undo", "rogue", "--for", "100ms").returncode == 0
    wait_until(
        lambda: host.once().returncode == 0 and "rogue" not in fleet.running(),
        what="it to be ended once the time is over",
    )


def test_a_suspended_stack_is_a_persons_until_its_time_is_over(fleet: Fleet, host: Host) -> None:
    assert "did you mean 'one'" in host.commitd("suspend", "on").stderr
    result = host.commitd("suspend", "one", "--for", "1h", "--reason", "looking")
    assert result.returncode == 0, result.stderr
    with host.running() as agent:
        agent.says("suspended: one")
        fleet.box.engine.run("rm", "--force", "one-app-1")
        _start(fleet, "mine", "--label", f"{PROJECT}=one")
        _start(fleet, "rogue")
        _gone(fleet, "rogue")
        fleet.commit(
            "change", {"stacks/one/compose.yaml": fleet.compose(more="    hostname: other\n")}
        )
        agent.says("change by ")
        _start(fleet, "rogue2")
        _gone(fleet, "rogue2")
        assert set(fleet.running()) == {"mine"}
        status = host.json("status")
        assert [s["sync"] for s in status["stacks"]] == ["suspended"]
        assert "looking" in status["holds"][0]["message"]
        assert "suspended: one" in status["verdict"]
        assert "‖ one" in host.commitd("status").stdout
    assert host.once().returncode == 0  # a new agent knows it too
    assert set(fleet.running()) == {"mine"}
    assert host.commitd("resume", "two").returncode == 2
    assert host.commitd("resume", "one").returncode == 0
    assert host.once().returncode == 0
    assert set(fleet.running()) == {"one-app-1"}
    assert fleet.box.engine.inspect("one-app-1")["Config"]["Hostname"] == "other"


def test_a_suspended_host_keeps_its_commit_its_edits_and_its_rogues(
    fleet: Fleet, host: Host
) -> None:
    assert host.commitd("suspend", "--host", "-y", "--reason", "3 a.m.").returncode == 0
    edited = host.repo / "stacks/one/compose.yaml"
    edited.write_text("# mine\n")
    _start(fleet, "rogue")
    fleet.box.engine.run("stop", "--time", "0", "one-app-1")
    fleet.commit(
        "change",
        {
            "host/media/stacks.yaml": "- one\n- two\n",
            "stacks/two/compose.yaml": fleet.compose(),
        },
    )
    result = host.once()
    assert result.returncode == 0
    assert "suspended at " in result.stdout
    assert set(fleet.running()) == {"rogue"}
    assert edited.read_text() == "# mine\n"
    assert host.json("status")["verdict"].split(": ")[-1].startswith("suspended at ")
    assert host.commitd("resume").returncode == 0
    assert host.once().returncode == 0
    assert set(fleet.running()) == {"one-app-1", "two-app-1"}
    assert edited.read_text() != "# mine\n"

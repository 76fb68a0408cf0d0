"""What a person does to a declared container by hand is put right, and nothing of it is lost."""

from __future__ import annotations

import subprocess
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox import SandboxError
from tests.sandbox.engine import EngineError
from tests.sandbox.process import run, wait_until

if TYPE_CHECKING:
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

VOLUME = "    stop_grace_period: 0s\n    volumes: [data:/data]\nvolumes: {data: {}}\n"


@pytest.fixture
def host(fleet: Fleet) -> Host:
    return fleet.synced(
        {
            "host/media/stacks.yaml": "- one\n",
            "stacks/one/compose.yaml": fleet.compose(more=VOLUME),
        }
    )


def _compose(fleet: Fleet, *words: str, file: str | None = None) -> list[str]:
    path = file or str(fleet.workspace.path / "stacks/one/compose.yaml")
    return [str(fleet.box.compose), "--project-name", "one", "--file", path, *words]


def _by_hand(fleet: Fleet, *words: str, file: str | None = None) -> None:
    run(_compose(fleet, *words, file=file), env={"DOCKER_HOST": fleet.box.engine.host})


def _hashes(fleet: Fleet) -> dict[str, str]:
    return {
        c["Names"][0].lstrip("/"): c["Labels"]["com.docker.compose.config-hash"]
        for c in fleet.box.engine.containers(all=False)
    }


def test_whatever_is_done_to_them_by_hand_is_put_right_by_the_event(fleet: Fleet) -> None:
    def by_hand(stack: str, *words: str, file: str = "compose.yaml") -> list[str]:
        path = fleet.workspace.path / "stacks" / stack / file
        return ["compose", "--project-name", stack, "--file", str(path), *words]

    obedient = 'trap "exit 0" TERM; sleep 999 & wait'
    deeds: dict[str, list[str]] = {
        "stopped": ["stop", "--time", "0", "stopped-app-1"],
        "ended": ["stop", "ended-app-1"],
        "killed": ["kill", "killed-app-1"],
        "removed": ["rm", "--force", "removed-app-1"],
        "renamed": ["rename", "renamed-app-1", "mine"],
        "called": ["rename", "solo", "mine-too"],
        "paused": ["pause", "paused-app-1"],
        "scaled": by_hand("scaled", "up", "--detach", "--scale", "app=3"),
        "recreated": by_hand("recreated", "up", "--detach", file="other.yaml"),
    }
    files: dict[str, str | bytes | None] = {
        "host/media/stacks.yaml": "".join(f"- {name}\n" for name in deeds),
        **{f"stacks/{name}/compose.yaml": fleet.compose(more=VOLUME) for name in deeds},
        "stacks/called/compose.yaml": fleet.compose(more="    container_name: solo\n"),
        # Compose's own restart policy is none, and this process ends with 0 when it is told to.
        "stacks/ended/compose.yaml": fleet.compose(more=f"    command: [sh, -c, '{obedient}']\n"),
        "stacks/recreated/other.yaml": fleet.compose(more="    hostname: mine\n" + VOLUME),
    }
    fleet.commit("first", files)
    host = fleet.host()
    # Nothing else may wake the agent: what puts it right is the event.
    host.config["remotes"][0]["poll"] = "1h"
    host.write_config()
    with host.running() as agent:
        agent.says("in sync with")
        right, volumes = _hashes(fleet), fleet.box.engine.run("volume", "ls", "--quiet")
        for words in deeds.values():
            if words[0] == "compose":
                # On a slow machine the agent puts right what Compose has not quite done.
                with suppress(SandboxError):
                    run([fleet.box.compose, *words[1:]], env={"DOCKER_HOST": fleet.box.engine.host})
            else:
                fleet.box.engine.run(*words)

        # What a person added took nobody's place: it is evicted, and nothing has to be deployed.
        drifted = deeds.keys() - {"scaled"}

        def repaired() -> bool:
            paused = "paused-app-1" in fleet.running() and _paused(fleet, "paused-app-1")
            return _hashes(fleet) == right and not paused and _restarts(host).keys() == drifted

        wait_until(repaired, what="all of them to be put right", seconds=180)
    restarts = _restarts(host)
    causes = {name: {cause["kind"] for cause in found} for name, found in restarts.items()}
    assert causes.keys() == drifted
    evicted = {e["subject"]: e["reason"] for e in host.json("history") if e["action"] == "evict"}
    assert evicted == dict.fromkeys(("scaled-app-2", "scaled-app-3"), "unknown-container")
    assert "container-name" in causes["renamed"]
    assert "container-name" in causes["called"]
    assert "state" in causes["paused"]
    assert "config-hash" in causes["recreated"]
    assert fleet.box.engine.run("volume", "ls", "--quiet") == volumes


def _paused(fleet: Fleet, container: str) -> bool:
    return bool(fleet.box.engine.inspect(container)["State"]["Paused"])


def _restarts(host: Host) -> dict[str, list[dict[str, Any]]]:
    """Of each stack that was put right, why it was the first time."""
    return {e["subject"]: e["cause"] for e in host.json("history") if e["action"] == "restart"}


def test_networks_limits_and_restart_policy_changed_by_hand_are_put_right(fleet: Fleet) -> None:
    """By the event; what was done while no agent ran, when it starts. Without a new container
    where the engine can change it back."""
    deeds: dict[str, list[list[str]]] = {
        "lost": [["network", "disconnect", "one_default", "one-lost-1"]],
        "extra": [["network", "connect", "one_other", "one-extra-1"]],
        "nameless": [
            ["network", "disconnect", "one_other", "one-nameless-1"],
            ["network", "connect", "one_other", "one-nameless-1"],
        ],
        "less": [["update", "--memory", "50m", "--memory-swap", "90m", "one-less-1"]],
        "limited": [["update", "--cpus", "0.5", "one-limited-1"]],
        "policy": [["update", "--restart", "no", "one-policy-1"]],
    }
    more = {
        "nameless": ", networks: {default: {}, other: {aliases: [called]}}",
        "less": ", network_mode: host, mem_limit: 60m",
        "limited": ", network_mode: host",
        "policy": ", network_mode: host, restart: always",
        "untouched": "",
    }
    services = "".join(
        f"  {name}: {{image: '{fleet.idle}'{more.get(name, '')}}}\n"
        for name in (*deeds, "untouched")
    )
    file = f"services:\n{services}networks: {{other: {{}}}}\n"
    fleet.commit("first", {"host/media/stacks.yaml": "- one\n", "stacks/one/compose.yaml": file})
    host = fleet.host()
    host.config["remotes"][0]["poll"] = "1h"
    host.write_config()

    def shown() -> dict[str, tuple[Any, ...]]:
        found = {}
        for name in (*deeds, "untouched"):
            raw = fleet.box.engine.inspect(f"one-{name}-1")
            networks = raw["NetworkSettings"]["Networks"]
            found[name] = (
                {
                    n: sorted({*(e["Aliases"] or ())} - {raw["Id"][:12]})
                    for n, e in networks.items()
                },
                raw["HostConfig"]["Memory"],
                raw["HostConfig"]["NanoCpus"],
                raw["HostConfig"]["RestartPolicy"]["Name"] in {"", "no"},
            )
        return found

    def act() -> None:
        for words in (words for each in deeds.values() for words in each):
            # On a slow machine the agent has put it right between the two words of one deed.
            with suppress(SandboxError) if words[:2] == ["network", "connect"] else nullcontext():
                fleet.box.engine.run(*words)

    def are_right() -> bool:
        with suppress(EngineError):  # one of them is just made anew
            return shown() == right
        return False

    with host.running() as agent:
        agent.says("in sync with")
        right, before = shown(), fleet.running()
        act()
        wait_until(are_right, what="all of them to be put right", seconds=120)
        # On a slow machine some of it is changed after a first repair, which is held for seconds.
        wait_until(
            lambda: all(
                e["status"] == "succeeded" for e in host.json("history") if e["action"] != "hold"
            ),
            what="the repairs to be done",
        )
    after = fleet.running()
    anew = {
        name for name in (*deeds, "untouched") if before[f"one-{name}-1"] != after[f"one-{name}-1"]
    }
    assert anew == {"lost", "nameless", "limited"}
    act()
    with host.running():
        wait_until(are_right, what="all of them to be put right", seconds=180)
    found = {
        (cause["service"], cause["kind"], cause["name"])
        for entry in host.json("history")
        for cause in entry["cause"]
    }
    assert found >= {
        ("lost", "network", "one_default"),
        ("less", "setting", "Memory"),
        ("policy", "setting", "RestartPolicy"),
    }


def test_a_limit_that_cannot_be_set_back_costs_a_new_container_and_no_release(
    fleet: Fleet,
) -> None:
    """More is in use than the limit that the file sets: the engine refuses it."""
    eats = "head -c 80m /dev/zero | tail -c 80m | sleep 300"
    more = "    mem_limit: 30m\n"
    other = f"  other: {{image: '{fleet.idle}', network_mode: host"
    first = fleet.compose(more=more) + f"{other}}}\n"
    host = fleet.synced({"host/media/stacks.yaml": "- one\n", "stacks/one/compose.yaml": first})
    fleet.box.engine.run("update", "--memory", "200m", "--memory-swap", "200m", "one-app-1")
    fleet.box.engine.run("exec", "--detach", "one-app-1", "sh", "-c", eats)
    wait_until(lambda: _memory(fleet, "one-app-1") > 40e6, what="the memory to be in use")
    second = fleet.compose(more=more) + f"{other}, hostname: second}}\n"
    fleet.commit("second", {"stacks/one/compose.yaml": second})
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    assert "it needs a new container" in result.stderr + result.stdout
    assert fleet.box.engine.inspect("one-app-1")["HostConfig"]["Memory"] == 30 * 1024**2
    assert fleet.box.engine.inspect("one-other-1")["Config"]["Hostname"] == "second"


def test_a_limit_changed_by_hand_during_a_deploy_is_not_taken_for_the_right_one(
    fleet: Fleet,
) -> None:
    """Of a container that the deploy does not touch; nothing else would ever tell of it."""
    limited = f"  limited: {{image: '{fleet.idle}', network_mode: host, mem_limit: 60m}}\n"
    check = "healthcheck: {test: [CMD, test, -e, /ok], interval: 1s, start_period: 300s}"
    slow = f"    {check}\n    hostname: second\n"
    files = {"host/media/stacks.yaml": "- one\n"}
    compose = "stacks/one/compose.yaml"
    host = fleet.synced({**files, compose: fleet.compose() + limited})
    engine = fleet.box.engine

    def probed() -> bool:
        with suppress(EngineError):  # the older one has gone, the new one has not the name yet
            return bool(engine.inspect("one-app-1")["State"].get("Health", {}).get("Log"))
        return False

    with host.running() as agent:
        agent.says("in sync with")
        sha = fleet.commit("second", {compose: fleet.compose(more=slow) + limited})
        wait_until(probed, what="the new container to be waited for")
        engine.run("update", "--memory", "50m", "--memory-swap", "90m", "one-limited-1")
        engine.run("exec", "one-app-1", "touch", "/ok")
        agent.says(f"in sync with {sha[:7]}")
        wait_until(
            lambda: engine.inspect("one-limited-1")["HostConfig"]["Memory"] == 60 * 1024**2,
            what="the limit to be set back",
        )


def _memory(fleet: Fleet, container: str) -> int:
    """Bytes of it that are resident."""
    pages = fleet.box.engine.run("exec", container, "sh", "-c", "cat /proc/[0-9]*/statm")
    return sum(int(line.split()[1]) * 4096 for line in pages.splitlines())


def test_what_no_start_brings_back_is_made_anew_with_its_data(fleet: Fleet) -> None:
    """Its network was pruned while it was stopped, or the owner of its network is another one."""
    image = f"image: '{fleet.idle}'"
    lines = {
        "web": f"{{{image}, volumes: [/anonymous]}}",
        "after": f"{{{image}, depends_on: {{web: {{condition: service_started}}}}}}",
        "vpn": f"{{{image}, container_name: vpn}}",
        "inside": f"{{{image}, network_mode: 'container:vpn', depends_on: [vpn]}}",
    }
    services = "services:\n" + "".join(f"  {name}: {how}\n" for name, how in lines.items())
    host = fleet.synced({"host/media/stacks.yaml": "- one\n", "stacks/one/compose.yaml": services})
    names = set(fleet.running())
    fleet.box.engine.run("exec", "one-web-1", "touch", "/anonymous/precious")
    fleet.box.engine.run("stop", "--time", "0", *names)
    fleet.box.engine.run("rm", "vpn")
    fleet.box.engine.run("network", "prune", "--force")
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    assert set(fleet.running()) == names
    assert "precious" in fleet.box.engine.run("exec", "one-web-1", "ls", "/anonymous")


def test_what_drifts_again_and_again_is_repaired_less_and_less_often(
    fleet: Fleet, host: Host
) -> None:
    fleet.box.engine.run("rm", "--force", "one-app-1")
    assert host.once().returncode == 0
    fleet.box.engine.run("rm", "--force", "one-app-1")
    result = host.once()
    assert result.returncode == 1
    assert "it drifted again after a repair: one/app containers" in result.stdout
    assert "one-app-1" not in fleet.running()


def test_agent_and_person_at_once_lose_nothing(fleet: Fleet, host: Host) -> None:
    for number in range(2):
        more = f"    hostname: h{number}\n" + VOLUME
        fleet.commit("change", {"stacks/one/compose.yaml": fleet.compose(more=more)})
        hands = [
            subprocess.Popen(
                _compose(fleet, "up", "--detach"),
                env={"DOCKER_HOST": fleet.box.engine.host},
                stderr=subprocess.DEVNULL,
            )
            for _ in range(2)
        ]
        host.once()
        assert all(hand.wait(timeout=240) is not None for hand in hands)
    wait_until(lambda: host.once().returncode == 0, what="the host to be in sync")
    (detail,) = [
        fleet.box.engine.inspect(c["Id"])
        for c in fleet.box.engine.containers(all=False)
        if c["Labels"]["com.docker.compose.project"] == "one"
    ]
    assert detail["Config"]["Hostname"] == "h1"
    assert detail["Name"] == "/one-app-1"
    assert detail["Mounts"][0]["Name"] == "one_data"


def test_a_second_agent_with_other_directories_leaves_the_engine_alone(
    fleet: Fleet, host: Host
) -> None:
    other = fleet.host()
    with host.running() as agent:
        agent.says("in sync with")
        result = other.once()
        assert result.returncode == 3
        assert f"another agent works on this engine (process {agent.process.pid})" in result.stderr
        agent.process.kill()
        agent.process.wait()
    assert other.once().returncode == 0

"""What is ended is kept, comes back as it was, and goes for good only when its time is over."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.adapters.state.journal import Journal
from agent.domain.container import KEPT_PREFIX
from agent.domain.outcome import Reason
from tests.sandbox.engine_proxy import EngineProxy
from tests.sandbox.process import run, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.adapters.state.actions import JournalEntry
    from tests.sandbox.engine_proxy import Request
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

_ROOT = Path(__file__).parents[2]
_PROJECT, _SERVICE = "com.docker.compose.project", "com.docker.compose.service"
_LIST = "host/media/stacks.yaml"
_STUBBORN = ("--stop-signal", "SIGCONT", "--stop-timeout", "600")  # ends no process, however young


def _host(fleet: Fleet, **undeclared: Any) -> Host:
    """An enrolled host for which nothing is declared yet."""
    fleet.commit("nothing yet", {_LIST: "[]\n"})
    return fleet.host(undeclared={"stop_timeout": "1s", **undeclared})


@pytest.fixture
def proxy(fleet: Fleet) -> Iterator[EngineProxy]:
    with EngineProxy(fleet.box.engine.socket, fleet.box.root / "keeping.sock") as proxy:
        yield proxy


def _start(fleet: Fleet, name: str, *options: str, image: str | None = None) -> str:
    """Start a container as people do; its ID."""
    words = ("run", "--detach", "--name", name, *options, image or fleet.idle)
    return fleet.box.engine.run(*words).strip()


def _of(project: str, service: str) -> tuple[str, ...]:
    return ("--label", f"{_PROJECT}={project}", "--label", f"{_SERVICE}={service}")


def _compose_up(fleet: Fleet, project: str) -> str:
    """Start a stack of the workspace by hand; the ID of its service `app`."""
    file = fleet.workspace.path / "stacks" / project / "compose.yaml"
    run(
        [fleet.box.compose, "--project-name", project, "--file", file, "up", "--detach"],
        env={"DOCKER_HOST": fleet.box.engine.host},
    )
    return fleet.running()[f"{project}-app-1"]


def _name(fleet: Fleet, container: str) -> str:
    return str(fleet.box.engine.inspect(container)["Name"]).lstrip("/")


def _restart(fleet: Fleet, container: str) -> Any:
    return fleet.box.engine.inspect(container)["HostConfig"]["RestartPolicy"]


def _volumes(fleet: Fleet, *containers: str) -> set[str]:
    """Those of these containers, or all."""
    if not containers:
        return set(fleet.box.engine.run("volume", "ls", "--quiet").split())
    inspected = [fleet.box.engine.inspect(container) for container in containers]
    return {mount["Name"] for detail in inspected for mount in detail["Mounts"]}


def _entries(host: Host, action: str, subject: str) -> list[JournalEntry]:
    """What the history says of it, newest first; quicker than by the verb, so for waiting too."""
    with contextlib.closing(Journal(host.state / "journal.db", read_only=True)) as journal:
        return [e for e in journal.history(subject=subject) if e.action == action]


def _running(host: Host, action: str, *subjects: str) -> bool:
    """Whether that is going on for each of them."""
    found = [_entries(host, action, subject) for subject in subjects]
    return all(entries and entries[0].status == "running" for entries in found)


def _once(host: Host) -> subprocess.Popen[str]:
    """A cycle that is not waited for."""
    return subprocess.Popen(
        [sys.executable, "-m", "agent", "once"],
        env=host.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=_ROOT,
    )


def _once_killed_at(host: Host, proxy: EngineProxy, kind: str) -> None:
    """A cycle whose agent is killed when it asks for this; the engine never hears of it."""

    def hook(_: int, request: Request) -> None:
        if agents and request.kind == kind:
            agents[0].kill()
            raise ConnectionAbortedError

    agents: list[subprocess.Popen[str]] = []
    proxy.on_effect(hook)
    agents.append(_once(host))
    said, _ = agents[0].communicate(timeout=240)
    proxy.on_effect(None)
    assert agents[0].returncode == -9, said


# --- undo -----------------------------------------------------------------------------------------


def test_undo_waits_for_an_eviction_that_goes_on_and_then_it_runs_as_it_was(fleet: Fleet) -> None:
    host = _host(fleet, stop_timeout="10m")
    with host.running() as agent:
        agent.says("in sync with")
        rogue = _start(fleet, "rogue", *_STUBBORN, "--restart", "always")
        wait_until(
            lambda: _running(host, "evict", "rogue") and _restart(fleet, rogue)["Name"] == "no",
            what="the eviction to go on",
        )
        undo = subprocess.Popen(
            [sys.executable, "-m", "agent", "undo", "rogue", "--for", "1h"],
            env=host.environment,
            cwd=_ROOT,
            stdout=subprocess.DEVNULL,
        )
        wait_until(lambda: _running(host, "restart", "rogue"), what="undo to begin")
        fleet.box.engine.run("kill", rogue)  # what the engine does when its patience is over
        assert undo.wait(timeout=240) == 0
        assert fleet.running() == {"rogue": rogue}
        assert _restart(fleet, rogue)["Name"] == "always"
        (evicted,), (brought,) = (_entries(host, a, "rogue") for a in ("evict", "restart"))
        assert (evicted.status, brought.status) == ("succeeded", "succeeded")
        _start(fleet, "marker")
        wait_until(lambda: "marker" not in fleet.running(), what="the marker to be ended")
    assert host.once().returncode == 0
    assert fleet.running() == {"rogue": rogue}


def test_what_a_person_starts_while_it_is_kept_is_ended_again_and_undo_still_knows_how_it_was(
    fleet: Fleet,
) -> None:
    host = _host(fleet)
    names = ("first", "second")
    ids = {name: _start(fleet, name, "--restart", "always") for name in names}
    assert host.once().returncode == 0
    assert fleet.running() == {}
    for container in ids.values():
        assert _name(fleet, container).startswith("commitd-evicted-")
    fleet.box.engine.run("rename", ids["second"], "mine")
    fleet.box.engine.run("update", "--restart", "unless-stopped", ids["second"])
    fleet.box.engine.run("start", *ids.values())
    result = host.once()
    assert result.returncode == 0, result.stdout
    assert fleet.running() == {}
    for name, container in ids.items():
        assert _restart(fleet, container)["Name"] == "no"
        assert _name(fleet, container).startswith("commitd-evicted-")
        assert host.commitd("undo", name).returncode == 0
        assert _restart(fleet, container)["Name"] == "always"
    assert fleet.running() == ids


# --- how and how many are ended -------------------------------------------------------------------


def test_in_mode_stop_it_keeps_its_name_and_is_as_it_was_when_a_stack_declares_it(
    fleet: Fleet,
) -> None:
    host = _host(fleet, mode="stop")
    fleet.workspace.write(
        {"stacks/two/compose.yaml": fleet.compose(more="    restart: unless-stopped\n")}
    )
    two = _compose_up(fleet, "two")
    before = _restart(fleet, two)
    assert host.once().returncode == 0
    assert fleet.running() == {}
    assert _name(fleet, two) == "two-app-1"
    assert _restart(fleet, two)["Name"] == "no"
    assert host.once().returncode == 0
    assert _name(fleet, two) == "two-app-1"
    fleet.commit("two", {_LIST: "- two\n"})
    with host.running():
        wait_until(
            lambda: fleet.running() == {"two-app-1": two} and _restart(fleet, two) == before,
            what="two to run as it was",
        )


def test_what_is_younger_than_the_grace_is_left_to_the_time_after_it(fleet: Fleet) -> None:
    host = _host(fleet, grace="1h")
    rogue = _start(fleet, "rogue")
    assert host.once().returncode == 0
    assert fleet.running() == {"rogue": rogue}
    assert _entries(host, "evict", "rogue") == []
    fleet.box.engine.run("restart", "--time", "0", "rogue")
    with contextlib.closing(Journal(host.state / "journal.db")) as journal:
        journal.put("first-seen", {rogue: time.time() - 3601})
    assert host.once().returncode == 0  # as old as it is, however young its process
    assert fleet.running() == {}
    host.config["undeclared"]["grace"] = "1s"
    host.write_config()
    with host.running() as agent:
        agent.says("in sync with")
        _start(fleet, "another")
        wait_until(lambda: fleet.running() == {}, what="another to be ended")


def test_more_than_so_many_a_minute_are_left_and_that_is_said_once(fleet: Fleet) -> None:
    host = _host(fleet, per_minute=2)
    rogues = {f"rogue-{i}" for i in range(5)}
    for name in rogues:
        _start(fleet, name)
    with host.running() as agent:
        agent.says("held: undeclared")
        wait_until(lambda: len(rogues & set(fleet.running())) == 3, what="two to be ended")
        files = {_LIST: "- one\n", "stacks/one/compose.yaml": fleet.compose()}
        for message, changed in (("a stack", files), ("a note", {"a": "1"}), ("last", {"a": "2"})):
            fleet.commit(message, changed)
            agent.says(f": {message} by ")  # the cycle before is over
        assert len(rogues & set(fleet.running())) == 3
        status = host.json("status")
    assert "one-app-1" in fleet.running()
    assert [hold["subject"] for hold in status["holds"]] == ["undeclared"]
    assert "2 or more were ended within a minute" in status["holds"][0]["message"]
    assert status["verdict"].endswith("held: undeclared")
    assert len(_entries(host, "hold", "undeclared")) == 1


def test_what_would_lose_its_volumes_is_left_and_that_is_said_once(fleet: Fleet) -> None:
    host = _host(fleet)
    _start(fleet, "throwaway", "--rm", "--volume", "/data")
    assert host.once().returncode == 3
    fleet.commit("one", {_LIST: "- one\n", "stacks/one/compose.yaml": fleet.compose()})
    for _ in range(2):
        assert host.once().returncode == 3
    assert set(fleet.running()) == {"throwaway", "one-app-1"}
    assert len(_entries(host, "hold", "throwaway")) == 1


def test_many_that_take_their_time_to_end_do_not_delay_the_next(fleet: Fleet) -> None:
    host = _host(fleet, stop_timeout="10m")
    stubborn = {f"stubborn-{i}" for i in range(8)}
    with host.running() as agent:
        agent.says("in sync with")
        for name in stubborn:
            _start(fleet, name, *_STUBBORN)
        wait_until(lambda: _running(host, "evict", *stubborn), what="all to be told to end")
        _start(fleet, "obedient")
        wait_until(lambda: "obedient" not in fleet.running(), what="it to be ended")
        assert set(fleet.running()) == stubborn
        fleet.box.engine.run("kill", *stubborn)


def test_tools_that_are_allowed_by_a_preset_are_let_be(fleet: Fleet) -> None:
    fleet.commit(
        "presets",
        {
            _LIST: "[]\n",
            "global/commitd.yaml": "allow:\n- preset: devcontainers\n- preset: testcontainers\n",
        },
    )
    host = fleet.host()
    reaper = "testcontainers/ryuk:0.11.0"
    fleet.box.engine.pull(fleet.idle)
    fleet.box.engine.run("tag", fleet.idle, reaper)
    with host.running() as agent:
        agent.says("in sync with")
        tools = {
            "editor": _start(fleet, "editor", "--label", "devcontainer.local_folder=/home/me/it"),
            "server": _start(fleet, "server", "--label", "vsch.quality=stable"),
            "it_devcontainer-db-1": _start(
                fleet, "it_devcontainer-db-1", *_of("it_devcontainer", "db")
            ),
            "postgres": _start(fleet, "postgres", "--label", "org.testcontainers=true", "--rm"),
            "reaper": _start(fleet, "reaper", "--rm", image=reaper),
        }
        _start(fleet, "marker", *_of("devcontainer", "db"), "--label", "testcontainers=true")
        wait_until(lambda: "marker" not in fleet.running(), what="the marker to be ended")
    assert host.once().returncode == 0
    assert fleet.running() == tools
    shown = {u["name"]: u["message"] for u in host.json("status")["undeclared"]}
    editors = ("editor", "server", "it_devcontainer-db-1")
    assert {shown[name] for name in editors} == {"allowed by a rule: global/commitd.yaml:2"}
    assert {shown[name] for name in ("postgres", "reaper")} == {
        "allowed by a rule: global/commitd.yaml:3"
    }


# --- an eviction that was cut short ---------------------------------------------------------------


def test_what_was_stopped_by_an_agent_that_died_is_put_aside_by_the_next(
    fleet: Fleet, proxy: EngineProxy
) -> None:
    host = _host(fleet)
    host.config["docker"] = {"socket": proxy.host}
    host.write_config()
    rogue = _start(fleet, "rogue", "--restart", "always")
    _once_killed_at(host, proxy, "POST /containers/*/rename")
    assert fleet.running() == {}
    assert _name(fleet, rogue) == "rogue"
    assert host.once().returncode == 0
    assert _name(fleet, rogue) == f"commitd-evicted-rogue-{rogue[:12]}"
    assert host.commitd("undo", "rogue").returncode == 0
    assert fleet.running() == {"rogue": rogue}
    assert _restart(fleet, rogue)["Name"] == "always"


def test_what_was_not_stopped_any_more_and_is_declared_by_then_is_as_it_was(
    fleet: Fleet, proxy: EngineProxy
) -> None:
    host = _host(fleet)
    host.config["docker"] = {"socket": proxy.host}
    host.write_config()
    fleet.workspace.write(
        {"stacks/two/compose.yaml": fleet.compose(more="    restart: on-failure:5\n")}
    )
    two = _compose_up(fleet, "two")
    before = _restart(fleet, two)
    _once_killed_at(host, proxy, "POST /containers/*/stop")
    assert fleet.running() == {"two-app-1": two}
    assert _restart(fleet, two)["Name"] == "no"
    fleet.commit("two", {_LIST: "- two\n"})
    assert host.once().returncode == 0
    assert fleet.running() == {"two-app-1": two}
    assert _restart(fleet, two) == before


# --- what goes for good ---------------------------------------------------------------------------


def _over(host: Host) -> None:
    """Wait until the time of all that is kept is over."""
    with contextlib.closing(Journal(host.state / "journal.db", read_only=True)) as journal:
        wait_until(
            lambda: all((e.remove_at or 0) < time.time() for e in journal.kept()),
            what="its time to be over",
        )


def test_while_it_is_in_doubt_what_is_declared_what_is_kept_does_not_go(fleet: Fleet) -> None:
    host = _host(fleet, keep="1s")
    rogue = _start(fleet, "rogue")
    assert host.once().returncode == 0
    assert fleet.running() == {}
    _over(host)
    fleet.commit("a typo", {"global/commitd.yaml": "alow: []\n"})
    assert host.once().returncode == 1
    assert [c["Id"] for c in fleet.box.engine.containers()] == [rogue]
    fleet.commit("mended", {"global/commitd.yaml": "allow: []\n"})
    assert host.once().returncode == 0
    assert fleet.box.engine.containers() == []


def test_a_kept_container_goes_when_its_time_is_over_and_its_volumes_stay(fleet: Fleet) -> None:
    host = _host(fleet, keep="1s")
    rogue = _start(fleet, "rogue", "--volume", "precious:/data", "--volume", "/anonymous")
    volumes = _volumes(fleet, rogue)
    assert len(volumes) == 2
    assert host.once().returncode == 0
    _over(host)
    assert host.once().returncode == 0
    assert fleet.box.engine.containers() == []
    assert _volumes(fleet) == volumes
    gone, ended = _entries(host, "evict", "rogue")
    assert (ended.reason, gone.reason) == (Reason.NO_PROJECT, Reason.KEEP_EXPIRED)
    assert gone.status == "succeeded"
    assert {cause.name for cause in gone.cause} == set(volumes)


def test_what_is_kept_goes_when_the_machine_ran_for_so_long_and_not_after_a_leap(
    fleet: Fleet,
) -> None:
    """The uptime is moved by a time namespace: no test may set the machine's clock."""
    host = _host(fleet, keep="24h")
    _start(fleet, "rogue")
    assert host.once().returncode == 0

    def a_day_later() -> str:
        words = ["unshare", "--time", "--fork", "--boottime", str(25 * 3600)]
        result = subprocess.run(
            [*words, sys.executable, "-m", "agent", "once"],
            env=host.environment,
            cwd=_ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
            check=False,
        )
        assert result.returncode == 0, result.stdout
        return result.stdout

    # By the uptime, but not by the clock on the wall.
    assert "removal of kept containers is paused: the clock was set" in a_day_later()
    (kept,) = fleet.box.engine.containers()
    assert kept["Names"][0].startswith("/commitd-evicted-rogue")
    with contextlib.closing(Journal(host.state / "journal.db", read_only=True)) as journal:
        course = journal.get("clock")
    with contextlib.closing(Journal(host.state / "journal.db")) as journal:
        journal.put("clock", {**course, "leapt": None})  # as if that had been long ago
    a_day_later()
    assert fleet.box.engine.containers() == []


_VOLUMES = "    volumes: [data:/data, /anonymous]\nvolumes: {data: {}}\n"


def test_a_stack_that_leaves_a_host_before_enrolment_takes_down_only_its_own(fleet: Fleet) -> None:
    files = {f"stacks/{name}/compose.yaml": fleet.compose(more=_VOLUMES) for name in ("one", "two")}
    fleet.commit("both", {_LIST: "- one\n- two\n", **files})
    host = fleet.host(enrolled=False)
    theirs = _start(fleet, "theirs", *_of("one", "other"))
    host.once()
    volumes = _volumes(fleet, "one-app-1")
    two = fleet.running()["two-app-1"]
    fleet.commit("one leaves", {_LIST: "- two\n"})
    host.once()
    result = host.once()
    assert result.returncode == 3
    assert "theirs: this host is not enrolled" in result.stdout
    assert fleet.running() == {"theirs": theirs, "two-app-1": two}
    assert "one-app-1" not in {_name(fleet, c["Id"]) for c in fleet.box.engine.containers()}
    assert volumes <= _volumes(fleet)
    (entry,) = _entries(host, "remove-stack", "one")
    assert entry.status == "succeeded"
    assert set(volumes) <= {cause.name for cause in entry.cause}


def test_what_was_brought_back_stays_when_the_stack_whose_name_it_bears_leaves(
    fleet: Fleet,
) -> None:
    files = {f"stacks/{name}/compose.yaml": fleet.compose(more=_VOLUMES) for name in ("one", "two")}
    host = fleet.synced({_LIST: "- one\n- two\n", **files})
    brought = _start(fleet, "brought", *_of("one", "other"), "--volume", "/anonymous")
    assert host.once().returncode == 0
    assert host.commitd("undo", "brought").returncode == 0
    volumes = {name: _volumes(fleet, f"{name}-app-1") for name in ("one", "two")}
    with contextlib.closing(Journal(host.state / "journal.db")) as journal:
        journal.forget_release("one")  # so that no list of services speaks for it either
    fleet.commit("both leave\n\nCommitd-Approve: removals", {_LIST: "[]\n"})
    assert host.once().returncode == 0
    assert fleet.running() == {"brought": brought}
    assert [c["Id"] for c in fleet.box.engine.containers()] == [brought]
    for name, found in volumes.items():
        assert len(found) == 2
        assert found <= _volumes(fleet)
        (entry,) = _entries(host, "remove-stack", name)
        assert set(found) <= {cause.name for cause in entry.cause}


# --- two at once ----------------------------------------------------------------------------------


def test_an_order_that_comes_during_a_single_cycle_does_not_end_it(fleet: Fleet) -> None:
    gated = (
        "    healthcheck: {test: ['CMD', 'test', '-e', '/go'], interval: 1s, retries: 100}\n"
        "  second:\n"
        f"    image: {fleet.idle}\n    network_mode: host\n"
        "    depends_on: {app: {condition: service_healthy}}\n"
    )
    fleet.commit("slow", {_LIST: "- slow\n", "stacks/slow/compose.yaml": fleet.compose(more=gated)})
    host = fleet.host()
    cycle = _once(host)
    wait_until(lambda: "slow-app-1" in fleet.running(), what="the slow stack to begin")
    result = host.commitd("suspend", "--host", "--yes", "--for", "1h")
    assert "What has begun is still being finished: deploy slow." in result.stdout
    fleet.box.engine.run("exec", "slow-app-1", "touch", "/go")
    said, _ = cycle.communicate(timeout=240)
    assert cycle.returncode == 0, said
    assert set(fleet.running()) == {"slow-app-1", "slow-second-1"}


_OPEN = """
import sys
from pathlib import Path
from agent.adapters.state.journal import Journal
print("ready", flush=True)
for line in sys.stdin:
    Journal(Path(line.strip())).close()
    print("open", flush=True)
"""


def test_two_processes_that_open_a_new_journal_at_once_both_can(tmp_path: Path) -> None:
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", _OPEN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=_ROOT,
        )
        for _ in range(2)
    ]
    with pair[0] as one, pair[1] as two:
        pipes = [(p.stdin, p.stdout) for p in (one, two) if p.stdin and p.stdout]
        assert [out.readline() for _, out in pipes] == ["ready\n"] * 2
        for number in range(50):
            for into, _ in pipes:
                into.write(f"{tmp_path / str(number)}.db\n")
            assert [out.readline() for _, out in pipes] == ["open\n"] * 2
        for into, _ in pipes:
            into.close()


def test_a_storm_costs_the_engine_a_look_a_stop_and_a_name_for_each(
    fleet: Fleet, proxy: EngineProxy
) -> None:
    host = _host(fleet)
    host.config["docker"] = {"socket": proxy.host}
    host.config["remotes"][0]["poll"] = "1h"
    host.write_config()
    names = [f"rogue-{number}" for number in range(10)]
    with host.running() as agent:
        agent.says("in sync with")
        # By then the event stream is open, and the cycle that its opening calls for has looked.
        first = _start(fleet, "rogue", "--stop-signal", "SIGKILL")
        wait_until(lambda: _name(fleet, first).startswith(KEPT_PREFIX), what="one to be put aside")
        proxy.requests.clear()
        rogues = [_start(fleet, name, "--stop-signal", "SIGKILL") for name in names]
        wait_until(
            lambda: all(_name(fleet, rogue).startswith(KEPT_PREFIX) for rogue in rogues),
            what="all to be put aside",
        )
        asked = Counter(request.kind for request in proxy.requests)
    for kind in ("GET /containers/*/json", "POST /containers/*/stop", "POST /containers/*/rename"):
        assert asked.pop(kind) == len(names)
    assert not asked

"""What others do to a release while it is waited for is put back, and never blamed on it."""

from __future__ import annotations

import threading
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from agent.adapters.state.journal import Journal
from tests.sandbox import SandboxError
from tests.sandbox.process import descendants, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

LIST = {"host/media/stacks.yaml": "- web\n"}
STACK = "stacks/web/compose.yaml"
WAITS = "    healthcheck: {test: [CMD, test, -e, /ok], interval: 500ms, retries: 1000}\n"


def _file(fleet: Fleet, services: dict[str, str]) -> str:
    """Services without a network, and what else each has."""
    start = f"    image: {fleet.idle}\n    network_mode: host\n"
    return "services:\n" + "".join(f"  {name}:\n{start}{more}" for name, more in services.items())


def _ids(fleet: Fleet, more: str) -> dict[str, str]:
    """The running containers of the release that says ``more`` of its host name."""
    found: dict[str, str] = {}
    for name, container_id in fleet.running().items():
        with suppress(SandboxError):
            if fleet.box.engine.inspect(container_id)["Config"]["Hostname"] == more:
                found[name] = container_id
    return found


def _started(host: Host) -> str | None:
    """The release that Compose was done with last: from then on it is waited for."""
    with closing(Journal(host.state / "journal.db", read_only=True)) as journal:
        return journal.started("web")


def test_what_is_removed_stopped_or_replaced_during_the_gate_is_put_back_at_once(
    fleet: Fleet,
) -> None:
    engine = fleet.box.engine
    services = ("removed", "stopped", "paused", "replaced")
    engine.pull(fleet.web)
    host = fleet.synced({**LIST, STACK: _file(fleet, dict.fromkeys(services, ""))})
    ends = "    command: [sh, -c, \"trap 'exit 0' TERM; until test -e /ok; do sleep .1; done\"]\n"
    new = dict.fromkeys(services, f"{WAITS}    hostname: new\n")
    new["job"] = f"{ends}    hostname: new\n"
    with host.running() as agent:
        agent.says("in sync with")
        older = _started(host)
        sha = fleet.commit("new", {STACK: _file(fleet, new)})
        wait_until(lambda: _started(host) != older, what="the new release to be waited for")
        wait_until(lambda: len(_ids(fleet, "new")) == len(new), what="the new release")
        before = _ids(fleet, "new")
        engine.run("rm", "--force", "web-removed-1")
        wait_until(lambda: "web-removed-1" in _ids(fleet, "new"), what="it to be put back")
        # As tools do that look for newer images: the same labels, and no time to lose.
        labels = engine.inspect("web-replaced-1")["Config"]["Labels"]
        words = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
        engine.run("rm", "--force", "web-replaced-1")
        engine.run("run", "--detach", *words, fleet.web)
        engine.run("stop", "--time", "1", "web-stopped-1", "web-job-1")
        engine.run("pause", "web-paused-1")

        def back() -> bool:
            with suppress(SandboxError):  # it may just be replaced
                paused = engine.inspect("web-paused-1")["State"]["Paused"]
                return _ids(fleet, "new").keys() == before.keys() and not paused
            return False

        wait_until(back, what="all of it to be put back")

        def over() -> bool:
            """As long as one of them is put back it has no such file, or none any more."""
            with suppress(SandboxError):
                for name in _ids(fleet, "new"):
                    engine.run("exec", name, "touch", "/ok")
            return f"in sync with {sha[:7]}" in agent.log

        wait_until(over, what="the new release to be well")
        said = "undone from outside during the health gate: removed was removed from outside"
        assert f"{said} (0 of 1 containers)" in agent.log
    done = {(e["action"], e["status"]) for e in host.json("history", "web") if e["id"] > 1}
    assert done == {("deploy", "succeeded"), ("restart", "succeeded")}, [
        e["error"] for e in host.json("history", "web")
    ]
    undone = {
        (cause["service"], cause["to"])
        for entry in host.json("history", "web")
        for cause in entry["cause"]
        if entry["reason"] == "interference"
    }
    # What is done in the middle of putting another back is put back with it.
    assert ("removed", "was removed from outside") in undone
    assert {name for name, _ in undone} & {"stopped", "job", "replaced"}


@contextmanager
def _removing(fleet: Fleet, container: str) -> Iterator[None]:
    """Another tool that does not want the container."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.05):
            with suppress(SandboxError):
                fleet.box.engine.api("DELETE", f"/containers/{container}?force=1")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_release_that_somebody_keeps_undoing_fails_and_is_neither_blamed_nor_rolled_back(
    fleet: Fleet,
) -> None:
    """Once nobody undoes it any more, it is deployed without a person."""
    host = fleet.synced({**LIST, STACK: fleet.compose()}, converge={"steady": "1s"})
    new = "x-commitd: {health_timeout: 1s}\n" + fleet.compose(more="    hostname: new\n")
    sha = fleet.commit("new", {STACK: new})
    with host.running() as agent:
        agent.says(f"web: deploying {sha[:7]}")  # or it would be the older one that is undone
        with _removing(fleet, "web-app-1"):
            agent.says("failed: web")
    failed = [entry for entry in host.json("history", "web") if entry["status"] == "failed"]
    first = failed[-1]
    assert first["action"] == "deploy"
    assert "from outside" in first["error"]
    with host.running() as agent:
        agent.says(f"in sync with {sha[:7]}")
    assert {e["action"] for e in host.json("history", "web")} <= {"deploy", "restart", "hold"}
    assert fleet.box.engine.inspect("web-app-1")["Config"]["Hostname"] == "new"


def test_what_is_stopped_while_compose_waits_for_it_is_put_back_unless_its_stack_is_suspended(
    fleet: Fleet,
) -> None:
    services = {"db": WAITS, "app": "    depends_on: {db: {condition: service_healthy}}\n"}
    fleet.commit("first", {**LIST, STACK: _file(fleet, services)})
    host = fleet.host()
    with host.running() as agent:
        wait_until(lambda: "web-db-1" in fleet.running(), what="the database to start")
        fleet.box.engine.run("stop", "--time", "0", "web-db-1")
        wait_until(lambda: "web-db-1" in fleet.running(), what="the database to start again")
        host.commitd("suspend", "web", check=True)
        fleet.box.engine.run("stop", "--time", "0", "web-db-1")
        agent.says("it was suspended meanwhile")
        assert fleet.running() == {}
        [deploy] = [e for e in host.json("history", "web") if e["action"] == "deploy"]
        assert deploy["status"] == "held"  # and the hold of its stack is another entry
        host.commitd("resume", "web", check=True)
        wait_until(lambda: "web-db-1" in fleet.running(), what="the database to start again")
        fleet.box.engine.run("exec", "web-db-1", "touch", "/ok")
        agent.says("in sync with")


def test_what_waits_for_a_sick_service_is_not_started_once_its_stack_is_suspended(
    fleet: Fleet,
) -> None:
    """Compose has given up, and would be asked again as soon as the service is healthy."""
    sick = WAITS.replace("1000", "1")
    services = {"db": sick, "app": "    depends_on: {db: {condition: service_healthy}}\n"}
    fleet.commit("first", {**LIST, STACK: _file(fleet, services)})
    host = fleet.host(converge={"steady": "60s"})  # so long nothing that may pass is final

    def given_up() -> bool:
        if "web-db-1" not in fleet.running():
            return False
        state = fleet.box.engine.inspect("web-db-1")["State"]["Health"]["Status"]
        children = descendants(agent.process.pid)
        return state == "unhealthy" and not any(_is_compose(child) for child in children)

    with host.running() as agent:
        wait_until(given_up, what="Compose to give up")
        host.commitd("suspend", "web", check=True)
        fleet.box.engine.run("exec", "web-db-1", "touch", "/ok")
        agent.says("it was suspended meanwhile")
        assert fleet.running().keys() == {"web-db-1"}


def _is_compose(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().startswith("docker-compose")
    return False

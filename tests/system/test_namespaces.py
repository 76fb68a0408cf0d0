"""Services that run in namespaces of another one, or follow it, go with it when it starts again."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.sandbox import EngineError
from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

VPN = "stacks/tunnel/vpn.conf"
DB = "stacks/tunnel/db.conf"
SHARING = {"net", "pid", "deep", "named"}
"""Those of the stack that run in namespaces of vpn, one of them through another."""


def _files(fleet: Fleet, *, settings: str = "") -> dict[str, str | bytes | None]:
    services = {
        "vpn": "container_name: vpn, restart: always, network_mode: none, "
        "volumes: ['./vpn.conf:/x:ro']",
        "net": "network_mode: 'service:vpn', depends_on: {vpn: {condition: service_healthy}}",
        "pid": "network_mode: none, pid: 'service:vpn'",
        "deep": "network_mode: 'service:net'",
        "named": "network_mode: 'container:vpn', depends_on: [vpn]",
        "db": "network_mode: none, volumes: ['./db.conf:/x:ro']",
        "follows": "network_mode: none, depends_on: "
        "{db: {condition: service_started, restart: true}}",
    }
    check = "healthcheck: {test: [CMD, 'true'], interval: 1s}"
    lines = "".join(
        f"  {name}: {{image: '{fleet.idle}', {check if name == 'vpn' else 'init: true'}, {how}}}\n"
        for name, how in services.items()
    )
    other = f"  app: {{image: '{fleet.idle}', network_mode: 'container:vpn'}}\n"
    return {
        "host/media/stacks.yaml": "- tunnel\n- other\n",
        "stacks/tunnel/compose.yaml": f"{settings}services:\n{lines}",
        "stacks/other/compose.yaml": f"x-commitd: {{after: [tunnel]}}\nservices:\n{other}",
        VPN: "one",
        DB: "one",
    }


def _began(fleet: Fleet) -> dict[str, tuple[str, str]]:
    """ID and start of each service's container."""
    found: dict[str, tuple[str, str]] = {}
    for listed in fleet.box.engine.containers():
        raw = fleet.box.engine.inspect(listed["Id"])
        found[listed["Labels"]["com.docker.compose.service"]] = raw["Id"], raw["State"]["StartedAt"]
    return found


def _namespace(fleet: Fleet, container: str, kind: str) -> str:
    """Empty while it does not run."""
    try:
        pid = fleet.box.engine.inspect(container)["State"]["Pid"]
        return str(Path(f"/proc/{pid}/ns/{kind}").readlink())
    except (EngineError, FileNotFoundError):
        return ""


def _together(fleet: Fleet) -> bool:
    """Whether all of them run, in the very namespaces that vpn has now."""
    names = ["tunnel-net-1", "tunnel-deep-1", "tunnel-named-1", "other-app-1"]
    pairs = [(name, "net") for name in names] + [("tunnel-pid-1", "pid")]
    own = {kind: _namespace(fleet, "vpn", kind) for kind in ("net", "pid")}
    return all(own.values()) and all(_namespace(fleet, n, kind) == own[kind] for n, kind in pairs)


def _changed(before: dict[str, tuple[str, str]], after: dict[str, tuple[str, str]]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def _deploy(fleet: Fleet, host: Host, files: dict[str, str | bytes | None]) -> None:
    fleet.commit("change", files)
    result = host.once()
    if result.returncode:  # what drifts in one stack by the deploy of another is seen afterwards
        assert "not in sync: other" in result.stdout, result.stdout + result.stderr
        result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr


def test_who_depends_on_a_service_by_namespace_or_by_its_file_starts_again_with_it(
    fleet: Fleet,
) -> None:
    """And nobody else. A change of a file first restarts, then recreates the one that mounts it."""
    host = fleet.host()
    _deploy(fleet, host, _files(fleet))
    assert _together(fleet)
    before = _began(fleet)
    _deploy(fleet, host, {VPN: "two"})
    after = _began(fleet)
    assert _together(fleet)
    assert _changed(before, after) == {"vpn", *SHARING, "app"}
    assert all(before[name][0] == after[name][0] for name in before), "nothing was recreated"
    said = {(entry["reason"], entry["detail"]) for entry in host.json("history", "tunnel")}
    assert ("namespace-restarted", "restart deep") in said

    before = after
    settings = "x-commitd: {on_change: {vpn: recreate}}\n"
    _deploy(fleet, host, _files(fleet, settings=settings) | {VPN: "three", DB: "two"})
    after = _began(fleet)
    assert _together(fleet)
    assert _changed(before, after) == {"vpn", *SHARING, "app", "db", "follows"}
    anew = {name for name in before if before[name][0] != after[name][0]}
    assert anew == {"vpn", *SHARING, "app"}
    done = len(host.json("history"))
    assert host.once().returncode == 0
    assert _began(fleet) == after
    assert len(host.json("history")) == done, "it settles"


def test_who_joins_is_repaired_at_once_however_often_the_owner_is_deployed(fleet: Fleet) -> None:
    """A backoff is for what drifts again without a commit."""
    vpn = fleet.compose(
        service="vpn", more="    container_name: vpn\n    volumes: ['./vpn.conf:/x:ro']\n"
    )
    app = f"services:\n  app: {{image: '{fleet.idle}', network_mode: 'container:vpn'}}\n"
    files: dict[str, str | bytes | None] = {
        "host/media/stacks.yaml": "- tunnel\n- other\n",
        "stacks/tunnel/compose.yaml": vpn,
        "stacks/other/compose.yaml": f"x-commitd: {{after: [tunnel]}}\n{app}",
    }
    host = fleet.host()
    for content in ("one", "two", "three", "four"):
        _deploy(fleet, host, files | {VPN: content})
        assert _namespace(fleet, "other-app-1", "net") == _namespace(fleet, "vpn", "net")
    assert host.once().returncode == 0


def test_who_has_nothing_to_join_instead_is_left_as_it_is_and_that_is_said(fleet: Fleet) -> None:
    """A new container would not even start."""
    app = f"services:\n  app: {{image: '{fleet.idle}', network_mode: 'container:vpn'}}\n"
    host = fleet.synced(
        {
            "host/media/stacks.yaml": "- tunnel\n- other\n",
            "stacks/tunnel/compose.yaml": fleet.compose(
                service="vpn", more="    container_name: vpn\n"
            ),
            "stacks/other/compose.yaml": f"x-commitd: {{after: [tunnel]}}\n{app}",
        }
    )
    before = _began(fleet)
    host.commitd("suspend", "tunnel", check=True)
    fleet.box.engine.run("rm", "--force", "vpn")
    result = host.once()
    assert result.returncode == 1
    assert "app shares namespaces with vpn, which does not run" in result.stdout
    assert _began(fleet) == {"app": before["app"]}
    host.commitd("resume", "tunnel", check=True)
    wait_until(lambda: host.once().returncode == 0, what="the host to be in sync")
    assert _namespace(fleet, "other-app-1", "net") == _namespace(fleet, "vpn", "net") != ""


def test_a_container_that_is_left_in_a_dead_namespace_is_brought_back_by_the_event(
    fleet: Fleet,
) -> None:
    """Here it is the engine that started its owner again, by its restart policy."""
    fleet.commit("first", _files(fleet))
    host = fleet.host()
    host.config["remotes"][0]["poll"] = "1h"
    host.write_config()
    with host.running() as agent:
        agent.says("in sync with")
        wait_until(lambda: _together(fleet), what="all to share vpn's namespaces")
        before = _began(fleet)
        os.kill(fleet.box.engine.inspect("vpn")["State"]["Pid"], signal.SIGKILL)

        def followed() -> bool:
            with suppress(EngineError):  # one of them may just be replaced
                return _changed(before, _began(fleet)) >= {"vpn", *SHARING, "app"}
            return False

        wait_until(followed, what="all to start again")
        wait_until(lambda: _together(fleet), what="all to follow vpn")
        wait_until(
            lambda: {e["status"] for e in host.json("history")} == {"succeeded"},
            what="the repair to be done",
        )
        assert _changed(before, _began(fleet)) == {"vpn", *SHARING, "app"}
        causes = {
            (c["stack"], c["kind"], c["name"]): c["to"]
            for e in host.json("history")
            for c in e["cause"]
        }
        assert causes["other", "namespace", "vpn"] == "restarted"

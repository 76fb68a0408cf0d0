"""Success is observed: each way of not being well is named, and what is well in the end is well."""

from __future__ import annotations

import signal
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.engine_proxy import EngineProxy
from tests.sandbox.process import wait_until
from tests.system.releases import NEVER_WELL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

STACK = "stacks/web/compose.yaml"
_THINKS_S = 2.5


def _check(test: str, *, retries: int = 1, more: str = "") -> str:
    words = f"test: [CMD, {test}], interval: 500ms, retries: {retries}{more}"
    return f"    healthcheck: {{{words}}}\n"


def _files(stacks: Mapping[str, str]) -> dict[str, str | bytes | None]:
    return {
        "host/media/stacks.yaml": "".join(f"- {name}\n" for name in stacks),
        **{f"stacks/{name}/compose.yaml": content for name, content in stacks.items()},
    }


def _errors(host: Host) -> dict[str, Any]:
    """By stack; None: all is well."""
    entries = [entry for entry in host.json("history") if entry["action"] == "deploy"]
    return {entry["subject"]: entry["error"] for entry in reversed(entries)}


def test_each_way_of_not_being_well_is_named_with_the_last_words(fleet: Fleet) -> None:
    """First releases, with nothing to go back to: they stay, are called failed, and wait."""
    says = "echo token=$$S; "
    stacks = {
        "sick": fleet.compose(more=_check("'false'")),
        "loop": fleet.compose(more="    command: [sh, -c, 'echo so long; exit 4']\n")
        + f"    restart: always\n    {NEVER_WELL}\n",
        "ends": fleet.compose(
            more=f"    command: [sh, -c, '{says} exit 3']\n    environment: {{S: '${{S}}'}}\n"
        ),
        "late": "x-commitd: {health_timeout: 8s}\n"
        + fleet.compose(more=_check("'false'", retries=3, more=", timeout: 200ms")),
        "well": fleet.compose(),
    }
    secret = fleet.box.encrypt("S=zq8xhidden\n")
    fleet.commit("first", {**_files(stacks), "stacks/ends/s.secret.env": secret})
    host = fleet.host(converge={"steady": "600ms"})
    result = host.once()
    assert result.returncode == 1
    errors = _errors(host)
    assert errors["sick"] == "sick-app-1 is unhealthy"
    assert errors["loop"].startswith("loop-app-1 crashes again and again (")
    assert "its last words: so long" in errors["loop"]
    # What a container that was given a secret makes of it, nobody can foresee.
    assert errors["ends"] == (
        "ends-app-1 has ended with 3; its last words may hold a secret: "
        "while an agent runs, root sees them with commitd why ends"
    )
    assert errors["late"].startswith("late-app-1 is unhealthy")
    assert errors["well"] is None
    for name in stacks.keys() - {"well"}:
        assert errors[name] in result.stdout
    assert "zq8xhidden" not in result.stdout + result.stderr + str(errors)
    synced = {stack["name"]: stack["sync"] for stack in host.json("status")["stacks"]}
    assert synced == {name: "synced" if name == "well" else "failed" for name in stacks}
    before = {c["Id"] for c in fleet.box.engine.containers()}
    done = [entry for entry in host.json("history") if entry["action"] != "hold"]
    assert host.once().returncode == 1
    assert {c["Id"] for c in fleet.box.engine.containers()} == before
    assert [entry for entry in host.json("history") if entry["action"] != "hold"] == done
    mended = fleet.compose(more="    hostname: mended\n")
    fleet.commit("mended", {"stacks/ends/compose.yaml": mended})
    host.once()
    assert fleet.box.engine.inspect("ends-app-1")["State"]["Running"]
    assert _errors(host)["ends"] is None


def test_what_becomes_well_in_time_and_what_is_meant_to_end_are_no_failures(fleet: Fleet) -> None:
    """An init container that ends with 0 is done; the same with 3 is the failure of its stack."""

    def init(code: int) -> str:
        return fleet.compose(
            service="init", more=f"    command: [sh, -c, 'echo says init; exit {code}']\n"
        ) + (
            f"  app:\n    image: {fleet.idle}\n    network_mode: host\n"
            "    depends_on: {init: {condition: service_completed_successfully}}\n"
        )

    slow = "    command: [sh, -c, 'sleep 1.5; touch /ok; exec tail -f /dev/null']\n"
    stacks = {
        "slow": fleet.compose(more=slow + _check("test, -e, /ok", retries=100)),
        "init": init(0),
        "jobs": fleet.compose(more="    command: ['true']\n    scale: 2\n"),
        "wrong": init(3),
    }
    fleet.commit("first", _files(stacks))
    host = fleet.host()
    result = host.once()
    assert result.returncode == 1
    errors = _errors(host)
    assert {name for name, error in errors.items() if error} == {"wrong"}
    assert "3" in errors["wrong"]
    assert "init" in errors["wrong"]
    assert fleet.running().keys() == {"slow-app-1", "init-app-1"}
    before = fleet.running()
    host.once()
    assert fleet.running() == before
    assert {name for name, error in _errors(host).items() if error} == {"wrong"}


def test_the_last_words_of_an_init_container_that_failed_are_in_the_error(fleet: Fleet) -> None:
    stack = fleet.compose(
        service="init", more="    command: [sh, -c, 'echo no such table; exit 3']\n"
    ) + (
        f"  app:\n    image: {fleet.idle}\n    network_mode: host\n"
        "    depends_on: {init: {condition: service_completed_successfully}}\n"
    )
    fleet.commit("first", _files({"web": stack}))
    result = fleet.host().once()
    assert "no such table" in result.stdout


def test_a_release_that_becomes_well_late_is_kept_as_it_is(fleet: Fleet) -> None:
    """Nobody has to say retry; what runs is not touched, and is asked about no second time."""
    more = "    volumes: [./a.conf:/x:ro]\n" + _check("test, -e, /ok")
    late = "x-commitd: {health_timeout: 1s}\n" + fleet.compose(more=more)
    fleet.commit("late", {**_files({"web": late}), "stacks/web/a.conf": "x"})
    host = fleet.host()
    with host.running() as agent:
        agent.says("web-app-1 is unhealthy")
        before = fleet.box.engine.inspect("web-app-1")
        fleet.box.engine.run("exec", "web-app-1", "touch", "/ok")
        agent.says("in sync with")
        after = fleet.box.engine.inspect("web-app-1")
    assert (after["Id"], after["State"]["StartedAt"]) == (
        before["Id"], before["State"]["StartedAt"],
    )  # fmt: skip
    done = [(e["action"], e["status"], e["reason"]) for e in host.json("history", "web")]
    assert [entry for entry in done if entry[0] != "hold"] == [
        ("deploy", "succeeded", "healthy-late"),
        ("deploy", "failed", "new"),
    ]
    assert host.json("status")["stacks"][0]["sync"] == "synced"


def test_a_database_that_never_is_healthy_is_to_blame_and_not_what_waits_for_it(
    fleet: Fleet,
) -> None:
    app = f"  app:\n    image: {fleet.idle}\n    network_mode: host\n"
    good = fleet.compose(service="db") + app + "    depends_on: [db]\n"
    host = fleet.synced(_files({"web": good}))
    stuck = (
        fleet.compose(
            service="db",
            more="    command: [sh, -c, 'echo no disk; exec tail -f /dev/null']\n"
            + _check("'false'"),
        )
        + f"{app}    hostname: new\n"
        + "    depends_on: {db: {condition: service_healthy}}\n"
    )
    fleet.commit("stuck", {STACK: stuck})
    result = host.once()
    assert result.returncode == 1
    assert "web-db-1 is unhealthy; web-app-1 does not run (created); " in result.stdout
    assert "its last words: no disk; rolled back to" in result.stdout
    assert fleet.running().keys() == {"web-app-1", "web-db-1"}
    assert fleet.box.engine.inspect("web-db-1")["Config"].get("Healthcheck") is None


def test_what_the_engine_calls_normal_is_waited_for(fleet: Fleet) -> None:
    """Crashes until the database answers, unhealthy before healthy, a start that takes long."""
    ok = "test, -e, /data/ok"
    shared = "    volumes: [data:/data]\n"
    volumes = "volumes: {data: {}}\n"
    loop = "test -e /data/ok || exit 1; exec tail -f /dev/null"
    waits = f"  app:\n    image: {fleet.idle}\n    network_mode: host\n"
    stacks = {
        "crash": fleet.compose(service="db", more=_check(ok, retries=1000) + shared)
        + waits
        + f"    restart: always\n    command: [sh, -c, '{loop}']\n{shared}{volumes}",
        "sick": fleet.compose(service="db", more=_check(ok, retries=10) + shared)
        + f"{waits}    depends_on: {{db: {{condition: service_healthy}}}}\n{volumes}",
        "slow": "x-commitd: {health_timeout: 1s}\n"
        + fleet.compose(service="db", more=_check(ok, more=", start_period: 60s") + shared)
        + volumes,
    }
    fleet.commit("first", _files(stacks))
    host, engine = fleet.host(), fleet.box.engine

    def health(container: str) -> str:
        if container not in fleet.running():
            return ""
        return str(engine.inspect(container)["State"]["Health"]["Status"])

    def crashes() -> int:
        found = [c for c in engine.containers() if "/crash-app-1" in c["Names"]]
        return engine.inspect(found[0]["Id"])["RestartCount"] if found else 0

    with host.running() as agent:
        wait_until(lambda: health("sick-db-1") == "unhealthy", what="a database to be unhealthy")
        engine.run("exec", "sick-db-1", "touch", "/data/ok")
        wait_until(lambda: crashes() > 4, what="a few crashes")
        engine.run("exec", "crash-db-1", "touch", "/data/ok")
        wait_until(lambda: "sick-app-1" in fleet.running(), what="what waited to start")
        engine.run("exec", "slow-db-1", "touch", "/data/ok")
        agent.says("in sync with")
    assert set(_errors(host).values()) == {None}


def test_a_mounted_file_that_mends_a_database_reaches_it_although_others_wait_for_it(
    fleet: Fleet,
) -> None:
    stack = (
        fleet.compose(
            service="db",
            more="    volumes: [./a.conf:/x:ro]\n" + _check("grep, -q, good, /x"),
        )
        + f"  app:\n    image: {fleet.idle}\n    network_mode: host\n"
        + "    depends_on: {db: {condition: service_healthy}}\n"
    )
    fleet.commit("bad", {**_files({"web": stack}), "stacks/web/a.conf": "bad"})
    host = fleet.host()
    assert "web-db-1 is unhealthy" in host.once().stdout
    fleet.commit("mended", {"stacks/web/a.conf": "good"})
    assert host.once().returncode == 0
    assert fleet.running().keys() == {"web-db-1", "web-app-1"}


@pytest.mark.parametrize("awaited", [False, True], ids=["by itself", "by another service"])
def test_a_newer_commit_ends_the_wait_for_health_at_once(fleet: Fleet, awaited: bool) -> None:
    fleet.commit("first", _files({"web": fleet.compose()}))
    host = fleet.host()
    with host.running() as agent:
        agent.says("in sync with")
        never = "x-commitd: {health_timeout: 100m}\n" + fleet.compose(
            more=_check("'false'", retries=1000000)
        )
        if awaited:
            image, needs = f"image: '{fleet.idle}'", "{app: {condition: service_healthy}}"
            never += f"  user: {{{image}, network_mode: host, depends_on: {needs}}}\n"
        fleet.commit("never", {STACK: never})
        wait_until(
            lambda: (
                "web-app-1" in fleet.running()
                and "Healthcheck" in fleet.box.engine.inspect("web-app-1")["Config"]
            ),
            what="the bad release to be waited for",
        )
        sha = fleet.commit("good", {STACK: fleet.compose(more="    hostname: good\n")})
        agent.says(f"in sync with {sha[:7]}")
    assert fleet.box.engine.inspect("web-app-1")["Config"]["Hostname"] == "good"
    assert [e["status"] for e in host.json("history", "web") if e["action"] == "deploy"] == [
        "succeeded",
        "cancelled",
        "succeeded",
    ]


def test_slow_restarts_for_changed_files_take_nothing_off_the_time_of_a_release(
    fleet: Fleet,
) -> None:
    """The service ignores SIGTERM, so that its restart alone takes longer than its time."""
    deaf = "    command: [sh, -c, \"trap '' TERM; while :; do sleep 1; done\"]\n"
    more = f"{deaf}    stop_signal: SIGTERM\n    stop_grace_period: 3s\n"
    more += "    volumes: [./file:/file:ro]\n"
    stack = "x-commitd: {health_timeout: 1s}\n" + fleet.compose(more=more)
    host = fleet.synced({**_files({"web": stack}), "stacks/web/file": "one"})
    before = fleet.running()
    fleet.commit("second", {"stacks/web/file": "two"})
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    assert fleet.running() == before
    assert fleet.box.engine.run("exec", "web-app-1", "cat", "/file") == "two"
    assert [e for e in host.json("history", "web") if e["action"] == "rollback"] == []


def test_the_same_commit_at_another_remote_does_not_end_the_wait(fleet: Fleet) -> None:
    """A mirror is always a little behind."""
    fleet.commit("first", _files({"web": fleet.compose()}))
    host = fleet.connected()
    with host.running() as agent:
        agent.says("in sync with")
        fleet.workspace.write({STACK: fleet.compose(more=_check("test, -e, /ok", retries=1000))})
        sha = fleet.workspace.commit("slow")
        fleet.workspace.push(fleet.box.gitea)
        wait_until(
            lambda: (
                "web-app-1" in fleet.running()
                and "Healthcheck" in fleet.box.engine.inspect("web-app-1")["Config"]
            ),
            what="the new release to be waited for",
        )
        fleet.workspace.push(fleet.box.github)

        def shown() -> bool:
            remotes = host.json("status")["remotes"]
            return all(remote["head"] == sha for remote in remotes)

        wait_until(shown, what="the agent to see the mirror's head")
        fleet.box.engine.run("exec", "web-app-1", "touch", "/ok")
        agent.says(f"in sync with {sha[:7]}")
    assert {e["status"] for e in host.json("history", "web")} == {"succeeded"}


def test_no_time_at_all_is_not_enough_to_be_called_well(fleet: Fleet) -> None:
    ends = fleet.compose(more="    command: ['false']\n")
    fleet.commit("first", _files({"web": "x-commitd: {health_timeout: 0s}\n" + ends}))
    assert fleet.host().once().returncode == 1


def test_sigterm_ends_the_wait_for_health(fleet: Fleet) -> None:
    never = "x-commitd: {health_timeout: 100m}\n" + fleet.compose(
        more=_check("'false'", retries=1000000)
    )
    fleet.commit("never", _files({"web": never}))
    host = fleet.host()
    with host.running() as agent:
        wait_until(lambda: "web-app-1" in fleet.running(), what="the release to be waited for")
        before = fleet.running()
        agent.send(signal.SIGTERM)
        try:
            assert agent.process.wait(timeout=240) == 0  # sooner than what is cut short
        finally:
            agent.process.kill()
        assert "Traceback" not in agent.log
    assert fleet.running() == before
    assert host.json("history", "web")[0]["status"] == "cancelled"


def test_nothing_is_asked_while_nothing_happens_and_one_stream_serves_all(fleet: Fleet) -> None:
    """Three releases that are waited for, two looks' time long by their own probes."""
    check = _check("'test', '-e', '/ok'", retries=1000)
    stacks = {name: fleet.compose(more=check) for name in ("one", "two", "three")}
    fleet.commit("first", _files(stacks))
    with EngineProxy(fleet.box.engine.socket, fleet.box.root / "gate.sock") as proxy:
        host = fleet.host(docker={"socket": proxy.host})
        host.config["remotes"][0]["poll"] = "1h"
        host.write_config()
        names = [f"{name}-app-1" for name in stacks]
        with host.running() as agent:
            wait_until(lambda: set(fleet.running()) == set(names), what="all of them to run")
            wait_until(lambda: _is_quiet(fleet, proxy, names[0]), what="the agent to wait")
            assert proxy.listeners == 2, "the watcher's, and one for all three"
            assert _is_quiet(fleet, proxy, names[0])
            for name in names:
                fleet.box.engine.run("exec", name, "touch", "/ok")
            agent.says("in sync with")
            assert proxy.listeners == 1


def _is_quiet(fleet: Fleet, proxy: EngineProxy, name: str) -> bool:
    """Whether nothing is asked in more time than it takes to think of it again anyway."""
    until = _probed(fleet, name) + _THINKS_S
    proxy.requests.clear()
    wait_until(lambda: _probed(fleet, name) > until, what="more probes")
    # The cycle looks for drift elsewhere, by one listing.
    return [request.kind for request in proxy.requests] in ([], ["GET /containers/json"])


def _probed(fleet: Fleet, name: str) -> float:
    """When its health was last looked at."""
    probes = fleet.box.engine.inspect(name)["State"]["Health"]["Log"]
    return max((datetime.fromisoformat(each["Start"]).timestamp() for each in probes), default=0.0)

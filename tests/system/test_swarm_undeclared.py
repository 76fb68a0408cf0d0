"""A Swarm's service that nobody declared is ended, kept and brought back; a declared one never."""

from __future__ import annotations

import json
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from agent.adapters.engine.engine import Engine
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.adapters.swarm import services
from agent.control.swarm.evict import ServiceEvictor
from agent.control.undeclared.protection import Protection
from agent.domain.config import UndeclaredRules
from agent.domain.errors import CancelledError
from agent.domain.reconcile.actions import ProtectionSet
from agent.domain.swarm.eviction import NOWHERE
from agent.domain.swarm.model import EVICTED, STACK
from tests.sandbox.process import wait_until
from tests.sandbox.swarm import stack_file

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox import Swarm
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

_LIST = "host/prod/stacks.yaml"
_SECRET = "correct-horse-battery"
_GLOBAL: dict[str, Any] = {"Mode": {"Global": {}}}
_JOB = {"Mode": {"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 1}}}


def _web(fleet: Fleet, **services: Any) -> str:
    return stack_file({"app": {"image": fleet.idle}, **services})


@pytest.fixture
def host(fleet: Fleet, swarm: Swarm) -> Host:
    """An enrolled manager with one stack, in sync."""
    del swarm
    return _synced(fleet)


def _synced(fleet: Fleet, *, enrolled: bool = True, more: str = "", **undeclared: Any) -> Host:
    files = {_LIST: "- web\n", "stacks/web/compose.yaml": _web(fleet)}
    fleet.commit("first", files | ({"global/commitd.yaml": more} if more else {}))
    host = fleet.manager(enrolled=enrolled, undeclared=undeclared)
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    return host


def _labels(swarm: Swarm, name: str) -> dict[str, str]:
    return swarm.service(name)["Spec"].get("Labels") or {}


def _spec(swarm: Swarm, name: str) -> Any:
    return swarm.service(name)["Spec"]


def _ended(swarm: Swarm, name: str) -> None:
    """Until nothing of it runs; tasks that a node ends yet are not counted."""
    wait_until(
        lambda: EVICTED in _labels(swarm, name) and not swarm.tasks(name),
        what=f"{name} to be ended",
    )


def _up(swarm: Swarm, name: str, count: int = 1) -> None:
    wait_until(lambda: len(swarm.tasks(name)) == count, what=f"{count} tasks of {name}")


def _entries(host: Host, subject: str) -> list[tuple[str, str, str]]:
    """Actions on it, newest first."""
    found = [each for each in host.json("history") if each["subject"] == subject]
    return [(each["action"], each["reason"], each["status"]) for each in found]


def _rogue(fleet: Fleet, swarm: Swarm, name: str = "rogue", **spec: Any) -> Any:
    """Start a service of two tasks by hand, with a secret and a volume; its spec."""
    container = {
        "Image": fleet.idle,
        "Env": [f"PASSWORD={_SECRET}"],
        "Mounts": [{"Type": "volume", "Source": "precious", "Target": "/data"}],
    }
    template = {"ContainerSpec": container, "Networks": [{"Target": "host"}]}
    swarm.create(name, fleet.idle, replicas=2, TaskTemplate=template, **spec)
    found = _spec(swarm, name)
    found["Mode"] = {"Replicated": {"Replicas": 2}}  # it may have been ended by now
    found["Labels"] = spec.get("Labels") or {}
    return found


def test_a_rogue_service_is_ended_at_once_kept_and_brought_back_as_it_was(
    fleet: Fleet, swarm: Swarm, host: Host
) -> None:
    with host.running() as agent:
        agent.says("in sync with")
        before = _rogue(fleet, swarm)
        _ended(swarm, "rogue")
        wait_until(
            lambda: ("evict", "no-project", "succeeded") in _entries(host, "rogue"),
            what="its record",
        )
        why = host.commitd("why", "rogue").stdout
        assert " rogue: exited" in why  # its name in the Swarm
        label = _labels(swarm, "rogue")[EVICTED]
        assert json.loads(label)["replicas"] == 2
        assert _SECRET not in label + agent.log
        result = host.commitd("undo", "rogue", "--for", "1h")
        assert result.returncode == 0, result.stdout + result.stderr
        _up(swarm, "rogue", 2)
        assert _spec(swarm, "rogue") == before
        _rogue(fleet, swarm, "marker")
        _ended(swarm, "marker")  # so it has looked since
        assert _spec(swarm, "rogue") == before
        assert len(swarm.tasks("web_app")) == 1
    assert host.commitd("undo", "rogue").returncode == 1
    assert _SECRET not in (host.state / "journal.db").read_bytes().decode(errors="replace")


@pytest.mark.parametrize("mode", [_GLOBAL, _JOB], ids=["global", "job"])
def test_what_cannot_be_scaled_fits_no_node_while_it_is_kept(
    fleet: Fleet, swarm: Swarm, host: Host, mode: dict[str, Any]
) -> None:
    swarm.create("rogue", fleet.idle, **mode)
    _up_of_any(swarm, "rogue")
    before = _spec(swarm, "rogue")
    assert host.once().returncode == 0
    kept = _spec(swarm, "rogue")
    assert kept["TaskTemplate"]["Placement"]["Constraints"] == [NOWHERE]
    wait_until(lambda: not _running(swarm, "rogue"), what="it to be ended")
    history = host.json("history")
    assert host.once().returncode == 0  # what waits for a node that there is not is at rest
    assert host.json("history") == history
    assert host.commitd("undo", "rogue").returncode == 0
    _up_of_any(swarm, "rogue")
    assert _spec(swarm, "rogue") == before


def _running(swarm: Swarm, name: str) -> list[Any]:
    return [t for t in swarm.tasks(name, running=False) if t["Status"]["State"] == "running"]


def _up_of_any(swarm: Swarm, name: str) -> None:
    wait_until(lambda: bool(_running(swarm, name)), what=f"{name} to run")


def test_what_another_manager_has_ended_a_new_leader_keeps_and_brings_back(
    fleet: Fleet, swarm: Swarm, host: Host
) -> None:
    before = _rogue(fleet, swarm)
    assert host.once().returncode == 0
    _ended(swarm, "rogue")
    other = fleet.manager()
    assert other.once().returncode == 0
    with closing(Journal(other.state / "journal.db", read_only=True)) as journal:
        assert [each.name for each in journal.kept()] == ["rogue"]
    result = other.commitd("undo", "rogue")
    assert result.returncode == 0, result.stdout + result.stderr
    assert _spec(swarm, "rogue") == before
    assert other.once().returncode == 0
    assert _spec(swarm, "rogue") == before


def _networks(fleet: Fleet) -> dict[str, str]:
    return {each["Name"]: each["Id"] for each in fleet.box.engine.api("GET", "/networks")}


def test_once_its_time_is_over_it_goes_and_its_volumes_stay(fleet: Fleet, swarm: Swarm) -> None:
    host = _synced(fleet, keep="1s")
    _rogue(fleet, swarm)
    file = {"networks": {"default": {"driver": "overlay"}}}
    swarm.deploy(
        "foreign", stack_file({"a": {"image": fleet.idle, "networks": ["default"]}}, **file)
    )
    assert host.once().returncode == 0

    def gone() -> bool:
        assert host.once().returncode == 0
        return swarm.services().keys() == {"web_app"}

    wait_until(gone, what="what was kept to be removed", seconds=90)
    assert ("evict", "keep-expired", "succeeded") in _entries(host, "rogue")
    volumes = [cause["name"] for cause in host.json("history", "rogue")[0]["cause"]]
    assert volumes == ["precious"]
    assert "precious" in fleet.box.engine.run("volume", "ls")
    wait_until(lambda: "foreign_default" not in _networks(fleet), what="its network to go")


def test_in_doubt_no_kept_service_goes(fleet: Fleet, swarm: Swarm) -> None:
    host = _synced(fleet, keep="0s")
    _rogue(fleet, swarm)
    _up(swarm, "rogue", 2)
    assert host.once().returncode == 0
    _ended(swarm, "rogue")  # and as its tasks have yet to end, it stays until another cycle
    wait_until(lambda: not _running(swarm, "rogue"), what="its tasks to end")
    fleet.commit("typo", {"global/commitd.yaml": "alow: []\n"})
    assert host.once().returncode != 0
    assert EVICTED in _labels(swarm, "rogue")
    fleet.commit("right", {"global/commitd.yaml": None})
    assert host.once().returncode == 0
    assert "rogue" not in swarm.services()


def test_what_is_declared_meanwhile_is_overwritten_by_its_deploy(
    fleet: Fleet, swarm: Swarm, host: Host
) -> None:
    swarm.deploy("two", _web(fleet))
    assert host.once().returncode == 0
    _ended(swarm, "two_app")
    fleet.commit("two", {_LIST: "- web\n- two\n", "stacks/two/compose.yaml": _web(fleet)})
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    _up(swarm, "two_app")
    assert EVICTED not in _labels(swarm, "two_app")
    assert ("evict", "declared-again", "succeeded") in _entries(host, "two_app")
    assert host.commitd("undo", "two_app").returncode == 1


@pytest.mark.parametrize("mode", ["ingress", "host"])
def test_what_is_kept_does_not_hold_a_port_that_a_declared_service_wants(
    fleet: Fleet, swarm: Swarm, host: Host, mode: str
) -> None:
    port = {"TargetPort": 80, "PublishedPort": 18081, "Protocol": "tcp", "PublishMode": mode}
    template = {"ContainerSpec": {"Image": fleet.idle}}
    endpoint = {"Mode": "vip", "Ports": [port]}
    swarm.create("rogue", fleet.idle, TaskTemplate=template, EndpointSpec=endpoint)
    before = _spec(swarm, "rogue")
    assert host.once().returncode == 0
    _ended(swarm, "rogue")
    assert host.commitd("undo", "rogue", "--for", "1s").returncode == 0
    assert _spec(swarm, "rogue") == before
    _up(swarm, "rogue")
    wait_until(
        lambda: host.once().returncode == 0 and EVICTED in _labels(swarm, "rogue"),
        what="it to be ended again",
    )
    declared = {"target": 80, "published": 18081, "mode": mode}
    app = {"image": fleet.idle, "ports": [declared], "networks": ["default"]}
    file = stack_file({"app": app}, networks={"default": {"driver": "overlay"}})
    fleet.commit("wants the port", {"stacks/web/compose.yaml": file})
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    _up(swarm, "web_app")
    result = host.commitd("undo", "rogue")
    assert result.returncode == (1 if mode == "ingress" else 0)
    assert mode == "host" or "web_app has its port 18081/tcp by now" in result.stderr
    assert len(swarm.tasks("web_app")) == 1


def test_what_is_kept_gives_way_to_a_declared_service_of_its_name(
    fleet: Fleet, swarm: Swarm, host: Host
) -> None:
    _rogue(fleet, swarm, "two_app")  # it is of no stack, so no deploy can take it over
    assert host.once().returncode == 0
    _ended(swarm, "two_app")
    rogue = swarm.service("two_app")["ID"]
    fleet.commit("two", {_LIST: "- web\n- two\n", "stacks/two/compose.yaml": _web(fleet)})
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    assert swarm.service("two_app")["ID"] != rogue
    assert ("evict", "in-the-way", "succeeded") in _entries(host, "two_app")
    assert "precious" in fleet.box.engine.run("volume", "ls")
    assert host.commitd("undo", "two_app").returncode == 1


def test_what_mode_stop_keeps_does_not_even_give_way(fleet: Fleet, swarm: Swarm) -> None:
    host = _synced(fleet, mode="stop")
    _rogue(fleet, swarm, "two_app")
    assert host.once().returncode == 0
    _ended(swarm, "two_app")
    fleet.commit("two", {_LIST: "- web\n- two\n", "stacks/two/compose.yaml": _web(fleet)})
    result = host.once()
    assert result.returncode != 0
    assert "two_app" in result.stdout + result.stderr
    assert EVICTED in _labels(swarm, "two_app")


def test_what_somebody_scales_up_while_it_is_kept_is_ended_again(
    fleet: Fleet, swarm: Swarm, host: Host
) -> None:
    with host.running() as agent:
        agent.says("in sync with")
        _rogue(fleet, swarm)
        _ended(swarm, "rogue")
        swarm.scale("rogue", 3)
        wait_until(
            lambda: json.loads(_labels(swarm, "rogue")[EVICTED])["replicas"] == 3,
            what="it to be ended again",
        )
        _ended(swarm, "rogue")
    assert host.commitd("undo", "rogue").returncode == 0
    _up(swarm, "rogue", 3)


@pytest.mark.parametrize("how", ["scaled", "updated", "removed"])
def test_a_change_by_hand_of_what_is_declared_is_put_right_within_moments(
    fleet: Fleet, swarm: Swarm, host: Host, how: str
) -> None:
    before = _spec(swarm, "web_app")

    def changed(spec: dict[str, Any]) -> None:
        spec["TaskTemplate"]["ContainerSpec"]["Env"] = ["BY=hand"]

    def repaired() -> bool:
        newest = host.json("history", "web")[0]
        return bool(newest["reason"] == "drifted" and newest["status"] == "succeeded")

    with host.running() as agent:
        agent.says("in sync with")
        match how:
            case "scaled":
                swarm.scale("web_app", 3)
            case "updated":
                swarm.update("web_app", changed)
            case _:
                fleet.box.engine.api("DELETE", "/services/web_app")
        wait_until(repaired, what="it to be put right")
    assert _spec(swarm, "web_app") == before
    (cause,) = host.json("history", "web")[0]["cause"]
    assert cause["kind"] == ("containers" if how == "removed" else "config-hash")
    _up(swarm, "web_app")


def test_a_stack_by_hand_of_the_name_of_a_declared_one_is_put_right_and_what_it_adds_is_ended(
    fleet: Fleet, swarm: Swarm, host: Host
) -> None:
    before = _spec(swarm, "web_app")
    swarm.deploy("web", _web(fleet, app={"image": fleet.web}, extra={"image": fleet.idle}))
    assert host.once().returncode == 0
    _ended(swarm, "web_extra")
    assert _spec(swarm, "web_app") == before
    assert ("evict", "unknown-service", "succeeded") in _entries(host, "web_extra")
    # What copies the label of a stack is not of it, whatever its own name is.
    for name in ("app", "web_other"):
        swarm.create(name, fleet.idle, Labels={STACK: "web"})
    assert host.once().returncode == 0
    for name in ("app", "web_other"):
        _ended(swarm, name)
    assert len(swarm.tasks("web_app")) == 1


def _holds(host: Host) -> dict[str, str]:
    with closing(Journal(host.state / "journal.db", read_only=True)) as journal:
        return {hold["subject"]: hold["reason"] for hold in journal.holds()}


def test_what_is_added_by_hand_to_a_stack_of_several_files_is_ended_too(
    fleet: Fleet, swarm: Swarm, host: Host
) -> None:
    included = stack_file(
        {"api": {"image": fleet.idle}, "debug": {"image": fleet.idle, "profiles": ["x"]}}
    )
    files = {
        "stacks/web/compose.yaml": f"include: [./more.yaml]\n{_web(fleet)}",
        "stacks/web/more.yaml": included,
    }
    fleet.commit("include", files)
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    for name in ("web_debug", "web_zzz"):
        swarm.create(name, fleet.idle, Labels={STACK: "web"})
    assert host.once().returncode == 0
    for name in ("web_debug", "web_zzz"):
        _ended(swarm, name)
    assert swarm.task_ids()["web_api"]
    assert swarm.task_ids()["web_app"]


def _nothing_ended(host: Host, swarm: Swarm, *, fails: bool = False) -> None:
    assert (host.once().returncode != 0) is fails
    assert EVICTED not in _labels(swarm, "rogue")
    _up(swarm, "rogue", 2)


def test_nothing_is_ended_where_a_person_has_not_agreed_or_wants_reports(
    fleet: Fleet, swarm: Swarm
) -> None:
    host = _synced(fleet, enrolled=False)
    _rogue(fleet, swarm)
    _nothing_ended(host, swarm, fails=True)
    assert _holds(host) == {"rogue": "not-enrolled"}
    with closing(Journal(host.state / "journal.db")) as journal:
        journal.put("enrolled", "2026-01-01T00:00:00Z")
    host.config["undeclared"]["mode"] = "report"
    host.write_config()
    _nothing_ended(host, swarm)
    assert _holds(host) == {"rogue": "report-only"}
    host.config["undeclared"]["mode"] = "stop"
    host.write_config()
    assert host.once().returncode == 0
    _ended(swarm, "rogue")
    assert json.loads(_labels(swarm, "rogue")[EVICTED])["action"] == "stopped"


def test_nothing_is_ended_in_doubt_by_a_rule_or_while_it_is_suspended(
    fleet: Fleet, swarm: Swarm
) -> None:
    host = _synced(fleet, more="allow:\n- name: rog*\n")
    _rogue(fleet, swarm, Labels={STACK: "rogue"})
    _nothing_ended(host, swarm)
    fleet.commit("typo", {"global/commitd.yaml": "alow: []\n"})
    _nothing_ended(host, swarm, fails=True)
    fleet.commit("right", {"global/commitd.yaml": None})
    assert host.commitd("suspend", "--host", "--for", "1h", "--yes").returncode == 0
    _nothing_ended(host, swarm)
    assert host.commitd("resume").returncode == 0
    assert host.once().returncode == 0
    _ended(swarm, "rogue")


def test_a_storm_of_rogue_services_is_not_ended_altogether(fleet: Fleet, swarm: Swarm) -> None:
    host = _synced(fleet, per_minute=2)
    for number in range(5):
        swarm.create(f"rogue{number}", fleet.idle, replicas=0)
    host.once()
    kept = [name for name in swarm.services() if EVICTED in _labels(swarm, name)]
    assert len(kept) == 2
    assert _holds(host) == {"undeclared": "eviction-rate"}


def test_a_stack_that_left_goes_with_its_network_and_nothing_of_others(
    fleet: Fleet, swarm: Swarm, host: Host
) -> None:
    shared = stack_file(
        {"a": {"image": fleet.idle, "networks": ["own", "used"]}},
        networks={"own": {"driver": "overlay"}, "used": {"driver": "overlay"}},
    )
    files = {"stacks/two/compose.yaml": shared, "stacks/three/compose.yaml": _web(fleet)}
    fleet.commit("two", {_LIST: "- web\n- two\n- three\n", **files})
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    _up(swarm, "two_a")
    template = {
        "ContainerSpec": {"Image": fleet.idle},
        "Networks": [{"Target": _networks(fleet)["two_used"]}],
    }
    swarm.create("two_claims", fleet.idle, Labels={STACK: "two"}, TaskTemplate=template)
    fleet.commit("two leaves", {_LIST: "- web\n- three\n", "stacks/two/compose.yaml": None})
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    assert swarm.services().keys() == {"web_app", "three_app", "two_claims"}
    wait_until(lambda: "two_own" not in _networks(fleet), what="its network to go")
    assert "two_used" in _networks(fleet)
    assert host.once().returncode == 0
    assert EVICTED in _labels(swarm, "two_claims")  # judged for itself
    assert len(swarm.tasks("three_app")) == len(swarm.tasks("web_app")) == 1


def test_what_a_kept_service_was_the_last_to_use_of_a_stack_that_left_goes_with_it(
    fleet: Fleet, swarm: Swarm
) -> None:
    host = _synced(fleet, keep="0s")
    app = {"image": fleet.idle, "configs": ["page"]}
    two = stack_file({"app": app}, configs={"page": {"content": "one"}})
    three = stack_file({"app": app}, configs={"page": {"content": "three"}})
    files = {"stacks/two/compose.yaml": two, "stacks/three/compose.yaml": three}
    fleet.commit("two", {_LIST: "- web\n- two\n- three\n", **files})
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    (name,) = [each for each in swarm.names("configs") if each.startswith("two_page")]
    page = fleet.box.engine.api("GET", f"/configs/{name}")
    file = {"Name": "/x", "UID": "0", "GID": "0", "Mode": 292}
    used = {"ConfigID": page["ID"], "ConfigName": name, "File": file}
    container = {"Image": fleet.idle, "Configs": [used]}
    swarm.create("rogue", fleet.idle, TaskTemplate={"ContainerSpec": container})
    fleet.commit("two leaves", {_LIST: "- web\n- three\n", "stacks/two/compose.yaml": None})
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    wait_until(
        lambda: host.once().returncode == 0 and "rogue" not in swarm.services(),
        what="what was kept to be removed",
        seconds=60,
    )
    assert name not in swarm.names("configs")
    assert [each for each in swarm.names("configs") if each.startswith("three_page")]


def test_a_cliff_of_stacks_waits_for_a_person(fleet: Fleet, swarm: Swarm, host: Host) -> None:
    files = {f"stacks/s{n}/compose.yaml": _web(fleet) for n in range(2)}
    fleet.commit("three", {_LIST: "- web\n- s0\n- s1\n", **files})
    assert host.once().returncode == 0
    fleet.commit("none", {_LIST: "- web\n"})
    assert host.once().returncode == 3
    assert {"s0_app", "s1_app"} <= swarm.services().keys()


def test_a_service_that_left_its_stack_goes_once_the_rest_is_healthy(
    fleet: Fleet, swarm: Swarm, host: Host
) -> None:
    fleet.commit("more", {"stacks/web/compose.yaml": _web(fleet, old={"image": fleet.idle})})
    assert host.once().returncode == 0
    tasks = swarm.task_ids()["web_app"]
    fleet.commit("less", {"stacks/web/compose.yaml": _web(fleet)})
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    assert swarm.services().keys() == {"web_app"}
    assert swarm.task_ids()["web_app"] == tasks
    assert _entries(host, "web_old") == [("evict", "service-not-declared", "succeeded")]


def test_a_change_that_was_made_from_an_older_version_is_refused(
    fleet: Fleet, swarm: Swarm, host: Host
) -> None:
    """So neither of two managers, nor a person, writes over what the other one has just done."""
    swarm.create("rogue", fleet.idle)

    async def twice() -> None:
        async with Engine(host.config["docker"]["socket"]) as engine:
            found = await services.inspect(engine, "rogue")
            assert found is not None
            swarm.scale("rogue", 3)
            with pytest.raises(services.ChangedMeanwhileError):
                await services.update(engine, found, found.spec)
            fleet.box.engine.api("DELETE", "/services/rogue")
            with pytest.raises(services.ChangedMeanwhileError):
                await services.update(engine, found, found.spec)
            await services.remove(engine, found)  # which is done already
            assert await services.inspect(engine, "rogue") is None

    anyio.run(twice, backend="asyncio")


def test_a_manager_that_does_not_lead_ends_nothing(
    fleet: Fleet, swarm: Swarm, host: Host, tmp_path: Path
) -> None:
    swarm.create("rogue", fleet.idle)

    async def evicted(*, leads: bool) -> bool:
        async def confirm() -> None:
            if not leads:
                raise CancelledError("the leader is node2 now")

        async with Engine(host.config["docker"]["socket"]) as engine:
            with closing(Journal(tmp_path / "journal.db")) as file:
                journal = AsyncJournal(file)
                protection = Protection(engine, journal)
                protection.publish(ProtectionSet(services={}, enrolled=True))
                rules = UndeclaredRules()
                evictor = ServiceEvictor(engine, journal, rules, protection, confirm=confirm)
                assert await evictor.evict(swarm.service("rogue")["ID"]) is None
                return bool(await journal.kept())

    assert not anyio.run(partial(evicted, leads=False), backend="asyncio")
    assert EVICTED not in _labels(swarm, "rogue")
    assert anyio.run(partial(evicted, leads=True), backend="asyncio")
    _ended(swarm, "rogue")


def test_a_service_that_left_makes_room_for_the_one_that_wants_its_port(
    fleet: Fleet, swarm: Swarm, host: Host
) -> None:
    port = {"target": 80, "published": 18080, "mode": "host"}
    public = {"image": fleet.web, "ports": [port], "networks": ["own"]}

    def web(**services: Any) -> dict[str, str]:
        networks = {"own": {"driver": "overlay"}}
        file = stack_file({"app": {"image": fleet.idle}, **services}, networks=networks)
        return {"stacks/web/compose.yaml": file}

    fleet.commit("old", web(old=public))
    assert host.once().returncode == 0
    fleet.commit("new", web(new=public))
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    assert swarm.services().keys() == {"web_app", "web_new"}
    assert _entries(host, "web_old") == [("evict", "in-the-way", "succeeded")]

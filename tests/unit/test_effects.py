"""What a deploy does to each service, told from what is there and what will be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.adapters.compose.invocation import Invocation
from agent.control.stack.ready import Ready
from agent.domain.compose.host_mounts import AgentPlaces
from agent.domain.container import Container
from agent.domain.outcome import Reason
from agent.domain.reconcile import effects
from agent.domain.reconcile.actions import Deploy
from agent.domain.reconcile.effects import Delta, ServiceEffect, Side, StackEffects
from agent.domain.release import drift
from agent.domain.release.health import Expected, Need
from agent.domain.release.release import Service
from agent.domain.release.reload import Mounted
from agent.domain.repository.fleet_policy import Policy
from agent.domain.repository.stack_settings import Settings
from agent.surface.cli import effect_report
from tests.unit.builders import container, release, service, stack
from tests.values import replace

PATH = "stacks/web/conf/site.conf"
BESIDE = ("stacks/web/conf/other.conf", "same")
WEB = service("web")
SAME = Expected(image=WEB.image, scale=1, one_shot=False)
NONE: dict[str, Any] = {}


def _side(
    now: Expected = SAME, *, keys: dict[str, Any] = NONE, oid: str = "old", wanted: str = "restart"
) -> Side:
    """One service that mounts a directory of two files."""
    mounted = Mounted(frozenset({"stacks/web/conf"}), ((PATH, oid), BESIDE))
    declared = replace(
        stack("web"), settings=Settings(on_change={"web": wanted}), policy=Policy(build="allow")
    )
    return Side(
        services={"web": now},
        model={"services": {"web": {"image": now.image, **keys}}},
        mounted={"web": mounted},
        stack=declared,
    )


def _ready(**service: Any) -> Side:
    call = Invocation(stack=stack("web"), root=Path("/export"), checkout=Path("/repo"))
    model = {"services": {"web": {"image": "x", **service}}}
    return Ready.of(call, model).side(AgentPlaces(state="/state"))


def test_what_a_change_newly_reaches_of_the_host_is_told_and_nothing_that_it_reached_before() -> (
    None
):
    before = _ready(privileged=True)
    mounts = [
        {"type": "bind", "source": "/repo/.git", "target": "/g", "read_only": True},
        {"type": "bind", "source": "/state/hunter2", "target": "/s"},
    ]
    after = replace(_ready(privileged=True, pid="host", volumes=mounts), hidden=("hunter2",))
    found = effects.asked(before, after)
    assert found == (
        "web: pid: host",
        "web: mounts ./.git, Git's directory",
        "web: mounts /state/[redacted], the agent's journal, clone and secrets",
    )
    assert effects.asked(None, before) == ("web: privileged",)
    assert effects.asked(after, before) == ()
    told = StackEffects(asks=found)
    assert effect_report.details(told)[0] == "! reaches the host: web: pid: host"
    assert told.as_json()["asks"] == list(found)


@pytest.mark.parametrize(
    ("after", "action", "message"),
    [
        (_side(), "none", None),
        (_side(replace(SAME, image="img:2")), "recreate", "its image changes"),
        (_side(keys={"command": ["x"]}), "recreate", "its settings change"),
        (_side(keys={"deploy": {"resources": {}}}), "recreate", "its settings change"),
        (_side(keys={"depends_on": {}}), "none", None),
        (_side(keys={"build": {"context": "./stacks/web"}}), "rebuild", "built from changes"),
        (_side(replace(SAME, scale=2)), "start", "2 containers instead of 1"),
        (_side(replace(SAME, scale=2), keys={"deploy": {"replicas": 2}}), "start", "2 containers"),
        (_side(replace(SAME, scale=0)), "remove", "it left the stack"),
        (_side(oid="new"), "restart", f"{PATH} changes, mounted into it"),
        (Side(services={}, model={"services": {}}), "remove", "it left the stack"),
    ],
)
def test_a_change_says_what_happens_to_the_service_and_why(
    after: Side, action: str, message: str | None
) -> None:
    [effect] = effects.changed(_side(), after)
    assert (effect.name, effect.action) == ("web", action)
    assert effect.message == message or (message and message in str(effect.message))
    assert bool(effect) is (after != _side())


def test_another_number_of_replicas_recreates_nothing() -> None:
    before = _side(keys={"deploy": {"replicas": 1, "resources": {}}})
    after = _side(replace(SAME, scale=2), keys={"deploy": {"replicas": 2, "resources": {}}})
    [effect] = effects.changed(before, after)
    assert (effect.action, effect.message) == ("start", "2 containers instead of 1")


def test_what_a_service_gets_whose_mounted_files_change_is_what_is_told() -> None:
    for wanted in ("signal:HUP", "recreate", "none"):
        [effect] = effects.changed(_side(), _side(oid="new", wanted=wanted))
        assert (effect.action, effect.files) == (wanted, (PATH,))


def test_a_signal_that_would_show_the_service_nothing_is_not_promised() -> None:
    def mounting_one(oid: str) -> Side:
        side = _side(wanted="signal:HUP")
        return replace(side, mounted={"web": Mounted(frozenset({PATH}), ((PATH, oid),))})

    [effect] = effects.changed(mounting_one("old"), mounting_one("new"))
    assert effect.action == "restart"


def test_what_compose_writes_into_a_container_has_it_recreated() -> None:
    def given(digest: str) -> Side:
        written = (("web/web configs", digest),)
        mounted = Mounted(frozenset(), written, written)
        return replace(_side(), mounted={"web": mounted})

    [effect] = effects.changed(given("a"), given("b"))
    assert effect.action == "recreate"


def test_a_value_shows_by_its_name_alone_and_no_secret_in_a_port() -> None:
    before = _side(keys={"environment": {"A": "1", "B": "1"}, "ports": [{"target": 80}]})
    secret = {"target": 80, "published": "hunter2"}
    after = _side(keys={"environment": {"B": "2", "C": "3"}, "ports": [secret]})
    [effect] = effects.changed(before, replace(after, hidden=("hunter2",)))
    assert effect.environment == Delta(("C",), ("A",), ("B",))
    assert effect.ports == Delta(("[redacted]:80/tcp",), ("80/tcp",))


def test_who_shares_namespaces_with_a_service_that_starts_again_is_told_of_too() -> None:
    joined = {"app": replace(SAME, needs={"web": Need(shares=True)})}

    def both(side: Side) -> Side:
        model = {"services": {**side.model["services"], "app": {"image": WEB.image}}}
        mounted = {**side.mounted, "app": Mounted(frozenset(), ())}
        return replace(side, services={**side.services, **joined}, model=model, mounted=mounted)

    for wanted in ("restart", "recreate"):
        told = effects.changed(both(_side()), both(_side(oid="new", wanted=wanted)))
        assert {e.name: e.action for e in told} == {"app": wanted, "web": wanted}
        assert told[0].follows == "web"
        assert (
            told[0].message == "after web: a container whose namespaces it shares was started again"
        )


def test_without_the_older_files_nobody_promises_that_a_service_stays() -> None:
    before = Side.recorded(release("web", services=[WEB]))
    [effect] = effects.changed(before, _side())
    assert (effect.action, effect.message) == ("recreate", "its settings may change")
    [effect] = effects.changed(before, _side(replace(SAME, image="img:2")))
    assert (effect.message, effect.image) == ("its image changes", (WEB.image, "img:2"))
    assert effects.definitions(before, _side()) == ()


def test_a_new_stack_and_a_new_service_start() -> None:
    new = ServiceEffect(name="web", action="start", message="it is new", image=(None, WEB.image))
    assert effects.changed(None, _side()) == (new,)
    assert effects.changed(None, _side(replace(SAME, scale=0))) == ()
    assert effects.changed(Side(services={}, model={"services": {}}), _side()) == (new,)


@pytest.mark.parametrize(
    ("found", "action", "reason"),
    [
        ([], "start", "0 of 1 containers are there"),
        (
            [container("web-web-1", "web", "web", state="exited", exit_code=3)],
            "start",
            "run: exited 3",
        ),
        (
            [container("web-web-1", "web", "web", state="paused")],
            "start",
            "it does not run: paused",
        ),
        (
            [container("web-web-1", "web", "web", labels={"com.docker.compose.config-hash": "x"})],
            "recreate",
            "its settings",
        ),
        (
            [
                container(
                    "renamed", "web", "web", labels={"com.docker.compose.container-number": "1"}
                )
            ],
            "rename",
            "it is called renamed",
        ),
    ],
)
def test_a_repair_says_what_was_found_and_what_it_does(
    found: list[Container], action: str, reason: str
) -> None:
    other = Service(name="other", image="img", scale=0, config_hash="hash-of-other", one_shot=False)
    both = release("web", services=[WEB, other])
    causes = drift.compare(both, found)
    told = effects.drifted(Deploy(stack("web"), Reason.DRIFTED, causes), both)
    assert [(e.name, e.action) for e in told] == [("web", action), ("other", "none")]
    assert reason in (told[0].message or "")

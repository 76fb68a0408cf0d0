"""Stacks of one host come up one after the other where they say so, and go the other way round."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.sandbox.process import wait_until
from tests.system.releases import NEVER_WELL

if TYPE_CHECKING:
    from tests.system.conftest import Fleet

FALSE = f"    command: ['false']\n    {NEVER_WELL}\n"
AWAITED = "    healthcheck: {test: ['CMD', 'test', '-e', /ok], interval: 500ms, retries: 1000}\n"
SLOW = "    command: [sh, -c, 'sleep 1; touch /ok; exec tail -f /dev/null']\n" + AWAITED


def _stack(fleet: Fleet, *after: str, more: str = "") -> str:
    return f"x-commitd: {{after: [{', '.join(after)}]}}\n{fleet.compose(more=more)}"


def _files(stacks: dict[str, str]) -> dict[str, str | bytes | None]:
    return {
        "host/media/stacks.yaml": "".join(f"- {name}\n" for name in stacks) or "[]\n",
        **{f"stacks/{name}/compose.yaml": content for name, content in stacks.items()},
    }


def _events(fleet: Fleet, since: float, *events: str) -> list[str]:
    """Of which stacks' containers, in order."""
    kinds = [word for event in events for word in ("--filter", f"event={event}")]
    said = fleet.box.engine.run(
        "events", "--since", f"{since:.6f}", "--until", f"{time.time():.6f}",
        *kinds, "--filter", "type=container",
        "--format", '{{index .Actor.Attributes "com.docker.compose.project"}}',
    )  # fmt: skip
    return said.split()


def test_stacks_come_up_after_those_they_need_and_go_before_them(fleet: Fleet) -> None:
    """Needed means healthy, not begun: the network, then the proxy, then what is behind it."""
    behind = {"a": _stack(fleet, "b"), "b": _stack(fleet, "c"), "c": fleet.compose(more=AWAITED)}
    beside = {"d": fleet.compose(), "e": fleet.compose(), "f": fleet.compose()}
    fleet.commit("first", _files({**behind, **beside}))
    host = fleet.host()
    began = time.time()
    cycle = host.start("once")
    others = {"c-app-1", "d-app-1", "e-app-1", "f-app-1"}
    wait_until(lambda: fleet.running().keys() == others, what="all that wait for nobody")
    fleet.box.engine.run("exec", "c-app-1", "touch", "/ok")
    assert cycle.wait(timeout=240) == 0
    started = _events(fleet, began, "start")
    assert [name for name in started if name in behind] == ["c", "b", "a"]
    fleet.commit("less", _files(beside))
    began = time.time()
    result = host.once()
    assert result.returncode == 0, result.stdout
    assert _events(fleet, began, "destroy") == ["a", "b", "c"]


def test_what_changes_waits_for_what_it_needs_also_while_that_is_put_right(fleet: Fleet) -> None:
    stacks = {"web": _stack(fleet, "db"), "db": fleet.compose(more=SLOW)}
    host = fleet.synced(_files(stacks))
    fleet.box.engine.run("rm", "--force", "db-app-1")
    changed = _stack(fleet, "db", more="    labels: {l: changed}\n")
    fleet.commit("changed", _files({**stacks, "web": changed}))
    began = time.time()
    assert host.once().returncode == 0
    assert _events(fleet, began, "start", "health_status") == ["db", "db", "web"]


def test_who_comes_after_a_stack_that_fails_waits_and_others_go_on(fleet: Fleet) -> None:
    stacks = {
        "bad": fleet.compose(more=FALSE),
        "next": _stack(fleet, "bad"),
        "last": _stack(fleet, "next"),
        "other": fleet.compose(),
    }
    fleet.commit("first", _files(stacks))
    host = fleet.host()
    result = host.once()
    assert result.returncode == 1
    assert host.json("history", "next")[0]["error"] == "bad is not healthy"
    assert set(fleet.running()) == {"other-app-1"}
    result = host.once()
    assert "bad is not up" in result.stdout
    assert set(fleet.running()) == {"other-app-1"}
    fleet.commit("mended", _files({**stacks, "bad": fleet.compose()}))
    result = host.once()
    assert result.returncode == 0, result.stdout
    assert set(fleet.running()) == {f"{name}-app-1" for name in stacks}


def test_circles_and_names_that_are_not_here_hold_those_stacks_alone(fleet: Fleet) -> None:
    stacks = {
        "a": _stack(fleet, "b"),
        "b": _stack(fleet, "a"),
        "lost": _stack(fleet, "elsewhere"),
        "other": fleet.compose(),
    }
    fleet.commit("first", {**_files(stacks), "stacks/elsewhere/compose.yaml": fleet.compose()})
    host = fleet.host()
    result = host.once()
    assert set(fleet.running()) == {"other-app-1"}
    assert "it waits for itself, through a and b" in result.stdout
    assert "it comes after elsewhere, which this host does not run" in result.stdout


def test_stacks_whose_order_was_turned_round_can_be_taken_down_together(fleet: Fleet) -> None:
    """The one that could not be deployed again still has its older order."""
    beside = {name: fleet.compose() for name in "cdef"}
    host = fleet.synced(_files({"a": _stack(fleet, "b"), "b": fleet.compose(), **beside}))
    turned = {"a": "services: [", "b": _stack(fleet, "a"), **beside}
    fleet.commit("turned", _files(turned))
    host.once()
    fleet.commit("less", _files(beside))
    assert host.once().returncode == 0
    assert set(fleet.running()) == {f"{name}-app-1" for name in beside}

from __future__ import annotations

import pytest

from agent.domain.container import CutOff
from agent.domain.outcome import Reason
from agent.domain.release.health import Need
from agent.domain.release.reload import Step, sequence, sufficient

A, B = ("stacks/s/conf/a", "1"), ("stacks/s/conf/b", "1")
A2 = ("stacks/s/conf/a", "2")
DEEP = ("stacks/s/conf/deep/x", "1")
FILE, FILE2 = ("stacks/s/one.conf", "1"), ("stacks/s/one.conf", "2")
DIRECTORY = {"stacks/s/conf"}


@pytest.mark.parametrize(
    ("mounts", "older", "now", "needed"),
    [
        (DIRECTORY, [A], [A2], "signal:HUP"),
        (DIRECTORY, [A, B], [A2], "signal:HUP"),
        (DIRECTORY, [A, DEEP], [DEEP, B], "signal:HUP"),
        (DIRECTORY, [A], [B], "restart"),  # Git made the directory anew
        (DIRECTORY, [A], [], "restart"),
        (DIRECTORY, [], [A], "restart"),  # nobody knows what is mounted
        ({"stacks/s/one.conf"}, [FILE], [FILE2], "restart"),
        ({"stacks/s/one.conf", *DIRECTORY}, [FILE, A], [FILE, A2], "signal:HUP"),
        ({"stacks/s/one.conf", *DIRECTORY}, [FILE, A], [FILE2, A2], "restart"),
        ({"stacks/s/conf/a", *DIRECTORY}, [A, B], [A2, B], "restart"),
    ],
)
def test_a_signal_is_not_enough_where_it_would_show_nothing_new(
    mounts: set[str], older: list[tuple[str, str]], now: list[tuple[str, str]], needed: str
) -> None:
    assert sufficient("signal:HUP", mounts, older, now) == needed


@pytest.mark.parametrize("wanted", ["none", "restart", "recreate"])
def test_whatever_else_a_stack_wants_it_gets(wanted: str) -> None:
    assert sufficient(wanted, {FILE[0]}, [FILE], [FILE2]) == wanted


# --- who follows whom ---


def own(wanted: dict[str, str]) -> list[Step]:
    return [Step(service=name, how=how, reason=Reason.MOUNTED) for name, how in wanted.items()]


SHARES, FOLLOWS, WAITS = Need(shares=True), Need(restart=True), Need()
NEEDS = {
    "a-app": {"vpn": SHARES},
    "deep": {"a-app": SHARES},
    "db": {},
    "web": {"db": FOLLOWS, "vpn": WAITS},
    "front": {"web": FOLLOWS},
    "vpn": {},
}


@pytest.mark.parametrize(
    ("wanted", "cut_off", "steps"),
    [
        ({}, {}, []),
        ({"db": "none"}, {}, ["db none"]),
        ({"vpn": "signal:HUP"}, {}, ["vpn signal:HUP"]),
        ({"vpn": "restart"}, {}, ["vpn restart", "a-app restart", "deep restart"]),
        ({"vpn": "recreate"}, {}, ["vpn recreate", "a-app recreate", "deep recreate"]),
        ({"db": "recreate"}, {}, ["db recreate", "web restart", "front restart"]),
        ({"web": "restart"}, {}, ["web restart", "front restart"]),
        # Once, after the one that it needs, and the stronger of both.
        ({"vpn": "restart", "a-app": "none"}, {}, ["vpn restart", "a-app restart", "deep restart"]),
        ({"db": "restart", "web": "recreate"}, {}, ["db restart", "web recreate", "front restart"]),
        ({}, {"a-app": CutOff("vpn", gone=False)}, ["a-app restart", "deep restart"]),
        ({}, {"a-app": CutOff("1a2b", gone=True)}, ["a-app recreate", "deep recreate"]),
        ({"vpn": "restart"}, {"deep": CutOff("x", gone=True)}, [
            "vpn restart", "a-app restart", "deep recreate"
        ]),
    ],
)  # fmt: skip
def test_who_needs_a_service_that_starts_again_comes_after_it_and_nobody_else(
    wanted: dict[str, str], cut_off: dict[str, CutOff], steps: list[str]
) -> None:
    assert [f"{s.service} {s.how}" for s in sequence(own(wanted), cut_off, NEEDS)] == steps


def test_who_is_started_only_once_another_is_healthy_is_so_again() -> None:
    needs = {"vpn": {}, "app": {"vpn": Need(healthy=True, shares=True)}}
    assert [s.healthy for s in sequence(own({"vpn": "restart"}), {}, needs)] == [(), ("vpn",)]


def test_a_circle_that_compose_does_not_see_ends_all_the_same() -> None:
    needs = {"a": {"b": SHARES}, "b": {"a": WAITS}}
    assert [s.service for s in sequence(own({"a": "restart", "b": "none"}), {}, needs)] == [
        "a",
        "b",
    ]

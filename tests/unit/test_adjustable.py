"""What can be changed on a container while it runs, and how that is undone."""

from __future__ import annotations

from typing import Any

import pytest

from agent.adapters.engine.containers import settings_of, updated
from agent.domain import adjustable
from agent.domain.adjustable import Remedy
from agent.domain.container import Container
from agent.domain.release import drift
from tests.unit.builders import container, release, service
from tests.values import replace

ID = "1a2b3c4d5e6f" + "0" * 52


def _raw(**host: Any) -> dict[str, Any]:
    return {
        "Id": ID,
        "Name": "/s-app-1",
        "HostConfig": {"RestartPolicy": {"Name": "", "MaximumRetryCount": 0}, "Memory": 0, **host},
        "NetworkSettings": {"Networks": {}},
    }


def test_what_nobody_asked_for_is_no_setting() -> None:
    assert settings_of(_raw(PidsLimit=None, CpusetCpus="")) == ()
    assert settings_of(_raw(RestartPolicy={"Name": "no"})) == ()


def test_limits_policy_networks_aliases_and_fixed_addresses_are_settings() -> None:
    raw = _raw(Memory=9, RestartPolicy={"Name": "on-failure", "MaximumRetryCount": 3})
    raw["NetworkSettings"]["Networks"] = {
        "none": {"Aliases": None, "IPAMConfig": None},
        "s_default": {
            "Aliases": ["s-app-1", "app", "web", ID[:12]],
            "IPAMConfig": {"IPv4Address": "10.0.0.5"},
        },
    }
    found = settings_of(raw)
    assert dict(found) == {
        "Memory": 9,
        "RestartPolicy": "on-failure:3",
        "network none": "",
        "network s_default": "app web 10.0.0.5",
    }
    assert adjustable.networks(found) == {"none", "s_default"}
    assert updated({"Memory": 9, "RestartPolicy": "on-failure:3"}) == {
        "Memory": 9,
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
    }
    assert updated({"RestartPolicy": "no"})["RestartPolicy"]["Name"] == "no"


@pytest.mark.parametrize(
    ("recorded", "now", "remedy"),
    [
        ({}, {}, Remedy({})),
        ({"Memory": 9}, {"Memory": 5}, Remedy({"Memory": 9})),
        ({"RestartPolicy": "always"}, {}, Remedy({"RestartPolicy": "always"})),
        ({}, {"RestartPolicy": "always"}, Remedy({"RestartPolicy": "no"})),
        ({}, {"network x": "a"}, Remedy({}, ("x",))),
        ({}, {"network x": "", "RestartPolicy": "always"}, Remedy({"RestartPolicy": "no"}, ("x",))),
        # What the engine cannot change back.
        ({}, {"Memory": 5}, Remedy({}, recreate=True)),
        ({"network x": "a"}, {}, Remedy({}, recreate=True)),
        ({"network x": "a"}, {"network x": ""}, Remedy({}, recreate=True)),
        ({"Memory": 9}, {"Memory": 5, "NanoCpus": 1}, Remedy({}, recreate=True)),
    ],
)
def test_a_change_is_undone_without_a_new_container_where_the_engine_can(
    recorded: dict[str, int | str], now: dict[str, int | str], remedy: Remedy
) -> None:
    assert adjustable.remedy(tuple(recorded.items()), tuple(now.items())) == remedy


SETTINGS = (("Memory", 9), ("network s_default", "app"), ("network s_other", ""))
RECORDED = release("s", services=[replace(service("app"), settings=SETTINGS)])
OLDER = release("s", services=[service("app")])


def _app(*networks: str, **changes: Any) -> Container:
    found = replace(container("s-app-1", "s", "app"), network="s_default")
    return replace(found, networks=frozenset(networks), **changes)


@pytest.mark.parametrize(
    ("found", "causes"),
    [
        (_app("s_default", "s_other"), []),
        (_app("s_default", "s_other", settings=SETTINGS), []),
        (_app("s_default"), [("s/app network s_other", "connected", None)]),
        (_app("s_default", "s_other", "x"), [("s/app network x", None, "connected")]),
        (_app("s_default", "s_other", settings=SETTINGS[1:]), [("s/app Memory", "9", None)]),
        # The listing is newer than what was seen before.
        (_app("s_default", settings=SETTINGS), [("s/app network s_other", "connected", None)]),
        (_app(state="restarting"), []),
    ],
)
def test_what_was_changed_by_hand_is_drift(
    found: Container, causes: list[tuple[str, str | None, str | None]]
) -> None:
    assert [(c.subject, c.before, c.after) for c in drift.compare(RECORDED, [found])] == causes


@pytest.mark.parametrize(
    ("found", "lost"),
    [
        (_app(), "s_default"),
        (_app("s_default", "anything"), None),
        (replace(_app(), network="default"), None),
        (replace(_app(), network="container:x"), None),
        (replace(_app(), networks=None), None),
    ],
)
def test_of_an_older_release_a_network_is_missed_that_the_container_was_made_with(
    found: Container, lost: str | None
) -> None:
    assert found.lost_network == lost
    assert [c.subject for c in drift.compare(OLDER, [found])] == (
        [f"s/app network {lost}"] if lost else []
    )

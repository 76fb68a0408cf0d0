from __future__ import annotations

from typing import Any

import pytest

from agent.domain.resources import exclusive
from agent.domain.resources.exclusive import ExclusiveKind, Holding


def _wanted(service: dict[str, Any], *, scale: int = 1) -> set[str]:
    model = {
        "services": {"new": service},
        "networks": {"back": {"name": "web_back"}, "front": None},
    }
    found = exclusive.wanted("web", "new", scale, model)
    return {f"{each} {each.where}".strip() for each in found} - {"container name web-new-1"}


@pytest.mark.parametrize(
    ("service", "wanted"),
    [
        ({}, set()),
        ({"ports": [{"target": 80, "published": "8080"}]}, {"port 8080/tcp"}),
        (
            {"ports": [{"target": 53, "published": "53", "protocol": "udp", "host_ip": "::1"}]},
            {"port 53/udp ::1"},
        ),
        ({"ports": [{"target": 80}, {"target": 81, "published": "8000-8010"}]}, set()),
        (
            {"networks": {"back": {"ipv4_address": "10.0.0.5"}, "front": None}},
            {"address 10.0.0.5 web_back"},
        ),
        (
            {"networks": {"back": {"ipv6_address": "FD00::5"}}, "mac_address": "02:42:AA:00:00:01"},
            {"address fd00::5 web_back", "address 02:42:aa:00:00:01 web_back"},
        ),
    ],
)
def test_a_service_wants_what_its_file_says_exactly(
    service: dict[str, Any], wanted: set[str]
) -> None:
    assert _wanted(service) == wanted


def test_the_names_of_its_containers_are_its_own_or_made_by_compose() -> None:
    model: dict[str, Any] = {"services": {"new": {}, "named": {"container_name": "web"}}}
    two = exclusive.wanted("web", "new", 2, model)
    assert {each.value for each in two} == {"web-new-1", "web-new-2"}
    assert exclusive.wanted("web", "named", 1, model) == {Holding(ExclusiveKind.NAME, "web")}
    assert exclusive.wanted("web", "named", 0, model) == frozenset()


def _raw(*, running: bool) -> dict[str, Any]:
    return {
        "Name": "/web",
        "State": {"Running": running},
        "NetworkSettings": {
            "Ports": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}], "81/tcp": None},
            "Networks": {"web_back": {"IPAddress": "10.0.0.5", "GlobalIPv6Address": ""}},
        },
    }


@pytest.mark.parametrize(
    ("wants", "meets"),
    [
        (Holding(ExclusiveKind.PORT, "8080/tcp"), True),
        (Holding(ExclusiveKind.PORT, "8080/tcp", "0.0.0.0"), True),  # noqa: S104  an address
        (Holding(ExclusiveKind.PORT, "8080/tcp", "127.0.0.1"), True),
        (Holding(ExclusiveKind.PORT, "8080/tcp", "127.0.0.2"), False),
        (Holding(ExclusiveKind.PORT, "8080/tcp", "::"), False),
        (Holding(ExclusiveKind.PORT, "8080/udp"), False),
        (Holding(ExclusiveKind.PORT, "80/tcp"), False),
        (Holding(ExclusiveKind.ADDRESS, "10.0.0.5", "web_back"), True),
        (Holding(ExclusiveKind.ADDRESS, "10.0.0.5", "other"), False),
        (Holding(ExclusiveKind.NAME, "web"), True),
        (Holding(ExclusiveKind.NAME, "web-new-1"), False),
    ],
)
def test_who_runs_is_in_the_way_of_who_wants_the_same(wants: Holding, meets: bool) -> None:
    assert bool(exclusive.in_the_way(exclusive.had(_raw(running=True)), {wants})) is meets
    stopped = exclusive.in_the_way(exclusive.had(_raw(running=False)), {wants})
    assert bool(stopped) is (meets and wants.kind is ExclusiveKind.NAME)

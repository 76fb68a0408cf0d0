from __future__ import annotations

from typing import Any

import pytest

from agent.domain.container import PROJECT
from agent.domain.resources import options as resources

LABELS = {PROJECT: "s", "com.docker.compose.network": "default"}
IPAM = {"Driver": "default", "Options": None, "Config": [{"Subnet": "172.18.0.0/16"}]}
FOUND: dict[str, Any] = {
    "Driver": "bridge",
    "Internal": False,
    "Attachable": False,
    "EnableIPv6": False,
    "IPAM": IPAM,
    "Options": {},
    "Labels": LABELS,
}


def test_a_network_with_the_defaults_is_as_declared_whatever_its_addresses() -> None:
    assert resources.network_differences({"name": "s_default", "ipam": {}}, FOUND) == []
    # An engine before 27 does not tell of IPv4.
    newer = {**FOUND, "EnableIPv4": True, "Options": None}
    assert resources.network_differences({"name": "s_default"}, newer) == []


@pytest.mark.parametrize(
    ("declared", "there"),
    [
        ({"driver": "macvlan"}, {"Driver": "macvlan"}),
        ({"internal": True}, {"Internal": True}),
        ({"attachable": True}, {"Attachable": True}),
        ({"enable_ipv6": True}, {"EnableIPv6": True}),
        ({"enable_ipv4": False}, {"EnableIPv4": False}),
        ({"driver_opts": {"mtu": 1400}}, {"Options": {"mtu": "1400"}}),
        ({"labels": {"a": "b"}}, {"Labels": {**LABELS, "a": "b"}}),
        (
            {"ipam": {"config": [{"subnet": "10.9.0.0/24", "aux_addresses": {"nas": "10.9.0.9"}}]}},
            {
                "IPAM": {
                    "Driver": "default",
                    "Config": [
                        {
                            "Subnet": "10.9.0.0/24",
                            "Gateway": "10.9.0.1",
                            "AuxiliaryAddresses": {"nas": "10.9.0.9"},
                        }
                    ],
                }
            },
        ),
    ],
)
def test_each_option_of_a_network_counts(declared: dict[str, Any], there: dict[str, Any]) -> None:
    [key] = declared
    assert resources.network_differences(declared, {**FOUND, **there}) == []
    assert resources.network_differences(declared, FOUND) == [key]
    if key != "ipam":  # addresses that nobody declares are the engine's
        assert resources.network_differences({}, {**FOUND, **there}) == [key]


def test_each_option_of_a_volume_counts() -> None:
    found = {"Driver": "local", "Options": None, "Labels": {PROJECT: "s"}}
    assert resources.volume_differences({"name": "s_data"}, found) == []
    options = {"type": "nfs", "device": ":/x"}
    nfs = {**found, "Options": options}
    assert resources.volume_differences({"driver": "local", "driver_opts": options}, nfs) == []
    assert resources.volume_differences({"driver_opts": options}, found) == ["driver_opts"]
    assert resources.volume_differences({}, nfs) == ["driver_opts"]
    assert resources.volume_differences({"driver": "rclone"}, found) == ["driver"]

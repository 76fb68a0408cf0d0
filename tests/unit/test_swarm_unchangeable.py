"""What a Swarm leaves as it was made is compared before a deploy, as its engine lists it."""

from __future__ import annotations

from typing import Any

import pytest

from agent.adapters.swarm.cluster import service_of
from agent.domain.swarm import stack_file, unchangeable
from agent.domain.swarm.model import OURS, STACK, SwarmService

ROOT = "/srv/repo"
IMAGE = "nginx:1.27@sha256:" + "0123456789abcdef" * 4


def written(service: dict[str, Any], **top: Any) -> stack_file.Draft:
    model = {"name": "web", "services": {"a": {"image": IMAGE, **service}}, **top}
    return stack_file.read("web", model, ROOT)


def network(**settings: Any) -> dict[str, Any]:
    """As engines list an overlay that ``docker stack deploy`` has made of an empty entry."""
    return {
        "Name": "web_back",
        "Id": "n1",
        "Scope": "swarm",
        "Driver": "overlay",
        "EnableIPv4": True,
        "EnableIPv6": False,
        "Internal": False,
        "Attachable": False,
        "IPAM": {"Driver": "default", "Options": None,
                 "Config": [{"Subnet": "10.0.1.0/24", "Gateway": "10.0.1.1"}]},
        "Options": {"com.docker.network.driver.overlay.vxlanid_list": "4097"},
        "Labels": {STACK: "web", OURS: "web"},
        **settings,
    }  # fmt: skip


def service(name: str, mode: str) -> SwarmService:
    spec = {"Name": name, "Labels": {STACK: "web"}, "Mode": {mode: {}}}
    return service_of({"ID": "i" * 25, "Version": {"Index": 7}, "Spec": spec})


def said(declared: dict[str, Any] | None, found: dict[str, Any]) -> list[str]:
    file = written({"networks": {"back": None}}, networks={"back": declared})
    return [
        each.message for each in unchangeable.networks("web", file.document["networks"], [found])
    ]


@pytest.mark.parametrize(
    ("declared", "found"),
    [
        (None, network()),
        ({"name": "web_back", "ipam": {}, "driver": "overlay", "enable_ipv6": False}, network()),
        ({"internal": True, "attachable": "true"}, network(Internal=True, Attachable=True)),
        ({"ipam": {"config": [{"subnet": "10.0.1.7/24"}]}}, network()),
        ({"ipam": {"driver": "default"}}, network(IPAM={"Driver": "", "Config": None})),
        ({"driver_opts": {"encrypted": "", "x": "a$$b"}},
         network(Options={"com.docker.network.driver.overlay.vxlanid_list": "4097",
                          "encrypted": "", "x": "a$b"})),
        ({"labels": {"a": "1"}}, network(Labels={STACK: "web", "a": "1"})),
        ({"internal": True}, network(Driver="", Options=None, IPAM={})),
        ({"external": True, "name": "web_back"}, network(Internal=True)),
        ({"name": "other", "internal": True}, network()),
    ],
)  # fmt: skip
def test_a_network_that_is_as_declared_is_left_alone(
    declared: dict[str, Any] | None, found: dict[str, Any]
) -> None:
    assert said(declared, found) == []


@pytest.mark.parametrize(
    ("declared", "found", "what"),
    [
        ({"internal": True}, network(), "internal"),
        (None, network(Internal=True), "internal"),
        ({"attachable": True}, network(), "attachable"),
        ({"driver_opts": {"encrypted": ""}}, network(), "driver_opts"),
        (None, network(Options={"encrypted": ""}), "driver_opts"),
        ({"ipam": {"config": [{"subnet": "10.0.2.0/24"}]}}, network(), "ipam"),
        ({"driver": "weave"}, network(), "driver"),
        ({"labels": {"a": "2"}}, network(Labels={STACK: "web", "a": "1"}), "labels"),
    ],
)
def test_a_network_that_would_stay_as_it_was_made_is_named(
    declared: dict[str, Any] | None, found: dict[str, Any], what: str
) -> None:
    [message] = said(declared, found)
    assert message.startswith(f"{what} of the network web_back cannot be changed")


def test_a_volume_that_was_made_with_something_else_is_named_without_its_options() -> None:
    use = {"volumes": [{"type": "volume", "source": "data", "target": "/data"}]}
    options = {"type": "nfs", "o": "addr=10.0.0.2,password=hunter2", "device": ":/x"}
    file = written(use, volumes={"data": {"driver_opts": options}})
    found = {"Name": "web_data", "Driver": "local", "Labels": {STACK: "web"}, "Options": options}
    assert unchangeable.volume_names("web", file.document["volumes"]) == {"data": "web_data"}
    assert not list(unchangeable.volumes("web", file.document["volumes"], [found]))
    [said] = unchangeable.volumes("web", file.document["volumes"], [{**found, "Options": None}])
    assert said.message.startswith("driver_opts of the volume web_data cannot be changed")
    assert "hunter2" not in said.message + said.hint
    assert said.path == ("volumes", "data")


def test_labels_of_a_volume_that_somebody_else_has_made_are_not_for_the_stack_to_say() -> None:
    use = {"volumes": [{"type": "volume", "source": "data", "target": "/data"}]}
    file = written(use, volumes={"data": {"labels": {"a": "1"}}})
    found = {"Name": "web_data", "Driver": "local", "Labels": None, "Options": None}
    assert not list(unchangeable.volumes("web", file.document["volumes"], [found]))


def test_a_service_in_another_mode_is_named_and_what_to_do() -> None:
    file = written({"deploy": {"mode": "global"}})
    [said] = unchangeable.modes("web", file.services, [service("web_a", "Replicated")])
    assert "web_a is replicated, not global" in said.message
    assert "docker service rm web_a" in said.hint
    assert not list(unchangeable.modes("web", file.services, [service("web_a", "Global")]))
    assert not list(unchangeable.modes("web", file.services, [service("web_b", "Replicated")]))

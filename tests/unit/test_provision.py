"""What of a stack's networks and volumes Compose will not, or cannot, make as they are declared."""

from __future__ import annotations

from typing import Any

import pytest

from agent.domain.container import CONFIG_HASH, PROJECT
from agent.domain.resources import provision
from agent.domain.resources.provision import DeclaredResources, ResourceKind

NOTHING: dict[str, Any] = {"Options": None, "Labels": None, "Internal": False, "Attachable": False}


def _declared(kind: ResourceKind, **settings: Any) -> DeclaredResources:
    mounts = [{"type": "volume", "source": "key"}, {"type": "bind", "source": "unused"}]
    model = {
        "services": {"app": {"networks": {"key": None}, "volumes": mounts}},
        f"{kind}s": {"key": {"name": "made", **settings}, "unused": {"external": True}},
    }
    (found,) = provision.declared(model)
    return found


def _network(**raw: Any) -> dict[str, Any]:
    return {**NOTHING, "Name": "made", "Id": "1f", "Driver": "bridge", "EnableIPv6": False, **raw}


def _volume(**raw: Any) -> dict[str, Any]:
    return {"Name": "made", "Driver": "local", "Options": None, "Labels": None, **raw}


def _differs(settings: dict[str, Any], raw: dict[str, Any]) -> list[str]:
    declared = [_declared(ResourceKind.NETWORK, **settings)]
    return [what for _, _, found in provision.diverged(declared, [raw]) for what in found]


@pytest.mark.parametrize(
    ("settings", "raw", "what"),
    [
        ({}, {}, []),
        ({"internal": True}, {}, ["internal"]),
        ({"internal": True}, {"Internal": True}, []),
        # What is not written out may be the engine's own default.
        ({}, {"Options": {"com.docker.network.driver.mtu": "1400"}}, []),
        ({}, {"Driver": "macvlan"}, []),
        ({"driver": "bridge"}, {"Driver": "macvlan"}, ["driver"]),
        ({"external": True, "internal": True}, {}, []),
        ({"ipam": {"config": [{"subnet": "10.1.0.0/24"}]}}, {}, ["ipam"]),
    ],
)
def test_a_network_without_a_hash_is_compared_by_what_is_written_out(
    settings: dict[str, Any], raw: dict[str, Any], what: list[str]
) -> None:
    assert _differs(settings, _network(**raw)) == what


def test_a_network_with_a_hash_is_another_one_if_that_is_another() -> None:
    same = _declared(ResourceKind.NETWORK, labels={"a": "$$1"})
    assert same.settings["labels"] == {"a": "$1"}
    labels = {CONFIG_HASH: same.digest, "a": "$1"}
    assert not _differs({"labels": {"a": "$$1"}}, _network(Labels=labels))
    assert _differs({"labels": {"a": "2"}}, _network(Labels=labels)) == ["labels"]
    # Nobody knows what, as when a fixed subnet is given up.
    assert _differs({}, _network(Labels={CONFIG_HASH: "other"})) == ["the settings"]


@pytest.mark.parametrize(
    ("settings", "raw", "what"),
    [
        ({}, {}, None),
        ({"driver": "vieux/sshfs"}, {"Driver": "vieux/sshfs:latest"}, None),
        ({"driver_opts": {"o": "password=1"}}, {"Options": {"o": "password=2"}}, "driver_opts"),
        ({"labels": {"a": "1"}}, {"Labels": {PROJECT: "web", "a": "2"}}, "labels"),
        ({"labels": {"a": "1"}}, {"Labels": {PROJECT: "other"}}, None),
        ({"labels": {"a": "1"}}, {}, None),
        ({"external": True}, {"Driver": "other"}, None),
    ],
)
def test_a_volume_stays_what_it_was_made_as(
    settings: dict[str, Any], raw: dict[str, Any], what: str | None
) -> None:
    wanted = [_declared(ResourceKind.VOLUME, **settings)]
    found = list(provision.volumes_that_differ("web", wanted, [_volume(**raw)]))
    assert [each.message.partition(" of the volume made")[0] for each in found] == (
        [what] if what else []
    )
    assert not any("password" in f"{each.message} {each.hint}" for each in found)


@pytest.mark.parametrize(
    ("users", "who"),
    [
        ({}, None),
        ({"web-app-1": "web"}, None),
        ({"web-app-1": "web", "b-x-1": "b", "a-x-1": "a"}, "the stack a and b (a-x-1, b-x-1)"),
        ({"by-hand": None}, "the container by-hand"),
    ],
)
def test_a_network_is_made_anew_only_where_its_stack_is_alone(
    users: dict[str, str | None], who: str | None
) -> None:
    wanted = _declared(ResourceKind.NETWORK)
    problem = provision.network_in_use("web", wanted, ["internal"], users)
    assert (problem is None) if who is None else (problem and who in problem.message)


@pytest.mark.parametrize(
    ("wanted", "there", "clash"),
    [
        ("10.1.0.0/16", "10.1.2.0/24", True),
        ("10.1.0.0/24", "10.1.1.0/24", False),
        ("fd00::/64", "10.1.0.0/16", False),
        ("no subnet", "10.1.0.0/16", False),
    ],
)
def test_a_subnet_is_taken_once(wanted: str, there: str, clash: bool) -> None:
    made = [_declared(ResourceKind.NETWORK, ipam={"config": [{"subnet": wanted}]})]
    other = _network(Name="other", IPAM={"Config": [{"Subnet": there}, {}]})
    swarm = _network(Name="swarm", Driver="overlay", IPAM={"Config": [{"Subnet": wanted}]})
    own = _network(IPAM={"Config": [{"Subnet": wanted}]})
    assert bool(list(provision.overlaps(made, [other, own, swarm]))) is clash


@pytest.mark.parametrize(
    ("projects", "busy", "gone"),
    [
        (("a", "b"), (), "2"),
        (("a", "b"), ("2",), "1"),
        (("a", "b"), ("1", "2"), ""),
        (("a", "other"), (), "1"),
        (("other", "a", "b"), (), "23"),
        (("other", None), (), ""),
    ],
)
def test_of_networks_with_one_name_the_empty_ones_of_our_stacks_can_go_but_for_one(
    projects: tuple[str | None, ...], busy: tuple[str, ...], gone: str
) -> None:
    several = [
        _network(Id=str(i), Created=f"2026-01-0{i}", Labels={PROJECT: owner} if owner else None)
        for i, owner in enumerate(projects, 1)
    ]
    wanted = [_declared(ResourceKind.NETWORK)]
    assert provision.twice(wanted, reversed(several)) == {"made": several}
    users = {n["Id"]: ["x-1"] if n["Id"] in busy else [] for n in several}
    assert "".join(n["Id"] for n in provision.superfluous(several, users, {"a", "b"})) == gone
    message = provision.ambiguous(wanted[0], several, users).message
    assert f"there are {len(several)} networks called made" in message
    assert "made for" in message

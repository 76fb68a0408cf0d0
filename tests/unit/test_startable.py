"""Which stopped containers no start brings back."""

from __future__ import annotations

import pytest

from agent.domain.release import startable
from tests.unit.builders import container
from tests.values import replace

MINE = replace(
    container("s-app-1", "s", "app", state="exited"),
    created=10.0,
    networks=frozenset({"s_default", "bridge"}),
)
NETWORKS = {"s_default": 9.0, "bridge": 99.0}
ID = "0123456789ab" * 5 + "0123"


@pytest.mark.parametrize(
    ("networks", "why"),
    [
        (NETWORKS, None),
        ({"bridge": 1.0}, "its network s_default was removed"),
        # Somebody made it anew, or Compose did in a start that failed.
        ({**NETWORKS, "s_default": 11.0}, "its network s_default was removed"),
    ],
)
def test_a_container_cannot_start_whose_network_is_gone_or_a_newer_one(
    networks: dict[str, float], why: str | None
) -> None:
    assert startable.refusal(MINE, "", networks, ()) == why


@pytest.mark.parametrize(("there", "startable_"), [({ID}, True), ({"vpn"}, False)])
def test_a_container_cannot_start_whose_owner_of_a_namespace_is_gone(
    there: set[str], *, startable_: bool
) -> None:
    mine = replace(MINE, joins=frozenset({ID}))
    assert (startable.refusal(mine, "", NETWORKS, there) is None) is startable_


@pytest.mark.parametrize(
    ("error", "known"),
    [
        (f"network {ID} not found", True),
        (f"failed to set up container networking: network {ID} not found", True),
        (f"No such container: {ID}", True),
        ("driver failed programming external connectivity: port is already allocated", False),
        ('error while creating mount source path "/x": read-only file system', False),
        ("cannot join network of a non running container: abc", False),
    ],
)
def test_what_the_engine_said_of_the_last_start_counts_where_only_a_new_container_helps(
    error: str, *, known: bool
) -> None:
    assert (startable.refusal(MINE, error, NETWORKS, ()) is not None) is known

"""Who runs in namespaces that have ended, told from what a listing and a few inspects show."""

from __future__ import annotations

import pytest

from agent.domain.container import Container, CutOff
from agent.domain.release import expected, namespaces
from agent.domain.release.health import Need
from tests.unit.builders import container, release, service
from tests.values import replace

STACK = release("s", services=[service("vpn"), replace(service("app"), joins=True)])
NOW = 100.0
JOINING = namespaces.joining([STACK])


def vpn(*, started: float, state: str = "running") -> Container:
    return replace(container("vpn", "s", "vpn", state=state), started=started)


def app(**changes: object) -> Container:
    """Started at 10, in the process namespace of vpn: a listing shows nothing of either."""
    found = replace(container("s-app-1", "s", "app"), started=10.0, joins=frozenset({"id-vpn"}))
    return replace(found, **changes)


def listed(container: Container) -> Container:
    return replace(container, started=None, joins=frozenset())


def look(
    *containers: Container, gone: frozenset[str] = frozenset()
) -> tuple[list[CutOff | None], set[str]]:
    """What follows for each, and who had to be inspected for that."""
    engine = {c.id: c for c in containers}
    listing = [listed(c) for c in containers]
    seen: dict[str, Container | None] = {}
    while missing := namespaces.unseen(listing, JOINING, seen):
        seen |= {each: None if each in gone else engine[each] for each in missing}
    return [c.cut_off for c in namespaces.marked(listing, JOINING, seen, NOW)], set(seen)


@pytest.mark.parametrize(
    ("owner", "mine", "found"),
    [
        (vpn(started=9), app(), None),
        (vpn(started=11), app(), CutOff("vpn", gone=False)),
        (vpn(started=11), app(joins=frozenset({"vpn"})), CutOff("vpn", gone=False)),
        (
            vpn(started=11),
            app(joins=frozenset({"1234567890ab" * 5})),
            CutOff("1234567890ab", gone=True),
        ),
        (vpn(started=NOW + 1), app(), None),  # the clock was set back since
        # An owner that does not run has no namespaces to join; that is drift of its own.
        (vpn(started=11, state="exited"), app(), None),
        (vpn(started=11, state="restarting"), app(), None),
        (vpn(started=11), app(state="exited"), None),
    ],
)
def test_who_joined_before_its_owner_was_started_again_or_went_is_cut_off(
    owner: Container, mine: Container, found: CutOff | None
) -> None:
    assert look(owner, mine)[0] == [None, found]


def test_only_those_are_inspected_that_share_something() -> None:
    others = [container("x", "s", "vpn2"), container("y", "t", "app"), container("z")]
    assert look(vpn(started=11), app(), *others)[1] == {"id-vpn", "id-s-app-1"}
    assert look(*others)[1] == set()


def test_what_is_gone_before_it_is_inspected_says_nothing() -> None:
    assert look(vpn(started=11), app(), gone=frozenset({"id-vpn"}))[0] == [None, None]
    assert look(vpn(started=11), app(), gone=frozenset({"id-s-app-1"}))[0] == [None, None]


def test_a_network_of_another_container_shows_in_the_listing_also_for_an_older_release() -> None:
    mine = replace(container("a", "t", "app"), joins=frozenset({"id-vpn"}))
    containers = (vpn(started=11), mine)
    assert namespaces.unseen(containers, (), {}) == {"id-vpn", "id-a"}
    assert namespaces.owners(containers, (), {}) == {"id-vpn"}


def test_what_services_need_of_each_other_is_read_from_the_model() -> None:
    model = {
        "services": {
            "vpn": {"container_name": "gluetun"},
            "net": {
                "network_mode": "service:vpn",
                "depends_on": {"vpn": {"condition": "service_healthy"}},
            },
            "pid": {"pid": "container:gluetun", "ipc": "shareable"},
            "other": {"network_mode": "container:elsewhere"},
            "web": {"depends_on": {"net": {"condition": "service_started", "restart": True}}},
            "alone": {"network_mode": "host", "pid": "host"},
        }
    }
    assert expected.needs(model) == {
        "vpn": {},
        "net": {"vpn": Need(healthy=True, shares=True)},
        "pid": {"vpn": Need(shares=True)},
        "other": {},
        "web": {"net": Need(restart=True)},
        "alone": {},
    }
    found = expected.services(model, lambda _: "", "")
    assert {name: set(each.joins) for name, each in found.items() if each.joins} == {
        "net": {"service:vpn"},
        "pid": {"container:gluetun"},
        "other": {"container:elsewhere"},
    }

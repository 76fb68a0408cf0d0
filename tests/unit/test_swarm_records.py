"""What managers of a Swarm share, as it is kept, and how a journal takes it over."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from agent.adapters.state.journal import APPROVED_AGENT, CLIFF, Journal
from agent.adapters.state.releases import Rollback
from agent.control.reconcile import observe
from agent.control.swarm import remembered
from agent.domain.clock import Reading
from agent.domain.config import Config
from agent.domain.errors import ConfigError, PermanentError
from agent.domain.reconcile.exemptions import Exemptions, Suspension
from agent.domain.reconcile.host_state import HostState
from agent.domain.release.health import Need
from agent.domain.release.identity import Known
from agent.domain.swarm import records
from agent.domain.swarm.records import ClusterRecord, StackRecord
from tests.unit.builders import attempt, desired, release, revision, service
from tests.values import replace

WALL = 1_700_000_000.0
WEB = replace(
    release(
        "web",
        services=[replace(service(), needs=(("db", Need(healthy=True)),), settings=(("m", 1),))],
    ),
    own=frozenset({("web", "id-1")}),
)
ATTEMPT = replace(attempt("web"), next_at=WALL + 100)


def journal(path: Path, *, ahead: float = 0.0) -> Journal:
    """Of a machine that was off for ``ahead`` seconds since its journal was begun."""
    Journal(path, clocks=lambda: Reading(WALL - ahead, 1000.0)).close()
    return Journal(path, clocks=lambda: Reading(WALL, 10.0))


def test_a_record_says_again_all_that_was_written() -> None:
    record = StackRecord(stack="web", release=WEB, attempt=ATTEMPT, started="d1")
    assert records.read(records.text(record), StackRecord, "commitd-web") == record


def test_a_record_of_a_newer_version_is_read_as_far_as_it_is_understood() -> None:
    kept = json.loads(records.text(StackRecord(stack="web", started="d1")))
    kept |= {"new": {"of": "a newer version"}}
    assert records.read(json.dumps(kept), StackRecord, "x") == StackRecord(
        stack="web", started="d1"
    )


def test_a_record_of_another_format_is_not_guessed_at() -> None:
    kept = {"format": records.FORMAT + 1, "stack": "web"}
    with pytest.raises(PermanentError, match="config commitd-web: a newer version"):
        records.read(json.dumps(kept), StackRecord, "commitd-web")


@pytest.mark.parametrize("kept", ["", "{", '"x"', '{"stack": 3}', '{"release": {}}', "\ud800"])
def test_a_damaged_record_says_where_and_what_to_do(kept: str) -> None:
    with pytest.raises(PermanentError, match=r"config commitd-web: .*docker config rm commitd-web"):
        records.read(kept, StackRecord, "commitd-web")


def test_a_record_that_no_engine_takes_is_not_written() -> None:
    large = replace(WEB, inputs=tuple((f"stacks/web/{i}", "0" * 40) for i in range(10_000)))
    with pytest.raises(PermanentError, match="more than"):
        records.text(StackRecord(stack="web", release=large))


def test_each_stack_has_a_config_of_its_own_whatever_it_is_called() -> None:
    stacks = ["web", "cluster", "x" * 63, "x" * 64, "web-", "web_", "a_b", "commitd-web"]
    names = [records.name(stack) for stack in stacks]
    assert names[0] == "commitd-web"
    assert len({*names, records.CLUSTER}) == len(stacks) + 1
    assert all(len(name) <= 64 and name[-1].isalnum() for name in names)


def test_the_next_leader_remembers_what_the_one_before_did(tmp_path: Path) -> None:
    one, two = journal(tmp_path / "one.db"), journal(tmp_path / "two.db", ahead=500.0)
    one.keep_made("web", Known(WEB.own or frozenset()))
    one.keep_release(WEB)
    one.mark_dirty("web")
    one.keep_started("web", "d2")
    one.keep_attempt(ATTEMPT)
    one.roll_back("web", Rollback("d2", WEB.revision, "it was not healthy"))
    two.keep_release(release("web", "older"))
    two.keep_attempt(replace(attempt("web"), count=7))

    _, [record] = remembered.collected(one, "node1", "prod")
    remembered.take_stack(two, record)

    assert two.releases() == one.releases() == {"web": replace(WEB, dirty=True)}
    assert two.rollbacks() == one.rollbacks()
    assert two.started("web") == "d2"
    shown = [each.shown(each.attempts()["web"].next_at) for each in (one, two)]
    assert shown[0] == shown[1]
    assert remembered.collected(two, "node1", "prod")[1] == [record]


def test_the_next_leader_goes_by_what_people_ordered_on_the_one_before(tmp_path: Path) -> None:
    one, two = journal(tmp_path / "one.db"), journal(tmp_path / "two.db", ahead=500.0)
    one.put("enrolled", "2026-01-01T00:00:00Z")
    one.approve("a" * 40, without_data=True)
    one.suspend(Suspension("web", WALL + 60, "disk", "2026-01-01T00:00:00Z", "ada"))
    one.exempt("service-1", WALL + 30)
    one.put(APPROVED_AGENT, {"version": "1.0"})
    two.approve("b" * 40)
    two.suspend(Suspension(None, None, "", "2026-01-01T00:00:00Z"))

    cluster, _ = remembered.collected(one, "node1", "prod")
    remembered.take_orders(two, records.read(records.text(cluster), ClusterRecord, "x"), "prod")

    assert remembered.collected(two, "node1", "prod")[0] == cluster
    assert two.salt() == one.salt()
    assert two.get(APPROVED_AGENT) == {"version": "1.0"}
    assert two.approved() == two.approved_without_data() == {"a" * 40}
    assert [each.stack for each in two.suspensions(two.now())] == ["web"]


def test_an_order_that_was_taken_back_is_over_on_the_next_leader(tmp_path: Path) -> None:
    one, two = journal(tmp_path / "one.db"), journal(tmp_path / "two.db")
    two.put("enrolled", "2026-01-01T00:00:00Z")
    remembered.take_orders(two, remembered.collected(one, "node1", "prod")[0], "prod")
    assert two.get("enrolled") is None


def test_the_next_leader_goes_on_from_the_commit_of_the_one_before(tmp_path: Path) -> None:
    mine, theirs = revision("a" * 40), revision("b" * 40)
    found = journal(tmp_path / "one.db")
    declared = {"revision": msgspec.to_builtins(mine), "stacks": {"web": "d1"}}
    found.put("declared", declared)
    remembered.take_applied(found, mine)
    assert found.get("declared")["stacks"] == {"web": "d1"}
    remembered.take_applied(found, theirs)
    assert found.get("declared")["revision"]["sha"] == theirs.sha
    assert found.get("attempted")["sha"] == theirs.sha


def test_what_one_leader_holds_as_a_cliff_the_next_one_holds(tmp_path: Path) -> None:
    one, two = journal(tmp_path / "one.db"), journal(tmp_path / "two.db")
    one.put(CLIFF, ["b", "c"])
    cluster, _ = remembered.collected(one, "node1", "prod")
    remembered.take_orders(two, records.read(records.text(cluster), ClusterRecord, "x"), "prod")
    for found in (one, two):
        found.keep_holds([])  # as standing by for a cycle does
        assert seen(found).cliff == {"b", "c"}
    two.put(CLIFF, [])
    assert not seen(two).cliff


def seen(found: Journal) -> HostState:
    host = Config(host="prod", branch="main", remotes=())
    return observe.situation(found, host, desired(), (), Exemptions())


def test_a_cluster_of_another_name_is_not_this_one() -> None:
    kept = ClusterRecord(salt="5", host="prod", leader="node1")
    records.refuse_other(kept, "prod")
    records.refuse_other(replace(kept, host=""), "prod")
    with pytest.raises(ConfigError, match=r"is called prod, .* host: media"):
        records.refuse_other(kept, "media")


def test_a_record_that_does_not_say_all_that_is_written_now_is_read() -> None:
    found = records.read('{"salt": "5", "leader": "node1"}', ClusterRecord, "commitd-cluster")
    assert (found.host, found.cliff) == ("", ())


def test_what_was_agreed_to_in_one_swarm_does_not_count_in_another(tmp_path: Path) -> None:
    found = journal(tmp_path / "one.db")
    found.put("enrolled", "2026-01-01T00:00:00Z")
    found.keep_release(WEB)
    found.suspend(Suspension("web", None, "disk", "2026-01-01T00:00:00Z"))
    assert not remembered.enter(found, "swarm-1")  # also what was agreed to before its first cycle
    assert not remembered.enter(found, "swarm-1")
    assert found.get("enrolled")
    found.keep_attempt(ATTEMPT)
    found.approve("a" * 40)
    found.put(remembered.NOTED, {"commitd-web": ["id", 1]})

    assert remembered.enter(found, "swarm-2")

    assert remembered.stacks(found) == found.approved() == frozenset()
    assert found.get("enrolled") is None
    assert found.get(remembered.NOTED) is None
    assert [each.stack for each in found.suspensions(found.now())] == ["web"]
    assert not remembered.enter(found, "swarm-2")


def test_only_a_config_of_its_own_name_is_a_record() -> None:
    assert records.is_name("commitd-cluster", None)
    assert records.is_name("commitd-web", "web")
    assert records.is_name(records.name("cluster"), "cluster")
    for found, stack in (("web", "web"), ("commitd-web", "db"), ("commitd-cluster", "cluster")):
        assert not records.is_name(found, stack)
    assert not records.is_name("commitd-web", None)


def test_a_record_that_tells_of_another_stack_than_its_config_is_not_believed() -> None:
    records.refuse_of_another(StackRecord(stack="web"), "web", "commitd-web")
    with pytest.raises(PermanentError, match="as of web, and tells of db"):
        records.refuse_of_another(StackRecord(stack="db"), "web", "commitd-web")


def test_an_order_that_no_record_has_had_is_told_of_when_it_is_dropped(tmp_path: Path) -> None:
    found = journal(tmp_path / "one.db")
    kept = remembered.collected(found, "node2", "prod")[0]
    for stack in ("web", "db"):
        found.suspend(Suspension(stack, None, "disk", "2026-01-01T00:00:00Z"))
    found.approve("a" * 40)
    found.put(remembered.ORDERS, ["the suspension of db"])  # which another leader has ended
    assert remembered.take_orders(found, kept, "prod") == {
        "the suspension of web",
        "the approval of aaaaaaa",
    }
    assert remembered.take_orders(found, kept, "prod") == frozenset()

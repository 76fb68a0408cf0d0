"""What a new version of the agent may do while it is on trial."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from agent.adapters.state import before as journal_before
from agent.adapters.state.journal import Journal
from agent.domain.container import CONFIG_HASH, Container
from agent.domain.outcome import Cause, CauseKind, EvictionAction, Reason
from agent.domain.reconcile.actions import Deploy, Evict, Hold, Plan, RemoveStack
from agent.domain.reconcile.host_state import HostState
from agent.domain.reconcile.plan import plan
from agent.domain.release.identity import Known
from agent.domain.release.release import Release
from agent.domain.status.verdict import HostTrouble, State, Verdict, VerdictKind, failed
from agent.domain.upgrade.gate import Before, unasked, unexcused
from tests.unit import builders
from tests.unit.builders import SHA, container, release, running, service, situation, stack
from tests.values import replace


@pytest.fixture
def journal(tmp_path_factory: pytest.TempPathFactory) -> Journal:
    return Journal(tmp_path_factory.mktemp("state") / "journal.db")


def recorded(journal: Journal, *releases: Release, dirty: Iterable[str] = ()) -> Before:
    """What a version that deployed these has left, read as the next one does."""
    digests = {each.stack: each.digest for each in releases}
    journal.put("declared", {"revision": {"sha": SHA}, "stacks": digests})
    for each in releases:
        journal.keep_release(each)
        own = frozenset((c.service or "", c.id) for c in running(each))
        journal.keep_made(each.stack, Known(own))
    for name in dirty:
        journal.mark_dirty(name)
    return journal_before.read(journal.path)


def of(released: Release, containers: Iterable[Container] | None = None) -> HostState:
    return situation([stack(released.stack, released.digest)], [released], containers)


WEB = release("web", services=[service("web"), service("job", one_shot=True)])


def test_what_stands_and_nothing_else_is_well(journal: Journal) -> None:
    known = recorded(journal, WEB)
    host = of(WEB)
    assert unasked(known, plan(host), host) == []


@pytest.mark.parametrize("reason", [Reason.NEW, Reason.CHANGED, Reason.DRIFTED, Reason.LATE])
def test_a_release_whose_files_and_containers_are_as_recorded_is_not_deployed(
    journal: Journal, reason: Reason
) -> None:
    known, host = recorded(journal, WEB), of(WEB)
    cause = Cause(kind=CauseKind.SETTING, name="memory", before="1", after="2", stack="web")
    todo = Plan(deploys=(Deploy(stack("web"), reason, (cause,)),))
    assert unasked(known, todo, host) == [f"deploy web ({reason.text})"]


def test_another_digest_or_more_inputs_of_the_same_commit_call_for_nothing(
    journal: Journal,
) -> None:
    known = recorded(journal, WEB)
    other = replace(stack("web", "other"), inputs=(*WEB.inputs, ("global/x.env", "1")))
    host = situation([other], [WEB])
    assert unasked(known, plan(host), host) == ["deploy web (its files changed)"]


def test_what_a_newer_commit_has_changed_is_deployed(journal: Journal) -> None:
    known = recorded(journal, WEB)
    host = situation([stack("web", "d2")], [WEB])
    host = replace(host, desired=replace(host.desired, revision=builders.revision("b" * 40)))
    assert [each.stack.name for each in plan(host).deploys] == ["web"]
    assert unasked(known, plan(host), host) == []


def test_a_newer_commit_calls_for_no_deploy_of_a_stack_that_it_did_not_touch(
    journal: Journal,
) -> None:
    known = recorded(journal, WEB)
    host = situation([replace(stack("web", "other"), inputs=WEB.inputs)], [WEB])
    host = replace(host, desired=replace(host.desired, revision=builders.revision("b" * 40)))
    assert unasked(known, plan(host), host) == ["deploy web (its files changed)"]


def test_a_commit_that_the_version_before_had_only_accepted_is_deployed(journal: Journal) -> None:
    recorded(journal, WEB)
    journal.put("declared", {"revision": {"sha": SHA}, "stacks": {"web": "d2", "new": "d1"}})
    known = journal_before.read(journal.path)
    host = situation([stack("web", "d2"), stack("new")], [WEB])
    assert {each.stack.name for each in plan(host).deploys} == {"web", "new"}
    assert unasked(known, plan(host), host) == []


def gone(released: Release) -> list[Container]:
    return running(released)[1:]


def down(released: Release) -> list[Container]:
    first, *others = running(released)
    return [replace(first, state="exited", exit_code=1), *others]


def replaced(released: Release) -> list[Container]:
    first, *others = running(released)
    return [replace(first, id="another"), *others]


def other_hash(released: Release) -> list[Container]:
    first, *others = running(released)
    return [replace(first, labels={**first.labels, CONFIG_HASH: "x"}), *others]


def paused(released: Release) -> list[Container]:
    first, *others = running(released)
    return [replace(first, state="paused"), *others]


def disconnected(released: Release) -> list[Container]:
    """``docker network disconnect``, or an engine that was restarted and has lost its network."""
    first, *others = running(released)
    return [replace(first, network="web_default", networks=frozenset()), *others]


@pytest.mark.parametrize("became", [gone, down, replaced, other_hash, paused, disconnected])
def test_what_became_of_the_containers_meanwhile_is_put_right(
    journal: Journal, became: object
) -> None:
    known = recorded(journal, WEB)
    assert callable(became)
    host = of(WEB, became(WEB))
    todo = Plan(deploys=(Deploy(stack("web"), Reason.DRIFTED),))
    assert unasked(known, todo, host) == []


def test_networks_are_those_that_were_recorded(journal: Journal) -> None:
    seen = (("RestartPolicy", "always"), ("network front", "web"), ("network web_default", "web"))
    released = release("web", services=[replace(service("web"), settings=seen)])
    known = recorded(journal, released)
    assert known.releases["web"].networks == {"web": frozenset({"front", "web_default"})}
    todo = Plan(deploys=(Deploy(stack("web"), Reason.DRIFTED),))
    (only,) = running(released)
    for networks, called_for in ({"front", "web_default"}, False), ({"web_default"}, True):
        there = of(released, [replace(only, networks=frozenset(networks))])
        assert (unasked(known, todo, there) == []) is called_for


def test_a_job_that_has_done_its_work_is_no_change(journal: Journal) -> None:
    known = recorded(journal, WEB)
    web, job = running(WEB)
    host = of(WEB, [web, replace(job, state="exited", exit_code=0)])
    todo = Plan(deploys=(Deploy(stack("web"), Reason.DRIFTED),))
    assert unasked(known, todo, host) == [f"deploy web ({Reason.DRIFTED.text})"]
    stopped = replace(host, stopped=frozenset({job.id}))
    assert unasked(known, todo, stopped) == []


def test_a_deploy_that_was_cut_short_is_finished(journal: Journal) -> None:
    known = recorded(journal, WEB, dirty=["web"])
    todo = Plan(deploys=(Deploy(stack("web"), Reason.DRIFTED),))
    assert unasked(known, todo, of(WEB)) == []


def test_at_the_same_commit_no_declared_stack_is_removed(journal: Journal) -> None:
    known, host = recorded(journal, WEB), of(WEB)
    removals = (
        RemoveStack(project="web", reason=Reason.LEFT),
        RemoveStack(project="old", reason=Reason.LEFT),  # it waited for somebody's approval
    )
    assert unasked(known, Plan(removals=removals), host) == ["remove web"]


def test_own_and_exempt_containers_are_not_evicted_and_others_are(journal: Journal) -> None:
    exempt = {"action": EvictionAction.EXEMPT, "name": "x", "image": "i"}
    journal.put("exempt", [
        {"id": "id-runner", "reason": Reason.ALLOWED, **exempt},
        {"id": "id-undone", "reason": Reason.UNDONE, **exempt},
    ])  # fmt: skip
    known, host = recorded(journal, WEB), of(WEB)
    found = [*running(WEB), *map(container, ("runner", "undone", "rogue"))]
    todo = Plan(evictions=tuple(Evict(each, Reason.NO_PROJECT) for each in found))
    said = unasked(known, todo, host)
    assert [each.split()[1] for each in said] == ["web-web-0", "web-job-0", "runner"]


def verdict(state: State, *troubles: tuple[VerdictKind, str]) -> Verdict:
    return Verdict(state, "the line", tuple(HostTrouble(k, s, "why") for k, s in troubles))


@pytest.mark.parametrize(
    ("found", "left"),
    [
        (verdict(State.IN_SYNC), []),
        (verdict(State.SUSPENDED), []),
        (verdict(State.UNKNOWN), ["the line"]),
        (verdict(State.WORKING), ["the line"]),
        (verdict(State.FAILED), ["the line"]),
        (verdict(State.FAILED, (VerdictKind.FAILED, "bad")), []),  # as it was before
        (verdict(State.WAITING, (VerdictKind.WAITING, "held")), []),
        (verdict(State.FAILED, (VerdictKind.FAILED, "web")), ["web: why"]),
        (verdict(State.WAITING, (VerdictKind.WAITING, "web")), ["web: why"]),
        (verdict(State.WAITING, (VerdictKind.WAITING, "rogue")), []),
    ],
)
def test_a_cycle_is_clean_where_nothing_is_wrong_that_was_right_before(
    journal: Journal, found: Verdict, left: list[str]
) -> None:
    journal.keep_attempt(builders.attempt("bad"))
    journal.keep_holds([Hold("held", Reason.CLIFF, "too much", needs_person=True)])
    known = recorded(journal, WEB)
    assert unexcused(found, known, of(WEB)) == left


def test_a_manager_that_stands_by_is_to_do_nothing_and_is_clean(journal: Journal) -> None:
    found = verdict(State.STANDBY)
    assert unexcused(found, recorded(journal, WEB), None) == []


def test_a_commit_that_fails_under_the_new_version_is_not_its_fault(journal: Journal) -> None:
    known = recorded(journal, WEB)
    host = situation([stack("web", "d2")], [WEB])
    host = replace(host, desired=replace(host.desired, revision=builders.revision("b" * 40)))
    found = verdict(State.FAILED, (VerdictKind.FAILED, "web"), (VerdictKind.WAITING, "old"))
    assert unexcused(found, known, host) == []


def test_a_stack_that_runs_and_is_not_healthy_is_no_fault_of_the_version(journal: Journal) -> None:
    known = recorded(journal, WEB)
    assert unexcused(verdict(State.FAILED, (VerdictKind.DEGRADED, "web")), known, of(WEB)) == []


def test_a_cycle_that_was_broken_off_is_not_clean_whatever_was_wrong_before(
    journal: Journal,
) -> None:
    journal.keep_attempt(builders.attempt("bad"))
    known = recorded(journal, WEB)
    raised = replace(failed("it raised"), troubles=(trouble("bad", Reason.FAILED),))
    assert unexcused(raised, known, of(WEB)) == ["reconcile failed: it raised"]


def trouble(subject: str, reason: Reason, detail: str = "why") -> HostTrouble:
    return HostTrouble(VerdictKind.HELD, subject, detail, reason)


def test_what_is_held_beside_the_stacks_may_be_for_the_same_reason_alone(journal: Journal) -> None:
    journal.keep_holds([Hold("media", Reason.UNJUDGED, "a shows bbbbbbb")])
    known = recorded(journal, WEB)
    for reason, left in (Reason.UNJUDGED, []), (Reason.LIST_IN_DOUBT, ["media: why"]):
        found = Verdict(State.FAILED, "the line", (trouble("media", reason),))
        assert unexcused(found, known, of(WEB)) == left


def test_a_stack_that_was_held_may_be_for_any_reason(journal: Journal) -> None:
    journal.keep_holds([Hold("web", Reason.INVALID, "it is wrong")])
    known = recorded(journal, WEB)
    found = Verdict(State.FAILED, "the line", (trouble("web", Reason.BACKOFF),))
    assert unexcused(found, known, of(WEB)) == []


@pytest.mark.parametrize(
    ("shown", "reason", "left"),
    [
        ("b" * 40, Reason.TREE, 0),
        ("b" * 40, Reason.LIST_IN_DOUBT, 0),
        ("b" * 40, Reason.UNJUDGED, 1),  # it may be that this version can judge none
        ("c" * 40, Reason.TREE, 1),
        (SHA, Reason.TREE, 1),  # the version before knew that one
    ],
)
def test_a_commit_that_is_refused_and_came_after_the_upgrade_is_not_the_versions_fault(
    journal: Journal, shown: str, reason: Reason, left: int
) -> None:
    journal.put("remotes", {"home": {"name": "home", "head": SHA, "reachable": True}})
    known = recorded(journal, WEB)
    named = SHA if shown == SHA else "b" * 40
    refused = trouble("media", reason, reason.message(f"{named[:7]}: it is unsafe"))
    found = Verdict(State.FAILED, "the line", (refused,))
    assert len(unexcused(found, known, of(WEB), {shown})) == left

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from agent.domain.container import KEPT_PREFIX, WORKING_DIR
from agent.domain.outcome import Cause, CauseKind, Reason
from agent.domain.reconcile import removal
from agent.domain.reconcile.actions import Hold, Plan, RemoveStack
from agent.domain.reconcile.exemptions import Exemptions, Suspension
from agent.domain.reconcile.host_state import HostState, protected
from agent.domain.reconcile.plan import plan
from agent.domain.release.release import Release
from agent.domain.repository.desired import Stack
from tests.unit.builders import (
    NOW,
    SHA,
    STACKS_DIR,
    attempt,
    container,
    reasons,
    release,
    revision,
    running,
    service,
    situation,
    stack,
    stacks,
)
from tests.values import replace

CONTENT = {"compose.yaml": "1", "conf/a": "2", "conf/b": "3", "conf/c": "4"}
APPROVAL = ("Commitd-Approve", "removals")


def new(name: str, content: Mapping[str, str] = CONTENT, services: Iterable[str] = ()) -> Stack:
    """A declared stack with these files (path below its directory to Git object)."""
    own = [(f"stacks/{name}/{path}", oid) for path, oid in content.items()]
    shared = [("global/all.env", "5")]
    return replace(stack(name), inputs=(*shared, *own), services=frozenset(services))


def old(name: str, content: Mapping[str, str] = CONTENT, services: Iterable[str] = ()) -> Release:
    """The release of a stack with these files and services."""
    made = [service(each) for each in services]
    return replace(release(name, services=made), inputs=new(name, content).inputs)


def afters(todo: Plan) -> dict[str, str | None]:
    return {removal.project: removal.after for removal in todo.removals}


OTHER = {"compose.yaml": "x"}


def changed(*paths: str) -> dict[str, str]:
    return {path: "x" if path in paths else oid for path, oid in CONTENT.items()}


@pytest.mark.parametrize(
    ("before", "after", "renamed"),
    [
        (old("a"), new("b"), True),
        (old("a"), new("b", changed("compose.yaml")), True),
        (old("a"), new("b", changed("compose.yaml", "conf/a")), True),
        (old("a"), new("b", changed("compose.yaml", "conf/a", "conf/b")), False),
        (old("a"), new("b", {**CONTENT, "more": "x", "most": "y"}), True),
        (old("a"), new("b", {f"sub/{path}": oid for path, oid in CONTENT.items()}), False),
        # What all stacks share says nothing.
        (old("a"), new("b", {}), False),
        (old("a", {}), new("b", {}), False),
        (old("a", services="wd"), new("b", OTHER, "dw"), True),
        (old("a", services="wd"), new("b", OTHER, "w"), False),
        (old("a", services="w"), new("b", OTHER, "wd"), False),
        (old("a", services="w"), new("b", OTHER), False),
        (old("a"), new("b", OTHER), False),
        (old("a", services="w"), new("b", CONTENT, "d"), True),
    ],
)
def test_a_stack_has_a_new_name_when_most_of_its_files_or_its_services_have(
    before: Release, after: Stack, renamed: bool
) -> None:
    todo = plan(situation([*stacks("z"), after], [before, release("z")]))
    assert afters(todo) == {"a": "b" if renamed else None}
    assert [deploy.stack.name for deploy in todo.deploys] == ["b"]


def test_a_removal_for_a_new_name_says_both_names() -> None:
    todo = plan(situation([new("b")], [old("a")]))
    cause = Cause(
        kind=CauseKind.LIST, name="host/media/stacks.yaml", before="a", after="b", commit=SHA
    )
    assert todo.removals == (
        RemoveStack(project="a", reason=Reason.LEFT, causes=(cause,), after="b"),
    )


def test_what_ran_before_is_no_new_name() -> None:
    todo = plan(situation([new("b")], [old("a"), old("b")]))
    assert afters(todo) == {"a": None}


def test_one_new_stack_is_the_new_name_of_only_one_so_that_it_cannot_hide_a_cliff() -> None:
    before = [old(name) for name in "abc"]
    todo = plan(situation([*stacks("z"), new("n")], [*before, release("z")], teardown_limit=0.25))
    assert todo.removals == ()
    assert reasons(todo) == dict.fromkeys("abc", Reason.CLIFF)
    todo = plan(situation([*stacks("z"), new("n")], [*before, release("z")], teardown_limit=0.5))
    assert afters(todo) == {"a": "n", "b": None, "c": None}


def test_equal_files_say_more_than_equal_services() -> None:
    before = [old("a", OTHER, "w"), old("b", CONTENT, "w")]
    todo = plan(situation([new("n", CONTENT, "w")], before))
    assert afters(todo) == {"a": None, "b": "n"}


def test_stacks_that_only_have_new_names_are_no_cliff() -> None:
    before = [old("a"), old("b", OTHER)]
    now = situation([new("x"), new("y", OTHER)], before, teardown_limit=0.0)
    assert afters(plan(now)) == {"a": "x", "b": "y"}


def test_the_last_stack_may_have_a_new_name_but_not_go() -> None:
    assert afters(plan(situation([new("b")], [old("a")]))) == {"a": "b"}
    assert reasons(plan(situation([new("b", OTHER)], [old("a")]))) == {"a": Reason.CLIFF}


def test_a_cliff_that_was_held_stays_one_although_new_names_turned_up() -> None:
    now = situation([new("x"), new("y", OTHER)], [old("a"), old("b", OTHER)], cliff="ab")
    assert reasons(plan(now)) == dict.fromkeys("ab", Reason.CLIFF)


# --- the new one first ---

RENAME = situation([new("b")], [old("a")])
UNREAD = situation(stacks("z"), [old("a"), release("z")], broken=["b"])
NOT_YET = [
    replace(RENAME, locked={"b": (Reason.SECRET, "no key")}),
    replace(RENAME, attempts={"b": attempt("b", next_at=NOW + 1)}),
    replace(RENAME, attempts={"b": attempt("b", permanent=True)}),
    replace(RENAME, exemptions=Exemptions(suspensions=(Suspension("b", None, "", "t"),))),
    UNREAD,
]


@pytest.mark.parametrize("now", NOT_YET)
def test_the_old_one_stays_while_the_new_one_is_not_about_to_start(now: HostState) -> None:
    todo = plan(now)
    assert (todo.deploys, todo.removals, todo.evictions) == ((), (), ())
    (hold,) = [each for each in todo.holds if each.subject == "a"]
    assert hold == Hold("a", Reason.RENAMED, hold.detail, needs_person=True)
    assert "it seems to be b now" in hold.detail
    assert f"commitd approve {SHA[:7]}" in hold.detail
    assert protected(now).services["a"] is None


@pytest.mark.parametrize("now", [RENAME, *NOT_YET])
@pytest.mark.parametrize("order", ["approve", "trailer"])
def test_a_person_lets_the_old_one_go_first(now: HostState, order: str) -> None:
    if order == "approve":
        now = replace(now, approved=frozenset({SHA}))
    else:
        now = replace(now, desired=replace(now.desired, revision=revision(trailers=[APPROVAL])))
    todo = plan(now)
    assert afters(todo) == {"a": None}
    assert Reason.RENAMED not in reasons(todo).values()


def test_a_trailer_that_a_squash_carried_along_counts_no_more_and_the_hold_says_so() -> None:
    held = situation([], [release(name) for name in "ab"], trailers=[APPROVAL])
    squashed = replace(held.desired.revision, squashed=True)
    todo = plan(replace(held, desired=replace(held.desired, revision=squashed)))
    assert todo.removals == ()
    assert {hold.reason for hold in todo.holds} == {Reason.CLIFF}
    assert "its trailer does not count: the message is a list of squashed" in todo.holds[0].detail
    assert plan(held).removals


def test_a_new_stack_that_cannot_be_read_may_be_the_new_name_of_any_that_leaves() -> None:
    before = [old(name, {"compose.yaml": name}) for name in "abcd"]
    todo = plan(situation([new("n", {"compose.yaml": "a"})], [*before], broken=["x", "c", "d"]))
    assert afters(todo) == {"a": "n"}
    assert {n: r for n, r in reasons(todo).items() if r is Reason.RENAMED} == {"b": Reason.RENAMED}
    (hold,) = [each for each in todo.holds if each.subject == "b"]
    assert "it seems to be x now" in hold.detail


def test_a_stack_that_ran_and_cannot_be_read_now_is_nobodys_new_name() -> None:
    todo = plan(situation(stacks("z"), [old("a"), old("b"), release("z")], broken=["b"]))
    assert afters(todo) == {"a": None}


def test_a_stack_that_the_journal_forgot_waits_for_one_that_cannot_be_read() -> None:
    forgotten = container("f-1", "f", "w", labels={WORKING_DIR: f"{STACKS_DIR}/f"})
    found = [*running(release("z")), forgotten]
    now = situation(stacks("z"), [release("z")], found)
    assert afters(plan(now)) == {"f": None}
    unread = situation(stacks("z"), [release("z")], found, broken=["b"])
    assert plan(unread).removals == ()
    assert reasons(plan(unread))["f"] is Reason.RENAMED


# --- what keeps a stack from going ---


@pytest.mark.parametrize("stacks_suspended", [["a"], ["a", "z"]])
def test_a_suspended_stack_is_not_taken_down_and_counts_as_leaving(
    stacks_suspended: list[str],
) -> None:
    suspensions = tuple(Suspension(name, None, "", "t") for name in stacks_suspended)
    basis = situation(stacks("z"), [old("a"), release("b"), release("z")], teardown_limit=0.0)
    assert set(reasons(plan(basis)).values()) == {Reason.CLIFF}
    now = replace(basis, exemptions=Exemptions(suspensions=suspensions))
    assert plan(now).removals == ()
    assert reasons(plan(now))["b"] is Reason.CLIFF
    assert afters(plan(replace(now, teardown_limit=0.7))) == {"b": None}
    assert reasons(plan(replace(now, teardown_limit=0.7))) == dict.fromkeys(
        stacks_suspended, Reason.SUSPENDED
    )
    approved = replace(now, approved=frozenset({SHA}))
    assert afters(plan(approved)) == {"b": None}


def test_what_a_person_suspended_is_not_even_in_doubt() -> None:
    suspended = Exemptions(suspensions=(Suspension("a", None, "", "t"),))
    now = situation(stacks("z"), [old("a"), release("z")], doubt="why")
    assert reasons(plan(now)) == {"a": Reason.LIST_IN_DOUBT}
    assert reasons(plan(replace(now, exemptions=suspended))) == {"a": Reason.SUSPENDED}


@pytest.mark.parametrize(("next_at", "goes"), [(NOW + 1, False), (NOW, True)])
def test_a_removal_that_failed_waits_for_its_next_try(next_at: float, goes: bool) -> None:
    failed = [attempt("a", "", next_at=next_at)]
    todo = plan(situation(stacks("z"), [old("a"), release("z")], attempts=failed))
    assert bool(todo.removals) is goes
    assert reasons(todo) == ({} if goes else {"a": Reason.BACKOFF})


def test_a_deploy_that_failed_keeps_no_stack_from_going() -> None:
    failed = [attempt("a", "d9", next_at=NOW + 300, permanent=True)]
    todo = plan(situation(stacks("z"), [old("a"), release("z")], attempts=failed))
    assert [removal.project for removal in todo.removals] == ["a"]


@pytest.mark.parametrize("services", [None, {"old"}])
def test_with_a_service_go_its_own_containers_and_none_that_is_kept_or_was_brought_back(
    services: set[str] | None,
) -> None:
    own = container("s-old-1", "s", "old")
    others = [
        container(f"{KEPT_PREFIX}s-old-1-0123456789ab", "s", "old", state="exited"),
        container("brought", "s", "old"),
        container("s-old-run-1", "s", "old", one_off=True),
    ]
    assert removal.own([own, *others], services, {"id-brought"}) == [own]


def test_with_a_stack_go_its_services_and_what_was_made_from_its_files_and_nobody_elses() -> None:
    place = f"{STACKS_DIR}/web"
    found = [
        container("web-app-1", "web", "app", labels={WORKING_DIR: "/opt/web"}),  # taken over
        container("web-new-1", "web", "new", labels={WORKING_DIR: place}, state="created"),
        container("web-db-1", "web", "db", labels={WORKING_DIR: "/root/web"}),
        container("web-odd-1", "web", "odd"),
    ]
    mine = removal.of_stack(found, {"app"}, place)
    assert [c.name for c in mine] == ["web-app-1", "web-new-1"]
    assert removal.of_stack(found[2:], set(), place) == []


def test_a_failed_try_leaves_behind_what_its_files_do_not_name_any_more() -> None:
    place = f"{STACKS_DIR}/web"
    here = [
        container(f"web-{name}-1", "web", name, labels={WORKING_DIR: place})
        for name in ("app", "debug", "gone")
    ]
    named = replace(stack("web"), services=frozenset({"app", "debug"}))
    assert removal.left_over(here, place, named) == {"gone"}
    assert removal.left_over(here, "/root/web", named) == frozenset()
    assert removal.left_over(here, place, replace(named, more=True)) == frozenset()

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.domain.container import SWARM_TASK, WORKING_DIR, Container
from agent.domain.outcome import Cause, CauseKind, Reason
from agent.domain.reconcile import ownership
from agent.domain.reconcile.actions import Deploy, Evict, Plan, RemoveStack
from agent.domain.reconcile.exemptions import Exemptions, Suspension
from agent.domain.reconcile.host_state import HostState, never_healthy, protected
from agent.domain.reconcile.plan import grace_left, moved, plan, refusal
from agent.domain.release.release import Attempt, Release
from agent.domain.repository.desired import Stack
from agent.domain.repository.stack_settings import Settings
from tests.unit.builders import (
    NOW,
    SHA,
    STACKS_DIR,
    attempt,
    container,
    desired,
    file_cause,
    reasons,
    release,
    releases,
    revision,
    running,
    service,
    situation,
    stack,
    stacks,
)
from tests.values import replace

# --- deploys ---


def test_stacks_are_equal_or_not_whatever_else_is_in_the_commit() -> None:
    one, other = replace(stack("a"), tracked=("x",)), replace(stack("a"), tracked=("y",))
    assert one == other
    assert not one != other  # noqa: SIM202
    assert one != stack("a", "d2")


def test_a_new_stack_is_deployed() -> None:
    assert plan(situation(stacks("a"))) == Plan(deploys=(Deploy(stack("a"), Reason.NEW),))


def test_a_changed_stack_is_deployed_and_says_which_file() -> None:
    todo = plan(situation([stack("a", "d2")], releases("a")))
    cause = file_cause("stacks/a/compose.yaml", "d1 of a", "d2 of a", SHA)
    assert todo == Plan(deploys=(Deploy(stack("a", "d2"), Reason.CHANGED, (cause,)),))


def test_a_stack_whose_container_died_is_deployed_again() -> None:
    todo = plan(situation(stacks("a"), releases("a"), []))
    assert [(d.stack.name, d.reason) for d in todo.deploys] == [("a", Reason.DRIFTED)]
    assert todo.deploys[0].causes


def test_a_stack_that_stands_is_left_alone() -> None:
    assert plan(situation(stacks("ab"), releases("ab"))) == Plan()


def test_a_broken_stack_keeps_running_and_others_go_on() -> None:
    todo = plan(situation(stacks("b"), releases("a"), broken=["a"]))
    assert [d.stack.name for d in todo.deploys] == ["b"]
    assert (todo.removals, todo.evictions) == ((), ())
    assert reasons(todo) == {"a": Reason.INVALID}


@pytest.mark.parametrize("name", ["web", "miner"])
def test_what_is_declared_but_cannot_be_read_is_protected_whoever_started_it(name: str) -> None:
    found = [*running(release("b")), container("a-1", "a", name)]
    now = situation(stacks("b"), releases("b"), found, broken=["a"])
    assert protected(now).services["a"] is None
    assert plan(now).empty


def test_a_secret_that_does_not_decrypt_holds_only_its_stack() -> None:
    locked = {"a": (Reason.SECRET, "no key"), "c": (Reason.SECRET, "no key")}
    todo = plan(replace(situation(stacks("abc"), releases("c")), locked=locked))
    assert [d.stack.name for d in todo.deploys] == ["b"]
    assert reasons(todo) == {"a": Reason.SECRET}


@pytest.mark.parametrize(
    ("failed", "applied", "expected"),
    [
        (attempt("a", "d1", next_at=NOW + 1), "", Reason.BACKOFF),
        (attempt("a", "d1", next_at=NOW), "", None),
        (attempt("a", "d1", permanent=True), "", Reason.FAILED),
        (attempt("a", "d1", permanent=True), "d0", Reason.FAILED),
        (attempt("a", "d0", next_at=NOW + 1, permanent=True), "", None),
        # What ran before and stopped is brought back, at the pace of the backoff.
        (attempt("a", "d1", permanent=True), "d1", None),
        (attempt("a", "d1", next_at=NOW + 1, permanent=True), "d1", Reason.BACKOFF),
    ],
)
def test_what_failed_waits_for_time_or_for_a_change(
    failed: Attempt, applied: str, expected: Reason | None
) -> None:
    before = [release("a", applied)] if applied else []
    todo = plan(situation(stacks("a"), before, [], attempts=[failed]))
    assert reasons(todo).get("a") is expected
    assert bool(todo.deploys) is (expected is None)


def test_what_failed_and_looks_well_by_now_is_looked_at_again_at_the_pace_of_the_backoff() -> None:
    """If all that ran was of the input that failed; else it is what was there before."""
    there = [container("a-web-1", "a", "web", health="healthy")]
    failed = attempt("a", permanent=True, next_at=NOW)
    basis = replace(situation(stacks("a"), [], there, attempts=[failed]), started=frozenset("a"))
    [deploy] = plan(basis).deploys
    assert deploy.reason is Reason.LATE
    sick = container("a-web-1", "a", "web", health="unhealthy")
    early = attempt("a", permanent=True, next_at=NOW + 1)
    for other in (
        replace(basis, started=frozenset()),
        replace(basis, containers=(sick,)),
        replace(basis, containers=()),
        replace(basis, attempts={"a": early}),
    ):
        assert reasons(plan(other)) == {"a": Reason.FAILED}
        assert plan(other).deploys == ()


# --- removals and cliffs ---


@pytest.mark.parametrize(
    ("before", "after", "limit", "removed"),
    [
        ("ab", "a", 0.5, "b"),
        ("abcd", "ab", 0.5, "cd"),
        ("abcd", "a", 0.5, None),
        ("abcd", "abc", 0.0, "d"),
        ("abcd", "ab", 0.0, None),
        ("abcd", "a", 1.0, "bcd"),
        ("abcd", "", 1.0, None),
        ("a", "", 1.0, None),
        ("a", "b", 1.0, None),
        ("abc", "def", 0.5, None),
        ("abc", "cde", 0.5, None),
    ],
)
def test_a_cliff_waits_for_a_person(
    before: str, after: str, limit: float, removed: str | None
) -> None:
    now = situation(stacks(after), releases(before), teardown_limit=limit)
    todo = plan(now)
    leaving = sorted(set(before) - set(after))
    if removed is not None:
        assert [r.project for r in todo.removals] == leaving == list(removed)
        return
    assert todo.removals == ()
    assert todo.evictions == ()
    held = [hold for hold in todo.holds if hold.reason is Reason.CLIFF]
    assert [hold.subject for hold in held] == leaving
    assert all(hold.needs_person for hold in held)
    assert all(f"commitd approve {SHA[:7]}" in hold.detail for hold in held)
    for approval in (
        replace(now, approved=frozenset({SHA})),
        replace(now, desired=desired(commit=revision(trailers=[("commitd-APPROVE", "Removals")]))),
    ):
        allowed = replace(approval, desired=replace(approval.desired, stacks=now.desired.stacks))
        assert [r.project for r in plan(allowed).removals] == leaving


@pytest.mark.parametrize(
    ("approved", "trailer"),
    [("f" * 40, None), (SHA[:7], None), ("", ("Commitd-Approve", "all")), ("", ("X", "removals"))],
)
def test_an_approval_of_something_else_is_none(
    approved: str, trailer: tuple[str, str] | None
) -> None:
    trailers = [trailer] if trailer else []
    todo = plan(situation([], releases("ab"), approved=[approved], trailers=trailers))
    assert todo.removals == ()


def test_a_cliff_stays_one_when_new_stacks_came_meanwhile() -> None:
    held = situation(stacks("def"), releases("abcdef"), cliff="abc")
    assert set(reasons(plan(held)).values()) == {Reason.CLIFF}
    assert plan(replace(held, cliff=frozenset())).removals


def test_a_cliff_is_over_when_a_commit_takes_a_part_of_it_back() -> None:
    todo = plan(situation(stacks("abd"), releases("abc"), cliff="abc"))
    assert [r.project for r in todo.removals] == ["c"]


@pytest.mark.parametrize(("place", "removed"), [(f"{STACKS_DIR}/b", ["b"]), ("/root/b", [])])
def test_of_a_stack_that_never_came_up_only_our_own_containers_are_taken_down(
    place: str, removed: list[str]
) -> None:
    found = [
        *running(release("a")),
        container("b-web-1", "b", "web", labels={WORKING_DIR: place}),
    ]
    basis = situation(stacks("a"), releases("a"), found, attempts=[attempt("b")], enrolled=False)
    todo = plan(basis)
    assert [r.project for r in todo.removals] == removed
    assert todo.evictions == ()


def test_what_a_stack_that_never_was_well_left_behind_goes_with_it_and_is_no_cliff() -> None:
    """Its first release failed; what there is of it does not run, or is nothing at all."""
    tried = [attempt("a", permanent=True), attempt("b"), attempt("c")]
    never_ran = container("a-web-1", "a", "web", state="created")
    basis = situation(stacks("b"), [], [never_ran], attempts=tried)
    assert [r.project for r in plan(basis).removals] == ["a", "c"]
    assert plan(replace(basis, doubt="why")).removals == ()
    mine = Suspension("a", None, "", "2026-01-01T00:00:00Z")
    suspended = replace(basis, exemptions=Exemptions(suspensions=(mine,)))
    assert [r.project for r in plan(suspended).removals] == ["c"]


def test_while_a_stack_is_about_to_be_repaired_any_service_may_belong_to_it() -> None:
    stranger = container("a-extra-1", "a", "extra")
    todo = plan(situation(stacks("a"), releases("a"), [stranger]))
    assert [d.reason for d in todo.deploys] == [Reason.DRIFTED]
    assert todo.evictions == ()


def test_a_clock_that_was_wrong_does_not_hold_a_stack_for_years() -> None:
    late = attempt("a", "d1", next_at=NOW + 10 * 365 * 86400)
    assert plan(situation(stacks("a"), [], [], attempts=[late])).deploys


def test_a_service_that_the_file_names_but_does_not_start_is_not_evicted() -> None:
    item = replace(stack("a"), services=frozenset({"web", "debug"}))
    found = [*running(release("a")), container("a-debug-1", "a", "debug")]
    assert plan(situation([item], releases("a"), found)) == Plan()


def test_a_removal_names_the_list_and_the_commit() -> None:
    todo = plan(situation(stacks("a"), releases("ab")))
    cause = Cause(
        kind=CauseKind.LIST, name="host/media/stacks.yaml", before="b", after=None, commit=SHA
    )
    assert todo.removals == (RemoveStack(project="b", reason=Reason.LEFT, causes=(cause,)),)


def labelled(project: str, directory: str | None = None, state: str = "running") -> Container:
    where = f"{STACKS_DIR}/{project}" if directory is None else directory
    return container(f"{project}-1", project, "web", state=state, labels={WORKING_DIR: where})


def test_a_stack_of_this_checkout_that_the_journal_forgot_is_taken_down_whole() -> None:
    found = [*running(release("a")), labelled("old")]
    todo = plan(situation(stacks("a"), releases("a"), found))
    assert [r.project for r in todo.removals] == ["old"]
    assert todo.evictions == ()


def test_forgotten_stacks_that_are_a_cliff_are_not_evicted_one_by_one_either() -> None:
    now = situation(stacks("a"), releases("a"), [*running(release("a")), *map(labelled, "xyz")])
    todo = plan(now)
    assert set(reasons(todo).values()) == {Reason.CLIFF}
    assert todo.empty
    protection = protected(now)
    for name in "xyz":
        owner = ownership.classify(labelled(name), protection, Exemptions())
        assert owner == ownership.Declared()


@pytest.mark.parametrize(
    "found", [labelled("old", "/home/bob/old"), labelled("old", f"{STACKS_DIR}/other")]
)
def test_a_project_from_elsewhere_is_not_taken_for_a_stack(found: Container) -> None:
    todo = plan(situation(stacks("a"), releases("a"), [*running(release("a")), found]))
    assert todo.removals == ()
    assert [e.container.name for e in todo.evictions] == ["old-1"]


def test_an_evicted_container_that_is_kept_is_not_taken_down() -> None:
    kept = labelled("old", state="exited")
    assert plan(situation(stacks("a"), releases("a"), [*running(release("a")), kept])) == Plan()


# --- evictions ---

ROGUES = [
    (container("r"), Reason.NO_PROJECT),
    (container("r", state="restarting"), Reason.NO_PROJECT),
    (container("r", state="paused"), Reason.NO_PROJECT),
    (container("r", "other", "web"), Reason.UNKNOWN_PROJECT),
    (container("r", "a", "miner"), Reason.UNKNOWN_SERVICE),
]
TOLERATED = [
    container("r", state="exited"),
    container("r", state="created"),
    container("r", "a", "miner", state="exited"),
    container("r", "a", "web", one_off=True),
    container("r", labels={SWARM_TASK: "t"}),
]


@pytest.mark.parametrize(("rogue", "reason"), ROGUES)
def test_what_nobody_declared_goes_at_once(rogue: Container, reason: Reason) -> None:
    now = situation(stacks("a"), releases("a"), [*running(release("a")), rogue])
    assert plan(now) == Plan(evictions=(Evict(rogue, reason),))


@pytest.mark.parametrize(("rogue", "reason"), ROGUES)
@pytest.mark.parametrize(
    ("change", "why", "person"),
    [
        ({"enrolled": False}, Reason.NOT_ENROLLED, True),
        ({"report_only": True}, Reason.REPORT_ONLY, False),
        ({"doubt": "the engine lied"}, Reason.LIST_IN_DOUBT, False),
        ({"desired": desired(stack("a"), list_faults=["x"])}, Reason.LIST_IN_DOUBT, False),
    ],
)
def test_what_nobody_declared_is_only_reported(
    rogue: Container, reason: Reason, change: Mapping[str, object], why: Reason, person: bool
) -> None:
    now = situation(stacks("a"), releases("a"), [*running(release("a")), rogue])
    todo = plan(replace(now, **change))
    assert todo.empty, reason
    assert [(h.reason, h.needs_person) for h in todo.holds if h.subject == "r"] == [(why, person)]


@pytest.mark.parametrize("found", TOLERATED)
def test_what_does_not_run_or_is_exempt_is_left_alone(found: Container) -> None:
    now = situation(stacks("a"), releases("a"), [*running(release("a")), found])
    assert plan(now).empty
    assert not plan(now).holds


def test_a_helper_is_left_alone() -> None:
    now = situation(stacks("a"), releases("a"), [*running(release("a")), container("sops")])
    assert plan(replace(now, exemptions=Exemptions(frozenset({"id-sops"})))) == Plan()


@pytest.mark.parametrize(
    ("stack_now", "applied"), [(stack("a", "d2"), [release("a")]), (stack("a"), [])]
)
def test_while_a_stack_changes_any_service_may_belong_to_it(
    stack_now: Stack, applied: list[Release]
) -> None:
    stranger = container("a-cache-1", "a", "cache")
    for found in ([stranger], [*running(release("a")), stranger]):
        now = situation([stack_now], applied, found)
        assert plan(now).evictions == ()
        assert protected(now).services["a"] is None


def test_a_stack_that_waits_to_go_is_protected_until_it_went() -> None:
    now = situation([], releases("a"))
    assert protected(now).services == {"a": None}
    assert plan(now).evictions == ()


def test_a_doubt_is_published_with_what_is_protected() -> None:
    assert protected(situation(doubt="why")).doubt == "why"
    fault = protected(situation(list_faults=["'X' is no name"])).doubt
    assert fault == "host/media/stacks.yaml:1: 'X' is no name"
    assert protected(situation()).doubt is None


@pytest.mark.parametrize("doubt", [{"doubt": "why"}, {"list_faults": ["'X' is no name"]}])
def test_in_doubt_no_stack_goes_down(doubt: Mapping[str, Any]) -> None:
    assert [each.project for each in plan(situation(stacks("b"), releases("ab"))).removals] == ["a"]
    todo = plan(situation(stacks("b"), releases("ab"), **doubt))
    assert todo.removals == ()
    assert reasons(todo)["a"] is Reason.LIST_IN_DOUBT


def test_what_moved_between_two_commits_is_named_in_order() -> None:
    found = moved([("b", "1"), ("c", "1"), ("d", "1")], [("d", "2"), ("a", "1"), ("c", "1")], "s")
    assert found == (
        file_cause("a", None, "1", "s"),
        file_cause("b", "1", None, "s"),
        file_cause("d", "1", "2", "s"),
    )


# --- properties: a host that is only a dict ---


def services_of(item: Stack) -> tuple[str, ...]:
    """What the model's Compose finds in a stack: it depends on the digest alone."""
    return {"d1": ("web",), "d2": ("web", "db"), "d3": ("db",)}[item.digest]


Action = Deploy | RemoveStack | Evict


def actions_of(todo: Plan) -> list[Action]:
    return [*todo.evictions, *todo.deploys, *todo.removals]


@dataclass
class Host:
    """Containers by ID, releases and failures by stack, changed as the real host would be."""

    containers: dict[str, Container]
    releases: dict[str, Release]
    attempts: dict[str, Attempt]
    cliff: frozenset[str] = field(default_factory=frozenset)

    def look(self, basis: HostState) -> HostState:
        return replace(
            basis,
            containers=tuple(self.containers.values()),
            releases=dict(self.releases),
            attempts=dict(self.attempts),
            cliff=self.cliff,
        )

    def plan(self, basis: HostState) -> Plan:
        """Plan, and write the holds down before anything is done."""
        todo = plan(self.look(basis))
        self.cliff = frozenset(h.subject for h in todo.holds if h.reason is Reason.CLIFF)
        return todo

    def apply(self, action: Action) -> None:
        match action:
            case Deploy(stack=item):
                made = release(item.name, item.digest, map(service, services_of(item)))
                self._drop(item.name, one_offs=False)
                self.containers |= {c.id: c for c in running(made)}
                self.releases[item.name] = made
                self.attempts.pop(item.name, None)
            case RemoveStack(project=project):
                self._drop(project, one_offs=True)
                self.releases.pop(project, None)
                self.attempts.pop(project, None)
            case Evict(container=found):
                ended = replace(found, name=f"commitd-evicted-{found.name}", state="exited")
                self.containers[found.id] = ended

    def carry_out(self, todo: Plan) -> None:
        """All of it, in the order of the loop."""
        for action in actions_of(todo):
            self.apply(action)

    def _drop(self, project: str, *, one_offs: bool) -> None:
        self.containers = {
            c.id: c
            for c in self.containers.values()
            if c.project != project or (c.one_off and not one_offs)
        }

    def runs(self) -> object:
        alive = sorted(c.id for c in self.containers.values() if c.alive)
        return alive, {name: r.digest for name, r in self.releases.items()}


NAMES = "abcdef"
DIGESTS = st.sampled_from(["d1", "d2", "d3"])
STATES = st.sampled_from(["running", "running", "exited", "restarting", "created"])


@st.composite
def rogues(draw: st.DrawFn, number: int) -> Container:
    project = draw(st.sampled_from([None, "", "other", *NAMES]))
    at_home = project is not None and draw(st.booleans())
    return container(
        f"rogue-{number}",
        project,
        draw(st.sampled_from([None, "web", "miner"])),
        state=draw(STATES),
        one_off=draw(st.integers(0, 4)) == 0,
        labels={WORKING_DIR: f"{STACKS_DIR}/{project}"} if at_home else {},
    )


@st.composite
def situations(draw: st.DrawFn) -> HostState:
    wanted = draw(st.dictionaries(st.sampled_from(NAMES), DIGESTS))
    applied = draw(st.dictionaries(st.sampled_from(NAMES), DIGESTS))
    made = [
        release(name, digest, map(service, services_of(stack(name, digest))))
        for name, digest in applied.items()
    ]
    found = [
        replace(c, state=draw(STATES)) for r in made for c in running(r) if draw(st.integers(0, 5))
    ]
    found += [draw(rogues(i)) for i in range(draw(st.integers(0, 4)))]
    broken = draw(st.sets(st.sampled_from(NAMES), max_size=1)) if draw(st.booleans()) else set()
    return situation(
        [stack(name, digest) for name, digest in wanted.items() if name not in broken],
        made,
        draw(st.permutations(found)),
        broken=sorted(broken),
        list_faults=["in doubt"] if draw(st.integers(0, 5)) == 0 else [],
        doubt="in doubt" if draw(st.integers(0, 5)) == 0 else None,
        enrolled=draw(st.integers(0, 3)) > 0,
        report_only=draw(st.integers(0, 5)) == 0,
        approved=[SHA] if draw(st.integers(0, 3)) == 0 else [],
        teardown_limit=draw(st.sampled_from([0.0, 0.25, 0.5, 1.0])),
        attempts=[
            attempt(
                name,
                draw(DIGESTS),
                next_at=draw(st.sampled_from([0.0, NOW + 1])),
                permanent=draw(st.booleans()),
            )
            for name in draw(st.sets(st.sampled_from(NAMES), max_size=2))
        ],
    )


def host_of(basis: HostState) -> Host:
    return Host({c.id: c for c in basis.containers}, dict(basis.releases), dict(basis.attempts))


def clear_failed(host: Host, basis: HostState) -> Plan:
    """The plan once what failed tries have left is gone, too.

    While a rogue runs under the name of a stack that was never healthy, that stack is not touched;
    once it was evicted, the next plan takes down what is left of the stack, and nothing else.
    """
    again = host.plan(basis)
    assert (again.deploys, again.evictions) == ((), ())
    assert {r.project for r in again.removals} <= set(host.attempts) - set(host.releases)
    host.carry_out(again)
    return host.plan(basis)


@given(situations())
@settings(max_examples=80)
def test_after_a_plan_is_done_there_is_nothing_to_do(basis: HostState) -> None:
    host = host_of(basis)
    todo = host.plan(basis)
    host.carry_out(todo)
    again = clear_failed(host, basis)
    assert again.empty
    assert {h.subject for h in again.holds} <= {h.subject for h in todo.holds} | set(basis.attempts)


@given(situations(), st.data())
@settings(max_examples=80)
def test_an_agent_that_was_stopped_anywhere_ends_up_the_same(
    basis: HostState, data: st.DataObject
) -> None:
    whole, stopped = host_of(basis), host_of(basis)
    todo = whole.plan(basis)
    whole.carry_out(todo)
    todo = stopped.plan(basis)
    # Evictions and deploys go side by side; stacks are taken down after them.
    together: list[Action] = [*todo.evictions, *todo.deploys]
    first = data.draw(st.permutations(together))
    actions: list[Action] = [*first, *data.draw(st.permutations(todo.removals))]
    for action in actions[: data.draw(st.integers(0, len(actions)))]:
        stopped.apply(action)
    stopped.carry_out(stopped.plan(basis))
    assert stopped.runs() == whole.runs()
    assert clear_failed(stopped, basis).empty


@given(situations())
@settings(max_examples=80)
def test_nothing_of_a_declared_stack_is_ever_ended(basis: HostState) -> None:
    todo = plan(basis)
    declared = {s.name: s for s in basis.desired.stacks}
    assert not {r.project for r in todo.removals} & basis.desired.names
    for found in (eviction.container for eviction in todo.evictions):
        assert found.alive
        if found.project in basis.desired.names:
            item = declared[found.project or ""]
            assert basis.releases[item.name].digest == item.digest
            assert found.service not in services_of(item)
            assert not found.one_off


@given(situations())
@settings(max_examples=80)
def test_in_doubt_nothing_is_ended_and_deploys_go_on(basis: HostState) -> None:
    sure = replace(basis, doubt=None, desired=replace(basis.desired, list_faults=()))
    for unsure in (
        replace(basis, doubt="why"),
        replace(
            basis, desired=replace(basis.desired, list_faults=desired(list_faults="x").list_faults)
        ),
    ):
        todo = plan(unsure)
        assert (todo.removals, todo.evictions) == ((), ())
        assert todo.deploys == plan(sure).deploys
        ended = {r.project for r in plan(sure).removals}
        ended |= {e.container.name for e in plan(sure).evictions}
        assert ended <= {h.subject for h in todo.holds if h.reason is Reason.LIST_IN_DOUBT}


@given(situations())
@settings(max_examples=80)
def test_before_enrolment_only_what_the_agent_deployed_is_ended(basis: HostState) -> None:
    todo = plan(replace(basis, enrolled=False))
    assert todo.evictions == ()
    assert {r.project for r in todo.removals} <= {*basis.releases, *basis.attempts}


@given(situations())
@settings(max_examples=80)
def test_without_approval_no_plan_takes_down_everything_or_more_than_the_limit(
    basis: HostState,
) -> None:
    todo = plan(replace(basis, approved=frozenset()))
    ended = {r.project for r in todo.removals} - never_healthy(basis)  # of which nothing runs
    there = {*basis.releases, *basis.attempts} | ended
    if ended:
        assert there - ended
        assert len(ended) == 1 or len(ended) <= basis.teardown_limit * len(there)
    leaving = set(basis.releases) - basis.desired.names
    assert leaving <= ended | {h.subject for h in todo.holds}


@given(situations(), st.data())
def test_the_plan_does_not_depend_on_the_order_of_a_listing(
    basis: HostState, data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(basis.containers))
    todo = plan(basis)
    assert todo == plan(replace(basis, containers=tuple(shuffled)))
    assert list(todo.removals) == sorted(todo.removals, key=lambda r: r.project)
    assert list(todo.deploys) == sorted(todo.deploys, key=lambda d: d.stack.name)
    assert list(todo.evictions) == sorted(todo.evictions, key=lambda e: e.container.name)


@given(situations())
def test_what_is_published_shields_all_that_the_plan_spares(basis: HostState) -> None:
    protection = protected(basis)
    evicted = {e.container.id for e in plan(basis).evictions}
    for found in basis.containers:
        owner = ownership.classify(found, protection, basis.exemptions)
        undeclared = isinstance(owner, ownership.Undeclared) and found.alive
        reason = owner.reason if isinstance(owner, ownership.Undeclared) else Reason.NO_PROJECT
        refused = refusal(found, protection, reason, report_only=basis.report_only)
        assert (found.id in evicted) is (undeclared and refused is None)


def test_the_causes_of_a_deploy_come_in_the_order_of_names() -> None:
    made = release("a", services=[service(scale=2)])
    first, second = (replace(c, state="exited", exit_code=1) for c in running(made))
    second = replace(second, exit_code=2)
    found = [
        plan(situation(stacks("a"), [made], order)).deploys[0].causes
        for order in ([first, second], [second, first])
    ]
    assert found[0] == found[1]
    assert [cause.after for cause in found[0]] == ["exited 1", "exited 2"]


# --- order ---


def after(name: str, *needed: str, digest: str = "d1") -> Stack:
    return replace(stack(name, digest), settings=Settings(after=needed))


def test_stacks_that_come_up_together_are_planned_together_and_carry_their_order() -> None:
    todo = plan(situation([after("b", "a"), after("c", "b"), stack("a")]))
    assert [deploy.stack.name for deploy in todo.deploys] == ["a", "b", "c"]
    assert todo.holds == ()


def test_stacks_that_wait_for_themselves_are_held_and_nobody_else_by_that() -> None:
    todo = plan(situation([after("a", "b"), after("b", "a"), after("d", "d"), stack("c")]))
    assert [deploy.stack.name for deploy in todo.deploys] == ["c"]
    assert reasons(todo) == {"a": Reason.ORDER, "b": Reason.ORDER, "d": Reason.ORDER}
    assert {hold.subject: hold.detail for hold in todo.holds}["a"] == (
        "it waits for itself, through a and b"
    )


def test_a_name_that_is_not_here_holds_its_stack_and_who_comes_after_that() -> None:
    todo = plan(situation([after("a", "z"), after("b", "a"), stack("c")]))
    assert [deploy.stack.name for deploy in todo.deploys] == ["c"]
    assert reasons(todo) == {"a": Reason.ORDER, "b": Reason.AFTER}


def test_who_comes_after_a_cycle_waits_for_it() -> None:
    todo = plan(situation([after("a", "b"), after("b", "a"), after("c", "a")]))
    assert reasons(todo) == {"a": Reason.ORDER, "b": Reason.ORDER, "c": Reason.AFTER}


def test_a_cycle_of_stacks_that_run_leaves_them_running() -> None:
    todo = plan(situation([after("a", "b", digest="d2"), after("b", "a")], releases("ab")))
    assert todo.empty
    assert reasons(todo) == {"a": Reason.ORDER, "b": Reason.ORDER}


@pytest.mark.parametrize(
    ("needed", "up"),
    [
        (running(release("a")), True),
        ([container("a-web-0", "a", "web", health="healthy")], True),
        ([container("a-web-0", "a", "web", health="unhealthy")], False),
        ([container("a-web-0", "a", "web", state="exited", exit_code=1)], False),
        ([], False),
    ],
)
def test_who_comes_after_a_stack_that_is_held_waits_until_that_is_up(
    needed: list[Container], up: bool
) -> None:
    """`a` is suspended, so that nobody brings it up."""
    exemptions = Exemptions(suspensions=(Suspension("a", None, "", "t"),))
    now = situation([stack("a"), after("b", "a")], releases("a"), needed)
    todo = plan(replace(now, exemptions=exemptions))
    assert [deploy.stack.name for deploy in todo.deploys] == (["b"] if up else [])
    assert reasons(todo).get("b") == (None if up else Reason.AFTER)


def test_who_comes_after_a_stack_that_never_came_up_waits_with_its_whole_chain() -> None:
    failed = attempt("a", permanent=True)
    chain = [after("b", "a"), after("c", "b"), after("d", "c"), stack("e")]
    todo = plan(situation([stack("a"), *chain], attempts=[failed]))
    assert [deploy.stack.name for deploy in todo.deploys] == ["e"]
    assert reasons(todo) == {
        "a": Reason.FAILED,
        **dict.fromkeys("bcd", Reason.AFTER),
    }
    assert {h.subject: h.detail for h in todo.holds}["c"] == "b is not up"


def test_who_comes_after_a_stack_that_cannot_be_read_waits_unless_that_is_up() -> None:
    todo = plan(situation([after("b", "a")], broken=["a"]))
    assert reasons(todo) == {"a": Reason.INVALID, "b": Reason.AFTER}
    todo = plan(situation([after("b", "a")], releases("a"), broken=["a"]))
    assert [deploy.stack.name for deploy in todo.deploys] == ["b"]


def test_who_stands_is_not_touched_when_its_predecessor_falls() -> None:
    now = situation([stack("a"), after("b", "a")], releases("ab"), running(release("b")))
    todo = plan(now)
    assert [(deploy.stack.name, deploy.reason) for deploy in todo.deploys] == [
        ("a", Reason.DRIFTED)
    ]
    assert todo.holds == ()


def test_a_stack_that_was_rolled_back_is_said_so_and_kept_at_the_older_release() -> None:
    now = situation(stacks("ab"), releases("ab"))
    back = replace(now.desired, rolled_back={"a": "it crashed; rolled back to 1a2b3c4"})
    todo = plan(replace(now, desired=back))
    assert todo.empty
    assert [(h.subject, h.reason, h.detail) for h in todo.holds] == [
        ("a", Reason.ROLLED_BACK, "it crashed; rolled back to 1a2b3c4")
    ]
    drifted = plan(replace(now, desired=back, containers=tuple(running(release("b")))))
    assert [(d.stack, d.reason) for d in drifted.deploys] == [(stack("a"), Reason.DRIFTED)]


@pytest.mark.parametrize(
    ("since", "left_s"),
    [(NOW, 60.0), (NOW - 59.0, 1.0), (NOW - 60.0, 0.0), (NOW - 1e6, 0.0), (NOW + 1.0, 0.0)],
)
def test_the_grace_is_over_for_good_so_long_after_the_first_sight(
    since: float, left_s: float
) -> None:
    assert grace_left(since, NOW, 60.0) == left_s

"""Whose a container is that says it is of a declared service: labels can be copied, IDs cannot."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.adapters.engine.engine import Engine
from agent.adapters.state import schema
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.damage import BEGUN_ANEW
from agent.adapters.state.evictions import Evicted
from agent.adapters.state.journal import Journal
from agent.control.stack.ledger import Ledger
from agent.domain.container import (
    CONFIG_HASH,
    HOOK,
    NUMBER,
    ONEOFF,
    REPLACE,
    SERVICE,
    SWARM_TASK,
    Container,
)
from agent.domain.outcome import CauseKind, EvictionAction, Reason
from agent.domain.reconcile import effects, host_state, ownership, plan
from agent.domain.reconcile.actions import Plan
from agent.domain.reconcile.exemptions import Exemptions, Suspension
from agent.domain.reconcile.plan import evictions
from agent.domain.release import drift, health, identity
from agent.domain.release.health import ContainerView, Expected
from agent.domain.release.health import Known as Seen
from agent.domain.release.identity import Known, Own
from agent.domain.repository.allow_rules import AllowRule, Pattern
from tests.unit import builders
from tests.unit.builders import release, service, situation, stack
from tests.values import replace

if TYPE_CHECKING:
    from pathlib import Path

    from agent.domain.release.release import Release
    from agent.domain.repository.desired import Stack


def container(name: str, of: str = "app", *, state: str = "running", **labels: str) -> Container:
    """One of the stack web, as Compose labels it."""
    own = {ONEOFF: "False", NUMBER: "1", **labels}
    return builders.container(name, "web", of, state=state, labels=own)


def own(*containers: Container) -> Own:
    return frozenset((c.service or "", c.id) for c in containers)


DEPLOYED = container("web-app-1")
FORGED = container("forged", **{NUMBER: "0"})
RELEASE = replace(release("web", services=[service("app")]), own=own(DEPLOYED))
KEPT = replace(FORGED, name="commitd-evicted-forged-0123456789ab", state="exited")


def names(containers: list[Container]) -> list[str]:
    return [each.name for each in containers]


# --- the decision ---------------------------------------------------------------------------------

SECOND, THIRD = container("web-app-2"), container("web-app-3")
OTHER = container("web-db-1", "db")


HALF = replace(
    container("x", **{REPLACE: "web-app-1"}), name="0123456789ab_web-app-1", state="created"
)


@pytest.mark.parametrize(
    ("known", "there", "rivals", "substitutes"),
    [
        # Copied labels beside the one that they were copied from, running or not.
        (own(DEPLOYED), [DEPLOYED, FORGED], ["forged"], []),
        (own(DEPLOYED), [replace(DEPLOYED, state="exited"), FORGED], ["forged"], []),
        (own(DEPLOYED), [DEPLOYED, replace(FORGED, state="created")], ["forged"], []),
        # docker compose up --scale app=3
        (own(DEPLOYED), [DEPLOYED, SECOND, THIRD], ["web-app-2", "web-app-3"], []),
        # docker compose up --force-recreate, or docker rm and up: of one, and of one of two.
        (own(DEPLOYED), [SECOND], [], ["web-app-2"]),
        (own(DEPLOYED, SECOND), [DEPLOYED, THIRD], [], ["web-app-3"]),
        (own(DEPLOYED, SECOND), [DEPLOYED, THIRD, FORGED], [], ["web-app-3", "forged"]),
        # A rename changes no ID; nor does a restart of the engine.
        (own(DEPLOYED), [replace(DEPLOYED, name="mine")], [], []),
        (own(DEPLOYED), [replace(DEPLOYED, state="exited", exit_code=255)], [], []),
        # One that was evicted takes no place, whatever has become of the deployed one.
        (own(DEPLOYED), [KEPT], ["commitd-evicted-forged-0123456789ab"], []),
        # One that was evicted before its service was declared may go on as that service.
        (own(DEPLOYED), [DEPLOYED, replace(KEPT, labels=OTHER.labels)], [], [KEPT.name]),
        # docker compose up by hand, half way: the new one was made, the old one is still there.
        (own(DEPLOYED), [DEPLOYED, HALF], [], [HALF.name]),
        (own(DEPLOYED), [HALF], [], [HALF.name]),
        (own(DEPLOYED), [DEPLOYED, replace(HALF, state="running")], [HALF.name], []),
        # Of a service that nothing was made of yet.
        (own(DEPLOYED), [DEPLOYED, OTHER], [], ["web-db-1"]),
        # One-offs and hooks are of nobody's place.
        (own(DEPLOYED), [DEPLOYED, container("run", **{ONEOFF: "True"})], [], []),
        (own(DEPLOYED), [DEPLOYED, container("hook", **{HOOK: "pre_start"})], [], []),
        # Nothing is known: an agent of the version before has deployed it, or Compose works on it.
        (None, [DEPLOYED, FORGED], [], []),
        (frozenset(), [DEPLOYED], [], ["web-app-1"]),
    ],
)
def test_a_container_that_took_nobodys_place_is_a_rival(
    known: Own | None, there: list[Container], rivals: list[str], substitutes: list[str]
) -> None:
    assert names(identity.rivals(known, there)) == rivals
    assert names(identity.substitutes(known, there)) == substitutes


def test_the_half_of_a_recreate_is_waited_for_only_while_the_other_is_there() -> None:
    assert identity.halves(own(DEPLOYED), [DEPLOYED, HALF]) == [HALF]
    assert identity.halves(own(DEPLOYED), [HALF]) == []
    assert identity.halves(own(DEPLOYED), [DEPLOYED, replace(HALF, state="running")]) == []


POOL = [
    container(f"web-{of}-{number}", of, **{NUMBER: str(number)})
    for of in ("app", "db")
    for number in range(4)
]
SOME = st.sets(st.integers(0, len(POOL) - 1))


SERVICES = frozenset({"app", "db"})


def some(numbers: set[int]) -> list[Container]:
    return [POOL[number] for number in sorted(numbers)]


@given(SOME, SOME)
def test_each_is_own_or_a_rival_or_a_substitute(mine: set[int], there: set[int]) -> None:
    known, found = own(*some(mine)), some(there)
    own_ones = {c.id for c in found if (c.service, c.id) in known}
    rivals = {c.id for c in identity.rivals(known, found)}
    substitutes = {c.id for c in identity.substitutes(known, found)}
    assert own_ones | rivals | substitutes == {c.id for c in found}
    assert len(own_ones) + len(rivals) + len(substitutes) == len(found)


@given(SOME, SOME)
def test_a_rival_is_never_all_that_is_left_of_a_service(mine: set[int], there: set[int]) -> None:
    known, found = own(*some(mine)), some(there)
    for rival in identity.rivals(known, found):
        places = [id_ for service_, id_ in known if service_ == rival.service]
        assert places
        assert set(places) <= {c.id for c in found}


@given(SOME, SOME, SOME, st.booleans())
def test_what_compose_makes_is_own_however_the_agent_ends(
    before: set[int], made: set[int], removed: set[int], known: bool
) -> None:
    """Between two looks, whatever it removes; also if only the next agent looks again."""
    there, later = some(before), some((before | made) - removed)
    start = Known(identity.own_now(Known(own(*there)) if known else None, there))
    while_it_works = Known(start.own, frozenset(c.id for c in there))
    end = identity.own_now(while_it_works, later)
    new = [c for c in later if c not in there]
    assert own(*new) <= end
    assert not {c.id for c in identity.rivals(end, later)} & {c.id for c in new}


@given(SOME, SOME, SOME)
def test_what_took_a_place_before_compose_is_no_rival_after_it(
    mine: set[int], there: set[int], made: set[int]
) -> None:
    """Also where Compose worked on another service and left it as it was."""
    known, found = own(*some(mine)), some(there)
    later = some(there | (made - mine))
    end = identity.own_after(Known(known, frozenset(c.id for c in found)), later, SERVICES)
    substitutes = {c.id for c in identity.substitutes(known, found)}
    of = {service_ for service_, _ in known}
    assert not substitutes & {c.id for c in identity.rivals(end, later) if c.service in of}
    alone = identity.own_after(Known(known, frozenset()), later, SERVICES)
    assert alone == own(*later), "what is gone for good is forgotten"


def test_a_service_that_left_has_what_it_had_until_that_goes() -> None:
    """A rollback finds it as it was; what comes meanwhile under its name is not the stack's."""
    old, new, forged = container("old", of="db"), container("new"), container("forged", of="db")
    known = Known(own(old), frozenset({old.id}))
    assert identity.own_after(known, [old, new, forged], {"app"}) == own(old, new)
    assert identity.own_after(known, [new], {"app"}) == own(new)


# --- what follows from it -------------------------------------------------------------------------


def _host(*containers: Container, **changes: object) -> host_state.HostState:
    found = situation([replace(stack("web"), services=frozenset({"app"}))], [RELEASE], containers)
    return replace(found, **changes)


def test_a_container_with_copied_labels_is_evicted_and_nothing_is_deployed_for_it() -> None:
    todo = plan.plan(_host(DEPLOYED, FORGED))
    assert [(e.container.name, e.reason) for e in todo.evictions] == [
        ("forged", Reason.UNKNOWN_CONTAINER)
    ]
    assert todo.deploys == ()


def test_the_deployed_one_is_put_right_although_another_has_its_labels() -> None:
    todo = plan.plan(_host(replace(DEPLOYED, state="exited", exit_code=137), FORGED))
    assert names([e.container for e in todo.evictions]) == ["forged"]
    assert [cause.kind for d in todo.deploys for cause in d.causes] == [CauseKind.STATE]


def test_what_is_in_the_place_of_the_deployed_one_is_drift_however_alike_it_is() -> None:
    todo = plan.plan(_host(FORGED))
    assert todo.evictions == ()
    (deploy,) = todo.deploys
    assert [(c.kind, c.before, c.after) for c in deploy.causes] == [
        (CauseKind.REPLACED, "deployed", "made by others"),
        (CauseKind.CONTAINERS, "1", "0"),
    ]
    (effect,) = effects.drifted(deploy, RELEASE)
    assert (effect.action, effect.message) == ("recreate", "no deploy made forged")


@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize("of", ["debug", "zzz"])
def test_what_says_it_is_of_a_service_that_was_not_started_is_evicted(of: str, more: bool) -> None:
    """Of an inactive profile, with ``scale: 0``, or of any name beside an ``include:``."""
    named = frozenset({"app", "debug"})
    item = replace(stack("web"), services=named, more=more)
    forged = container("forged", of)
    todo = plan.plan(situation([item], [RELEASE], [DEPLOYED, forged]))
    assert [(e.container.name, e.reason) for e in todo.evictions] == [
        ("forged", Reason.UNKNOWN_SERVICE)
    ]
    assert todo.deploys == ()


@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize("of", ["debug", "zzz"])
def test_in_a_swarm_a_stack_has_the_services_that_were_deployed(of: str, more: bool) -> None:
    """Of which no IDs are known."""
    item = replace(stack("web"), services=frozenset({"app", "debug"}), more=more)
    by_hand = container("web_other", of)
    found = situation([item], [replace(RELEASE, own=None)], [DEPLOYED, by_hand])
    ended, held = evictions(replace(found, swarm=True))
    assert ([each.container.name for each in ended], held) == (["web_other"], [])


@pytest.mark.parametrize(
    "legitimate",
    [
        container("run", "debug", **{ONEOFF: "True"}),
        container("hook", "debug", **{HOOK: "pre_start"}),
        replace(HALF, labels={**HALF.labels, SERVICE: "debug"}, state="running"),
    ],
    ids=["one-off", "hook", "half of a recreate"],
)
def test_one_offs_hooks_and_halves_of_such_a_service_are_exempt(legitimate: Container) -> None:
    item = replace(stack("web"), services=frozenset({"app", "debug"}), more=True)
    assert evictions(situation([item], [RELEASE], [DEPLOYED, legitimate])) == ([], [])


@pytest.mark.parametrize(
    ("now", "made", "there"),
    [
        (stack("web", "d2"), RELEASE, (DEPLOYED,)),  # about to be deployed
        (stack("web"), replace(RELEASE, dirty=True), (DEPLOYED,)),  # amid a deploy
        (stack("web"), RELEASE, ()),  # about to be repaired
        (stack("web"), replace(RELEASE, own=None), (DEPLOYED,)),  # deployed by an older agent
        (stack("web"), replace(RELEASE, own=own(DEPLOYED, OTHER)), (DEPLOYED,)),  # it was learned
    ],
)
def test_any_service_may_belong_to_a_stack_that_does_not_stand_as_known(
    now: Stack, made: Release, there: tuple[Container, ...]
) -> None:
    found = situation([replace(now, more=True)], [made], [*there, OTHER])
    assert evictions(found) == ([], [])


UNCOUNTED = replace(
    FORGED, labels={k: v for k, v in FORGED.labels.items() if k not in {CONFIG_HASH, ONEOFF}}
)


@pytest.mark.parametrize(
    ("subject", "changes", "held"),
    [
        (UNCOUNTED, {"enrolled": False}, "it was here first"),
        (UNCOUNTED, {}, None),
        (FORGED, {"enrolled": False, "begun_anew": "it was set aside"}, "begun anew"),
    ],
)
def test_a_rival_that_may_have_been_here_first_is_left_until_a_person_agrees(
    subject: Container, changes: dict[str, object], held: str | None
) -> None:
    """Made by another tool, whose containers no deploy takes over; or nobody knows any more."""
    found, holds = evictions(_host(DEPLOYED, subject, **changes))
    assert len(found) == (0 if held else 1)
    mine = [hold for hold in holds if hold.subject == "forged"]
    assert [(h.reason, h.needs_person) for h in mine] == (
        [(Reason.NOT_ENROLLED, True)] if held else []
    )
    assert all((held or "") in hold.detail for hold in mine)


def test_a_release_of_which_the_containers_are_not_known_is_judged_by_labels_alone() -> None:
    older = replace(RELEASE, own=None)
    assert drift.compare(older, [replace(FORGED, name="web-app-0")]) == ()
    found = _host(DEPLOYED, SECOND, releases={"web": older})
    assert evictions(found) == ([], [])


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ({"enrolled": False}, None),  # it came after the stack, so it was not here first
        ({"doubt": "no commit"}, Reason.LIST_IN_DOUBT),
        ({"report_only": True}, Reason.REPORT_ONLY),
    ],
)
def test_a_rival_is_left_running_for_the_reasons_of_others_but_for_enrolment(
    changes: dict[str, object], held: Reason | None
) -> None:
    found, holds = evictions(_host(DEPLOYED, FORGED, **changes))
    assert [hold.reason for hold in holds] == ([held] if held else [])
    assert len(found) == (0 if held else 1)


SUSPENDED = Suspension("web", None, "", "t")
ANY = AllowRule("global/commitd.yaml:2", (Pattern(name="*"),))


@pytest.mark.parametrize(
    ("subject", "exemptions", "allow", "expected"),
    [
        (FORGED, Exemptions(), (), ownership.Undeclared(Reason.UNKNOWN_CONTAINER)),
        (FORGED, Exemptions(granted=frozenset({FORGED.id})), (), Reason.UNDONE),
        (FORGED, Exemptions(suspensions=(SUSPENDED,)), (), Reason.SUSPENDED),
        # A rule from Git and Swarm's label are matched by names and labels, which are copied.
        (FORGED, Exemptions(), (ANY,), ownership.Undeclared(Reason.UNKNOWN_CONTAINER)),
        (
            container("forged", **{SWARM_TASK: "t"}),
            Exemptions(),
            (),
            ownership.Undeclared(Reason.UNKNOWN_CONTAINER),
        ),
        # The temporary name of a recreate is copied as easily; a real new half is no rival.
        (
            replace(FORGED, name="0123456789ab_web-app-1", labels={**FORGED.labels, REPLACE: "x"}),
            Exemptions(),
            (),
            ownership.Undeclared(Reason.UNKNOWN_CONTAINER),
        ),
    ],
)
def test_only_a_person_on_the_host_speaks_for_a_rival(
    subject: Container,
    exemptions: Exemptions,
    allow: tuple[AllowRule, ...],
    expected: ownership.Undeclared | Reason,
) -> None:
    protection = replace(host_state.protected(_host(DEPLOYED, subject)), allow=allow)
    found = ownership.classify(subject, protection, exemptions)
    if isinstance(expected, Reason):
        assert isinstance(found, ownership.Exempt)
        assert found.reason is expected
    else:
        assert found == expected
    assert isinstance(ownership.classify(DEPLOYED, protection, exemptions), ownership.Declared)


def test_the_gate_waits_for_those_that_were_made_and_not_for_what_has_their_labels() -> None:
    expected = {"app": Expected(image="img", scale=1, one_shot=False)}
    views = [ContainerView(container=DEPLOYED, up_s=60.0), ContainerView(container=FORGED)]
    assert [f.trouble for f in health.judge(expected, views, 5.0)] != []
    assert health.judge(expected, views, 5.0, Seen(made={DEPLOYED.id})) == []


# --- what is remembered ---------------------------------------------------------------------------


def test_a_journal_of_the_version_before_keeps_its_history_and_knows_no_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.db"
    with monkeypatch.context() as patch:
        number = schema.MIGRATIONS.index(schema.MADE)
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:number])
        Journal(path).close()
    with sqlite3.connect(path) as db:
        db.execute(
            "INSERT INTO releases VALUES ('web', 'd', 'sha', '[]', '[]', 't', '[]', 0, 1, 0)"
        )
        db.execute(
            "INSERT INTO actions (at, action, subject, reason, cause)"
            " VALUES ('t', 'deploy', 'web', 'new', '[]')"
        )
    db.close()
    journal = Journal(path)
    assert journal.releases()["web"].own is None
    assert journal.made() == {}
    assert [entry.subject for entry in journal.history()] == ["web"]


def test_the_containers_of_a_release_are_known_unless_compose_works_on_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    journal.keep_release(release("web"))
    known = Known(own(DEPLOYED, SECOND, OTHER))
    journal.keep_made("web", known)
    assert journal.releases()["web"].own == known.own
    worked_on = replace(known, before=frozenset({DEPLOYED.id}))
    journal.keep_made("web", worked_on)
    assert Journal(tmp_path / "journal.db").made() == {"web": worked_on}
    assert journal.releases()["web"].own is None
    journal.forget_release("web")
    assert journal.made() == {}


def test_the_containers_of_an_older_agents_release_are_learned_while_it_stands(
    tmp_path: Path,
) -> None:
    journal = Journal(tmp_path / "journal.db")
    older = replace(RELEASE, own=None)
    journal.keep_release(older)
    ledger = Ledger(Engine("unix:///nowhere"), AsyncJournal(journal))

    async def main() -> None:
        await ledger.read(None)
        doubled = _host(DEPLOYED, SECOND, releases={"web": older})
        await ledger.learn(doubled)
        await ledger.learn(_host(DEPLOYED, releases={"web": replace(older, dirty=True)}))
        assert journal.made() == {}
        assert not ledger.unknown(FORGED)
        await ledger.learn(_host(DEPLOYED, KEPT, releases={"web": older}))
        assert journal.made() == {"web": Known(own(DEPLOYED))}
        assert ledger.unknown(FORGED)
        assert not ledger.unknown(DEPLOYED)
        await ledger.learn(_host(FORGED, releases={"web": replace(older, own=own(DEPLOYED))}))
        assert journal.made() == {"web": Known(own(DEPLOYED))}

    anyio.run(main)


def test_what_a_person_had_started_before_an_update_goes_on(tmp_path: Path) -> None:
    """A service of an inactive profile, or of an included file: until the next deploy."""
    journal = Journal(tmp_path / "journal.db")
    older = replace(RELEASE, own=None)
    journal.keep_release(older)
    ledger = Ledger(Engine("unix:///nowhere"), AsyncJournal(journal))
    named = replace(stack("web"), services=frozenset({"app", "db"}))

    async def main() -> None:
        await ledger.learn(situation([named], [older], [DEPLOYED, OTHER, container("x", "zzz")]))
        assert journal.made() == {"web": Known(own(DEPLOYED, OTHER))}
        journal.forget_made()
        await ledger.read(None)
        await ledger.learn(situation([replace(named, more=True)], [older], [DEPLOYED, OTHER]))
        assert journal.made() == {"web": Known(own(DEPLOYED, OTHER))}

    anyio.run(main)
    found = situation([named], journal.releases().values(), [DEPLOYED, OTHER])
    assert plan.plan(found) == Plan()


@pytest.mark.parametrize(("applied", "forgotten"), [("new", True), ("old", False), (None, False)])
def test_a_journal_older_than_the_clone_does_not_say_whose_a_container_is(
    tmp_path: Path, applied: str | None, forgotten: bool
) -> None:
    """Else replicas that were deployed after a backup would be evicted once it is put back."""
    journal = Journal(tmp_path / "journal.db")
    journal.put("declared", {"revision": {"sha": "old"}})
    journal.keep_release(RELEASE)
    journal.keep_made("web", Known(own(DEPLOYED)))
    ledger = Ledger(Engine("unix:///nowhere"), AsyncJournal(journal))
    anyio.run(ledger.read, applied)
    assert ledger.unknown(SECOND) is not forgotten
    found = _host(DEPLOYED, SECOND, releases=journal.releases())
    assert names([e.container for e in evictions(found)[0]]) == ([] if forgotten else ["web-app-2"])


class _Listed(Engine):
    """An engine that shows these, whatever becomes of them."""

    def __init__(self, *there: Container) -> None:
        super().__init__("unix:///nowhere")
        self._there = there

    async def containers(self, project: str | None = None) -> tuple[Container, ...]:
        return tuple(c for c in self._there if c.project == project)


@pytest.mark.parametrize(
    ("released", "dirty", "settled"),
    [(True, True, True), (False, False, True), (True, False, False)],
)
def test_what_comes_after_an_agent_has_started_is_judged_although_a_deploy_was_cut_short(
    tmp_path: Path, released: bool, dirty: bool, settled: bool
) -> None:
    journal = Journal(tmp_path / "journal.db")
    if released:
        journal.keep_release(RELEASE)
    if dirty:
        journal.mark_dirty("web")
    cut_short = Known(own(DEPLOYED), frozenset({DEPLOYED.id}))
    journal.keep_made("web", cut_short)
    ledger = Ledger(_Listed(DEPLOYED, SECOND, KEPT), AsyncJournal(journal))

    async def main() -> None:
        await ledger.read(None)
        await ledger.settle()

    anyio.run(main)
    after = Known(own(DEPLOYED, SECOND)) if settled else cut_short
    assert journal.made() == {"web": after}
    assert ledger.unknown(THIRD) is settled
    if settled:
        assert names(identity.rivals(after.own, [DEPLOYED, SECOND, THIRD])) == ["web-app-3"]


def test_a_journal_that_was_begun_anew_has_no_rival_removed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    journal.put(BEGUN_ANEW, {"at": "t", "aside": "a", "why": "w"})
    journal.keep_made("web", Known(own(DEPLOYED)))
    record = Evicted(
        id=KEPT.id,
        name="forged",
        image="img",
        action=EvictionAction.REMOVED,
        reason=Reason.UNKNOWN_CONTAINER,
        at="t",
        remove_at=1e12,
    )
    with journal._write() as db:
        journal._keep(db, record, {"HostConfig": {}})
    ledger = Ledger(_Listed(DEPLOYED, KEPT), AsyncJournal(journal))
    look = anyio.run(ledger.look, "web")
    assert (names(list(look.rivals)), look.evicted) == ([KEPT.name], frozenset())
    journal.put("enrolled", "t")
    look = anyio.run(ledger.look, "web")
    assert (names(list(look.rivals)), look.evicted) == ([KEPT.name], frozenset({KEPT.id}))


def test_what_left_is_forgotten_and_a_journal_that_cannot_be_written_fails_no_release(
    tmp_path: Path,
) -> None:
    app, old = container("app"), container("old", of="db")
    with closing(Journal(tmp_path / "journal.db")) as journal:
        ledger = Ledger(Engine("unix:///nowhere"), AsyncJournal(journal))
        anyio.run(ledger.adopt, "web", [app, old])
        journal._db.execute("PRAGMA query_only = ON")
        anyio.run(ledger.forget_left, "web", {"app"})
        journal._db.execute("PRAGMA query_only = OFF")
        assert journal.made()["web"].own == own(app, old)
        anyio.run(ledger.forget_left, "web", {"app"})
        assert journal.made()["web"].own == own(app)

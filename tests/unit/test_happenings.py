"""What of the journal and of a host's state people want to hear of, and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from agent.domain.outcome import Action, Reason
from agent.domain.outside import folding, happenings, texts
from agent.domain.outside.folding import Batch, Item, Memory, Open
from agent.domain.outside.happenings import Commit, Declared, Done, Happening
from agent.domain.outside_config import Kind
from agent.domain.reconcile.exemptions import Suspension
from agent.domain.status import held, stack_state, verdict
from agent.domain.status.facts import Facts, LastLook
from tests.unit.builders import SHA, container, release
from tests.unit.judged import DOWN, GITEA, LOOKED, action, facts, hold
from tests.values import replace

COMMIT = Commit(sha=SHA, subject="Update web", author="Ada")
DECLARED = Declared(commit=COMMIT, stacks={"web": "d1"})
OLDER = "0" * 40


def done(action: Action, status: str = "succeeded", **more: Any) -> Happening | None:
    given = {"subject": "web", "reason": Reason.CHANGED, "message": "why", "revision": SHA, **more}
    return happenings.done_by(Done(action=action, status=status, **given), DECLARED)


@pytest.mark.parametrize(
    ("action", "status", "reason", "kind"),
    [
        (Action.DEPLOY, "succeeded", Reason.CHANGED, Kind.DEPLOYED),
        (Action.DEPLOY, "failed", Reason.CHANGED, Kind.FAILED),
        (Action.DEPLOY, "cancelled", Reason.CHANGED, None),
        (Action.DEPLOY, "held", Reason.CHANGED, None),
        (Action.RESTART, "succeeded", Reason.DRIFTED, None),
        (Action.RESTART, "failed", Reason.DRIFTED, Kind.FAILED),
        (Action.ROLLBACK, "succeeded", Reason.ROLLED_BACK, Kind.ROLLED_BACK),
        (Action.ROLLBACK, "failed", Reason.ROLLED_BACK, Kind.FAILED),
        (Action.REMOVE_STACK, "succeeded", Reason.LEFT, Kind.DEPLOYED),
        (Action.EVICT, "succeeded", Reason.NO_PROJECT, Kind.EVICTED),
        (Action.EVICT, "succeeded", Reason.KEEP_EXPIRED, None),
        (Action.EVICT, "failed", Reason.NO_PROJECT, Kind.FAILED),
        (Action.HOLD, "held", Reason.CLIFF, None),
        (Action.ACCEPT, "succeeded", Reason.NEW_HEAD, None),
    ],
)
def test_what_was_done_is_told_as(
    action: Action, status: str, reason: Reason, kind: Kind | None
) -> None:
    found = done(action, status, reason=reason)
    assert (found.kind if found else None) == kind


def test_a_rollback_tells_of_the_commit_that_failed_and_the_one_it_went_back_to() -> None:
    found = done(Action.ROLLBACK, revision=OLDER, message="it was not healthy")
    assert found is not None
    assert (found.commit, found.version) == (COMMIT, "d1")
    assert found.said == "was rolled back to 0000000"


def test_a_commit_that_is_not_in_force_is_told_by_its_number() -> None:
    found = done(Action.DEPLOY, revision=OLDER)
    assert found is not None
    assert found.commit == Commit(sha=OLDER)


def troubles(given: Facts) -> dict[str, Happening]:
    holds = held.current(given)
    return happenings.troubles(given, holds, verdict.judge(given), Declared.read(given.declared))


def test_a_host_in_sync_has_no_trouble() -> None:
    assert troubles(facts([release("web")])) == {}


def test_what_waits_for_a_person_is_told_with_the_command() -> None:
    found = troubles(facts([release("web")], holds=[hold("web", Reason.CLIFF, person=True)]))
    assert found["held web"].kind is Kind.HELD
    assert found["held web"].advice == f"commitd approve {SHA[:12]}"


def test_containers_that_were_here_first_are_one_trouble() -> None:
    names = [f"old-{number}" for number in range(100)]
    found = troubles(
        facts(
            [],
            [container(name) for name in names],
            stacks={},
            holds=[hold(name, Reason.NOT_ENROLLED, person=True) for name in names],
            enrolled=False,
        )
    )
    assert [each.advice for each in found.values()] == ["commitd enroll"]


def test_a_stack_that_cannot_be_read_and_one_that_is_not_healthy_have_failed() -> None:
    broken = facts([release("web")], stacks={"web": "d1"}, broken={"db": "compose.yaml:3: what"})
    assert troubles(broken)["db"].said == "is held"
    ill = facts([release("web")], [container("web-web-1", "web", "web", health="unhealthy")])
    assert troubles(ill)["web"].passing


@pytest.mark.parametrize(
    ("given", "recovers"),
    [
        (facts(), False),  # another commit declares it anew, and nobody has deployed that
        (facts([release("web")], working=[action("restart", "web")]), False),
        (facts([release("web")], suspensions=[Suspension("web", None, "", LOOKED)]), False),
        (facts([release("web")]), True),
    ],
)
@pytest.mark.parametrize("key", ["web", "held web"])
@pytest.mark.parametrize("fine", [None, 0.5])
def test_what_is_not_there_yet_has_not_recovered(
    given: Facts, key: str, fine: float | None, recovers: bool
) -> None:
    known = Open(happening=replace(BAD, key=key), since=0.0, told=True, fine=fine)
    holds = held.current(given)
    stacks = stack_state.states(given, holds)
    unknown = happenings.unclear(stacks, verdict.judge_states(given, holds, stacks))
    memory = Memory(seq=1, open={key: known})
    seen = folding.observe(memory, {}, set(Kind), 1.0, unknown=unknown)
    later = folding.tick(seen, set(Kind), 10_000.0)
    assert (Kind.RECOVERED in later.pending) == recovers


def test_a_remote_that_is_down_says_who_is_followed() -> None:
    other = {**GITEA, "name": "github"}
    assert troubles(facts([release("web")], remotes=[DOWN, other]))["remote gitea"].said == (
        "does not answer; github is followed"
    )
    alone = troubles(facts([release("web")], remotes=[DOWN]))["remote gitea"]
    assert alone.said == "does not answer; no other remote answers"


def test_an_engine_that_is_away_and_a_cycle_that_fails_are_trouble_of_the_host() -> None:
    away = troubles(replace(facts([release("web")]), containers=None))
    assert away[happenings.HOST].passing
    broken = troubles(facts([release("web")], look=LastLook(LOOKED, "the disk is full")))
    assert broken[happenings.HOST].cause == "the disk is full"


# --- words ---

BAD = Happening(
    kind=Kind.FAILED, subject="web", said="failed", cause="it ended with 1", commit=COMMIT,
    advice="commitd why web", key="web",
)  # fmt: skip


def batch(*found: Happening, more: int = 0) -> Batch:
    return Batch(kind=found[0].kind, items=tuple(map(Item, found)), more=more)


def test_a_message_says_host_stack_cause_commit_author_and_what_to_do() -> None:
    assert texts.message(batch(BAD), "media") == texts.Message(
        "media: web failed",
        "web failed\nit ended with 1\nCommit 1a2b3c4: Update web (Ada)\nOn media: commitd why web",
    )


def test_many_are_listed_with_their_number() -> None:
    found = texts.message(batch(BAD, replace(BAD, subject="db"), more=3), "media")
    assert found.title == "media: 5 failures"
    assert found.text.splitlines()[2:] == [
        "… and 3 more", "Commit 1a2b3c4: Update web (Ada)", "On media: commitd why web",
    ]  # fmt: skip


def test_a_template_has_the_fields_by_name() -> None:
    template = "{host} {kind} {count} {subject}: {cause} [{commit} {author}] {advice}\n{text}"
    found = texts.message(batch(BAD), "media", template)
    assert found.text.startswith(
        "media failed 1 web: it ended with 1 [1a2b3c4 Ada] commitd why web\nweb failed\n"
    )


@pytest.mark.parametrize("template", ["{{{subject}}}", "{text}", "{title}"])
def test_what_others_wrote_is_text_and_nothing_else(template: str) -> None:
    hostile = "x\n{host.__class__}\x1b[2J @everyone <!channel> \u202eback"
    bad = replace(BAD, subject=hostile, cause=hostile, commit=replace(COMMIT, subject=hostile))
    for found in (texts.message(batch(bad), "media", template), texts.message(batch(bad), "media")):
        assert not {"\x1b", "\u202e"} & set(found.title + found.text)
        assert "\n" not in found.title
        assert "@everyone" not in found.title + found.text
        assert "<!channel" not in found.title + found.text
        assert "{host.__class__}" in found.title


def test_a_message_is_bounded() -> None:
    bad = replace(
        BAD, subject="s" * 9999, cause="c" * 9999, commit=replace(COMMIT, author="a" * 999)
    )
    found = texts.message(batch(*[replace(bad, subject=f"{n}{'s' * 999}") for n in range(20)]), "m")
    assert len(found.text) <= 3500
    assert len(texts.message(batch(bad), "m").text) < 1000

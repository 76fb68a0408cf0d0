from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.container import HOOK, ONEOFF, REPLACE, SWARM_TASK, Container
from agent.domain.outcome import Reason
from agent.domain.reconcile import ownership
from agent.domain.reconcile.actions import ProtectionSet
from agent.domain.reconcile.exemptions import Exemptions, Suspension
from agent.domain.repository.allow_rules import AllowRule, Pattern
from tests.unit.builders import container
from tests.values import replace

PROTECTED = ProtectionSet(services={"web": frozenset({"app", "db"}), "new": None})
NOBODY = Exemptions()


def kind(found: ownership.Ownership) -> str | Reason:
    match found:
        case ownership.Declared():
            return "declared"
        case ownership.Exempt():
            return "exempt"
        case ownership.Undeclared(reason):
            return reason


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (container("c", "web", "app"), "declared"),
        (container("c", "web", "app", state="exited"), "declared"),
        (container("c", "new", "anything"), "declared"),
        (container("c", "new"), "declared"),
        (container("c"), Reason.NO_PROJECT),
        (container("c", ""), Reason.NO_PROJECT),
        (container("c", "other", "app"), Reason.UNKNOWN_PROJECT),
        (container("c", "WEB", "app"), Reason.UNKNOWN_PROJECT),
        (container("c", "web", "cache"), Reason.UNKNOWN_SERVICE),
        (container("c", "web"), Reason.UNKNOWN_SERVICE),
        (container("c", "web", "cache", one_off=True), "exempt"),
        (container("c", "web", "cache", labels={HOOK: "post_start"}), "exempt"),
        (container("c", "other", "app", one_off=True), Reason.UNKNOWN_PROJECT),
        (container("c", service="app", one_off=True), Reason.NO_PROJECT),
        (container("c", labels={SWARM_TASK: "t"}), "exempt"),
        (container("c", "other", labels={SWARM_TASK: "t"}), "exempt"),
        (container("c", labels={"commitd.helper": "true"}), Reason.NO_PROJECT),
    ],
)
def test_a_container_is_owned_by_project_and_service(
    subject: Container, expected: str | Reason
) -> None:
    assert kind(ownership.classify(subject, PROTECTED, NOBODY)) == expected


def test_the_agents_own_helper_is_known_by_its_id_alone() -> None:
    helper = container("c", "other")
    ours, others = Exemptions(frozenset({helper.id})), Exemptions(frozenset({"c"}))
    assert kind(ownership.classify(helper, PROTECTED, ours)) == "exempt"
    assert kind(ownership.classify(helper, PROTECTED, others)) is Reason.UNKNOWN_PROJECT


@given(st.sampled_from(["web", "new"]), st.sampled_from(["app", "db"]), st.booleans())
def test_what_belongs_to_a_protected_stack_is_never_undeclared(
    project: str, service: str, one_off: bool
) -> None:
    subject = container("c", project, service, one_off=one_off)
    found = ownership.classify(subject, PROTECTED, NOBODY)
    assert not isinstance(found, ownership.Undeclared)


# --- what speaks for a container that no stack declares ---

TEMPORARY = "0123456789ab_web-app-1"
ANY = AllowRule("global/commitd.yaml:2", (Pattern(name="*"),))
SUSPENDED = Suspension("other", None, "", "t")


def with_id(name: str, *, granted: bool = False) -> Exemptions:
    ids = frozenset({f"id-{name}"})
    return Exemptions(granted=ids) if granted else Exemptions(helpers=ids)


@pytest.mark.parametrize(
    ("name", "project", "service", "labels", "expected"),
    [
        # The new half of a recreate has the label of a service, and first a temporary name.
        (TEMPORARY, "web", "app", {REPLACE: "web-app-1"}, "declared"),
        (TEMPORARY, "web", "left", {REPLACE: "web-left-1"}, "exempt"),
        (TEMPORARY, "new", "left", {REPLACE: "web-left-1"}, "declared"),
        (TEMPORARY, "other", "app", {REPLACE: "web-app-1"}, Reason.UNKNOWN_PROJECT),
        (TEMPORARY, None, None, {REPLACE: "web-app-1"}, Reason.NO_PROJECT),
        # Later it loses the name but keeps the label; and anybody can take the name.
        ("web-left-1", "web", "left", {REPLACE: "web-left-1"}, Reason.UNKNOWN_SERVICE),
        ("0123456789a_web-left-1", "web", "left", {REPLACE: "x"}, Reason.UNKNOWN_SERVICE),
        ("0123456789AB_web-left-1", "web", "left", {REPLACE: "x"}, Reason.UNKNOWN_SERVICE),
        ("0123456789ab_", "web", "left", {REPLACE: "x"}, Reason.UNKNOWN_SERVICE),
        (TEMPORARY, "web", "left", {}, Reason.UNKNOWN_SERVICE),
        # One-offs and hooks are of the stack that they were made by.
        ("c", "web", "app", {ONEOFF: "True"}, "exempt"),
        ("c", "web", "app", {ONEOFF: "False"}, "declared"),
        ("c", "web", "left", {ONEOFF: "False"}, Reason.UNKNOWN_SERVICE),
        ("c", "web", "left", {ONEOFF: "True"}, "exempt"),
        ("c", "web", "left", {HOOK: "pre_stop"}, "exempt"),
        ("c", "new", "app", {ONEOFF: "True"}, "exempt"),
        ("c", "other", "app", {ONEOFF: "True"}, Reason.UNKNOWN_PROJECT),
        ("c", "other", "app", {HOOK: "pre_stop"}, Reason.UNKNOWN_PROJECT),
        ("c", None, None, {HOOK: "pre_stop"}, Reason.NO_PROJECT),
    ],
)
def test_what_compose_makes_for_a_while_is_let_be_for_declared_stacks_alone(
    name: str,
    project: str | None,
    service: str | None,
    labels: dict[str, str],
    expected: str | Reason,
) -> None:
    subject = container(name, project, service, labels=labels)
    assert kind(ownership.classify(subject, PROTECTED, NOBODY)) == expected


@pytest.mark.parametrize(
    ("subject", "exemptions", "reason"),
    [
        (container("c"), with_id("c", granted=True), Reason.UNDONE),
        (container("c"), with_id("d", granted=True), None),
        (container("c"), with_id("c"), Reason.HELPER),
        (container("c", "other"), Exemptions(suspensions=(SUSPENDED,)), Reason.SUSPENDED),
        (container("c", "web", "x"), Exemptions(suspensions=(SUSPENDED,)), None),
        (container("c"), Exemptions(suspensions=(SUSPENDED,)), None),
        (
            container("c", "web", "x"),
            Exemptions(suspensions=(replace(SUSPENDED, stack="web"),)),
            Reason.SUSPENDED,
        ),
        (
            container("c"),
            Exemptions(suspensions=(replace(SUSPENDED, stack=None),)),
            Reason.SUSPENDED,
        ),
        (container("c", labels={SWARM_TASK: "t"}), NOBODY, Reason.SWARM),
    ],
)
def test_what_a_person_ordered_speaks_for_a_container(
    subject: Container, exemptions: Exemptions, reason: Reason | None
) -> None:
    found = ownership.classify(subject, PROTECTED, exemptions)
    if reason is None:
        assert isinstance(found, ownership.Undeclared)
    else:
        assert found == ownership.Exempt(reason)


def test_what_is_declared_is_declared_whatever_else_speaks_for_it() -> None:
    subject = container("c", "web", "app", labels={SWARM_TASK: "t"})
    allowing = replace(PROTECTED, allow=(ANY,))
    everything = Exemptions(
        granted=frozenset({subject.id}),
        suspensions=(replace(SUSPENDED, stack="web"), replace(SUSPENDED, stack=None)),
    )
    assert ownership.classify(subject, allowing, everything) == ownership.Declared()
    helper = replace(everything, helpers=frozenset({subject.id}))
    assert ownership.classify(subject, allowing, helper) == ownership.Exempt(Reason.HELPER)


@pytest.mark.parametrize(
    "subject", [container("c"), container("c", "other", "app"), container("c", "web", "left")]
)
def test_a_rule_from_git_lets_be_what_nothing_else_speaks_for_and_is_named(
    subject: Container,
) -> None:
    second = replace(ANY, where="host/media/commitd.yaml:9")
    other = AllowRule("global/commitd.yaml:1", (Pattern(name="x"),))
    allowing = replace(PROTECTED, allow=(other, ANY, second))
    found = ownership.classify(subject, allowing, NOBODY)
    assert found == ownership.Exempt(Reason.ALLOWED, "global/commitd.yaml:2")
    denying = replace(PROTECTED, allow=(other,))
    assert isinstance(ownership.classify(subject, denying, NOBODY), ownership.Undeclared)

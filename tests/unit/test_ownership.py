from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain import ownership
from agent.domain.container import HOOK, SWARM_TASK, Container
from agent.domain.exempt import Exemptions
from agent.domain.model import Protected, Reason
from tests.unit.builders import container

PROTECTED = Protected({"web": frozenset({"app", "db"}), "new": None})
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

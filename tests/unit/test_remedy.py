"""The command that ends a hold, which the page and programs offer to copy."""

from __future__ import annotations

import pytest

from agent.domain.outcome import Reason
from agent.domain.reconcile.exemptions import Suspension
from agent.domain.status import held, remedy
from tests.unit.builders import SHA, container
from tests.unit.judged import GITEA, LOOKED, facts, hold

APPROVE = f"commitd approve {SHA[:12]}"


@pytest.mark.parametrize(
    ("subject", "reason", "command"),
    [
        ("web", Reason.CLIFF, APPROVE),
        ("web", Reason.RENAMED, APPROVE),
        ("gitea", Reason.HISTORY, f"commitd approve {'e' * 12}"),
        ("nobody", Reason.HISTORY, None),
        ("rogue", Reason.NOT_ENROLLED, "commitd enroll"),
        ("media", Reason.JOURNAL, "commitd enroll"),
        ("web", Reason.DATA, None),
        ("web", Reason.INVALID, None),
        ("rogue", Reason.VOLUMES, "docker stop rogue"),
        ("host/media/stacks.yaml:1", Reason.LIST_IN_DOUBT, None),
        ("; rm -rf /", Reason.VOLUMES, "docker stop '; rm -rf /'"),
    ],
)
def test_a_hold_that_a_command_ends_names_it(
    subject: str, reason: Reason, command: str | None
) -> None:
    given = facts(
        remotes=[{**GITEA, "head": "e" * 40}],
        holds=[hold(subject, reason)],
        containers=[container(subject)],
        enrolled=False,
    )
    assert [remedy.command(each, given) for each in held.current(given)] == [command]


def test_what_only_waits_for_the_next_cycle_needs_no_command() -> None:
    given = facts(holds=[hold("web", Reason.CLIFF)], approved=[SHA])
    assert [remedy.command(each, given) for each in held.current(given)] == [None]


@pytest.mark.parametrize(
    ("stack", "command"), [("web", "commitd resume web"), (None, "commitd resume")]
)
def test_a_suspension_ends_with_resume(stack: str | None, command: str) -> None:
    given = facts(suspensions=[Suspension(stack, None, "", LOOKED)])
    assert [remedy.command(each, given) for each in held.current(given)] == [command]

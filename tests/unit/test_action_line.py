"""One line of the log on each action: what was done with what, how long it took, and why."""

from __future__ import annotations

import pytest

from agent.domain.outcome import Action, Cause, CauseKind, Outcome, Reason, Status
from agent.domain.outside import action_line
from agent.domain.outside.action_line import Deed, Severity

SHA = "1a2b3c4" + "0" * 33
DONE = Outcome(subject="x", status=Status.SUCCEEDED)
DOWN = Cause(kind=CauseKind.STATE, stack="web", service="app", before="running", after="exited 137")
KEPT = Cause(kind=CauseKind.VOLUME, name="web_data", before="kept", after="kept")


def _deed(action: Action, reason: Reason, subject: str = "web", **more: object) -> Deed:
    return Deed(action=action, subject=subject, reason=reason, revision=SHA, **more)  # type: ignore[arg-type]


def _failed(error: str, status: Status = Status.FAILED, attempts: int = 1) -> Outcome:
    return Outcome(subject="x", status=status, error=error, attempts=attempts)


@pytest.mark.parametrize(
    ("deed", "outcome", "severity", "text"),
    [
        (
            _deed(Action.DEPLOY, Reason.CHANGED),
            DONE,
            Severity.INFO,
            "web: deployed 1a2b3c4 in 4.2 s: its files changed [changed]",
        ),
        (
            _deed(Action.DEPLOY, Reason.CHANGED),
            _failed("web-app-1 is unhealthy", attempts=3),
            Severity.ERROR,
            (
                "web: deploying 1a2b3c4 failed after 4.2 s and 3 tries: web-app-1 is unhealthy"
                " [changed]"
            ),
        ),
        (
            _deed(Action.DEPLOY, Reason.NEW),
            _failed("superseded by a newer commit", Status.CANCELLED),
            Severity.INFO,
            "web: deploying 1a2b3c4 was cancelled after 4.2 s: superseded by a newer commit [new]",
        ),
        (
            _deed(Action.RESTART, Reason.DRIFTED, causes=(DOWN,)),
            DONE,
            Severity.INFO,
            (
                "web: repaired at 1a2b3c4 in 4.2 s: what runs is not what was deployed: web/app"
                " state: running → exited 137 [drifted]"
            ),
        ),
        (
            _deed(Action.ROLLBACK, Reason.ROLLED_BACK, detail="it crashed"),
            DONE,
            Severity.WARNING,
            (
                "web: rolled back to 1a2b3c4 in 4.2 s: its new release was not healthy: it crashed"
                " [release-unhealthy]"
            ),
        ),
        (
            _deed(Action.REMOVE_STACK, Reason.LEFT, causes=(KEPT,)),
            DONE,
            Severity.INFO,
            (
                "web: removed at 1a2b3c4 in 4.2 s: no longer declared; volumes kept: web_data"
                " [not-declared]"
            ),
        ),
        (
            _deed(Action.EVICT, Reason.NO_PROJECT, "rogue", image="busybox:1"),
            DONE,
            Severity.WARNING,
            "rogue (busybox:1): evicted in 4.2 s: belongs to no stack [no-project]",
        ),
        (
            _deed(Action.HOLD, Reason.CLIFF),
            _failed("3 of 4 stacks", Status.HELD),
            Severity.WARNING,
            "held: web: exceeds teardown_limit: 3 of 4 stacks [teardown-limit]",
        ),
        (
            _deed(Action.HOLD, Reason.RESUMED, actor="ada (uid 1000)"),
            DONE,
            Severity.INFO,
            "web: a person resumed it; ordered by ada (uid 1000) [resumed]",
        ),
    ],
)
def test_the_line_says_what_was_done_how_it_ended_and_why(
    deed: Deed, outcome: Outcome, severity: Severity, text: str
) -> None:
    found = action_line.ended(deed, outcome, 4.2)
    assert (found.severity, found.text) == (severity, text)


def test_an_error_that_was_told_is_not_said_again_and_is_no_second_trouble() -> None:
    hold = _deed(Action.HOLD, Reason.BACKOFF)
    found = action_line.ended(hold, _failed("no image", Status.HELD), 0.0, told="no image")
    assert found.text == "held: web: it failed and waits for its next try [retry-pending]"
    assert found.severity is Severity.INFO
    back = _deed(Action.ROLLBACK, Reason.ROLLED_BACK, detail="it crashed")
    said = action_line.ended(back, DONE, 1.0, told="it crashed").text
    assert said == (
        "web: rolled back to 1a2b3c4 in 1.0 s: its new release was not healthy [release-unhealthy]"
    )


def test_a_line_names_the_stack_it_is_about_as_far_as_that_is_known() -> None:
    assert action_line.stack_of(Action.DEPLOY, "web", Reason.NEW) == "web"
    assert action_line.stack_of(Action.RESTART, "rogue", Reason.UNDONE) is None
    assert action_line.stack_of(Action.EVICT, "rogue", Reason.NO_PROJECT) is None

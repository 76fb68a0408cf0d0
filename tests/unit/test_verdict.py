from __future__ import annotations

import pytest

from agent.control.reconciler import _verdict
from agent.domain.model import Hold, Outcome, Reason, Status
from tests.unit.builders import desired


def test_nothing_to_do_and_all_done_is_in_sync() -> None:
    found = _verdict(desired(), "gitea", [Outcome("a", Status.SUCCEEDED)], [])
    assert (found.line, found.failed) == ("in sync with 1a2b3c4 (gitea); 1 done", False)


@pytest.mark.parametrize("reason", [Reason.ORDER, Reason.AFTER, Reason.ROLLED_BACK, Reason.FAILED])
def test_what_waits_for_others_or_went_back_is_not_in_sync(reason: Reason) -> None:
    found = _verdict(desired(), "gitea", [], [Hold("a", reason, "b is not up")])
    assert (found.line, found.failed) == ("at 1a2b3c4 (gitea); held: a", True)
    assert found.reasons == (f"held: a: {reason.value}: b is not up",)


@pytest.mark.parametrize("status", [Status.HELD, Status.CANCELLED])
def test_what_was_not_finished_is_not_called_in_sync(status: Status) -> None:
    """A stack after one that did not come up, or one that a newer commit has cut short."""
    found = _verdict(desired(), "gitea", [Outcome("a", status, "b did not come up")], [])
    assert "in sync" not in found.line
    assert "b did not come up" in str(found.reasons)

"""What cannot be told to others is shown, and is no failure of the host."""

from __future__ import annotations

import pytest

from agent.control.outside.trouble import Trouble
from agent.domain.status import report
from agent.surface.cli import status
from tests import schemas
from tests.unit.builders import release
from tests.unit.judged import facts


def test_what_fails_is_known_by_name_since_it_began() -> None:
    trouble = Trouble()
    trouble.set("notify:phone", "it answers 500")
    since = trouble.current["notify:phone"].since
    trouble.set("notify:phone", "it does not answer")
    trouble.set("heartbeat", "x" * 10_000)
    assert trouble.current["notify:phone"].error == "it does not answer"
    assert trouble.current["notify:phone"].since == since
    assert len(trouble.current["heartbeat"].error) == 500
    trouble.clear("notify:phone")
    trouble.clear("notify:phone")
    assert set(trouble.current) == {"heartbeat"}


def test_names_are_bounded() -> None:
    trouble = Trouble()
    for number in range(1000):
        trouble.set(f"name-{number}", "fails")
    assert len(trouble.current) == 100


def test_status_shows_it_and_is_in_sync_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    trouble = Trouble()
    trouble.set("notify:phone", "it answers 500\x1b[2J")
    document = report.status(facts([release("web")]), outside=trouble.as_json())
    assert schemas.faults(document, "status") == []
    assert document["state"] == "in-sync"
    assert [each["name"] for each in document["outside"]] == ["notify:phone"]
    status.show(document, advice=[])
    shown = capsys.readouterr().out
    assert "outside notify:phone: it answers 500" in shown
    assert "\x1b" not in shown

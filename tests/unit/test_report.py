"""The document of `status --json`."""

from __future__ import annotations

from typing import Any

import pytest

from agent.domain.outcome import Reason
from agent.domain.status import report
from tests import schemas
from tests.unit.builders import SHA, container, release, service
from tests.unit.judged import GITEA, LONG_AGO, LOOKED, SILENT, action, facts, hold
from tests.values import replace

WEB = release("web")
ENDED = {
    "id": "id-web-web-0", "name": "rogue", "image": "i", "action": "removed",
    "reason": "no-project", "message": "belongs to no stack",
    "at": LOOKED, "undoable": True,
}  # fmt: skip


def test_the_document_has_the_promised_shape() -> None:
    given = facts([WEB], holds=[hold("web", Reason.CLIFF, person=True)], working=())
    document = report.status(given, undeclared=[{**ENDED, "id": "1"}], changed_at=LOOKED)
    assert schemas.faults(document, "status") == []
    assert document == {
        "host": "media",
        "enrolled": True,
        "state": "waiting",
        "standby": None,
        "nodes": [],
        "verdict": "at 1a2b3c4 (gitea); 1 waiting for a person",
        "since": LOOKED,
        "agent": {"running": True, "looked_at": LOOKED, "error": None, "trial": None},
        "engine": {"answers": True, "error": None, "swarm": None},
        "working": [],
        "revision": {
            "applied": SHA, "attempted": "f" * 40, "remote": "gitea", "author": "Ada",
            "committed_at": "t", "subject": "s",
        },
        "remotes": [
            {
                "name": "gitea", "reachable": True, "head": SHA, "relation": "same",
                "checked_at": LOOKED, "error": None, "down_since": None, "lag": 0, "current": True,
            }
        ],
        "stacks": [
            {
                "name": "web", "sync": "held", "health": "healthy", "revision": SHA,
                "reason": "teardown-limit", "message": "exceeds teardown_limit: why",
                "rolled_back_to": None, "working": None,
                "services": [
                    {"name": "web", "image": "img", "state": "running", "health": None,
                     "tasks": None}
                ],
            }
        ],
        "undeclared": [{**ENDED, "id": "1"}],
        "holds": [
            {
                "subject": "web", "since": LOOKED, "needs_person": True, "ends_alone": False,
                "reason": "teardown-limit", "message": "exceeds teardown_limit: why",
                "command": f"commitd approve {SHA[:12]}",
            }
        ],
        "outside": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "given", "alone"),
    [
        (Reason.CLIFF, {}, False),
        (Reason.VOLUMES, {}, False),
        (Reason.ROLLED_BACK, {"rollbacks": {"web": ("d1", "why")}}, False),
        (Reason.INVALID, {"broken": {"web": "why"}, "stacks": {}}, False),
        (Reason.ROLLED_BACK, {}, True),  # it is tried again now
        (Reason.AFTER, {}, True),
        (Reason.SECRET, {}, True),
    ],
)
def test_a_hold_tells_whether_it_ends_though_nobody_does_anything(
    reason: Reason, given: Any, alone: bool
) -> None:
    subject = "web-web-0" if reason is Reason.VOLUMES else "web"
    waits = hold(subject, reason, person=reason is Reason.CLIFF)
    told = report.status(facts([WEB], holds=[waits], **given))
    assert schemas.faults(told, "status") == []
    assert [each["ends_alone"] for each in told["holds"]] == [alone]


def test_what_goes_on_is_told_of_its_stack_and_of_the_host() -> None:
    doing, ending = action("deploy", "web"), action("evict", "rogue")
    document = report.status(facts([WEB], working=[doing, ending]))
    assert schemas.faults(document, "status") == []
    assert document["working"] == [
        {"action": "deploy", "subject": "web", "since": doing.since},
        {"action": "evict", "subject": "rogue", "since": ending.since},
    ]
    assert document["stacks"][0]["working"] == {"action": "deploy", "since": doing.since}


def test_a_container_that_was_brought_back_is_not_told_of_as_removed() -> None:
    exempted = {**ENDED, "action": "exempt"}
    document = report.status(facts([WEB]), undeclared=[ENDED, exempted])
    assert document["undeclared"] == [exempted]
    reported = {**ENDED, "action": "reported"}
    assert report.status(facts([WEB]), undeclared=[reported])["undeclared"] == [reported]
    assert report.status(facts([WEB], []), undeclared=[reported])["undeclared"] == []  # it is gone
    stopped = facts([WEB], [container("web-web-0", "web", "web", state="exited", exit_code=0)])
    assert report.status(stopped, undeclared=[ENDED])["undeclared"] == [ENDED]


@pytest.mark.parametrize(
    ("given", "current"),
    [
        (facts([WEB]), True),
        (facts([WEB], remotes=[{**SILENT}]), True),
        (facts([WEB], running_agent=False), False),
        (facts([WEB], remotes=[{**GITEA, "checked_at": LONG_AGO}]), False),
        (facts([WEB], remotes=[{**GITEA, "checked_at": None}]), False),
    ],
)
def test_an_answer_is_of_now_only_while_somebody_asks(given: Any, current: bool) -> None:
    assert report.status(given)["remotes"][0]["current"] is current


def test_an_engine_that_does_not_answer_leaves_health_unknown() -> None:
    document = report.status(replace(facts([WEB]), containers=None), engine_error="refused")
    assert schemas.faults(document, "status") == []
    stack = document["stacks"][0]
    assert (stack["sync"], stack["health"]) == ("unknown", "unknown")
    assert (stack["reason"], stack["message"]) == ("engine-away", "the engine does not answer")
    assert document["engine"] == {"answers": False, "error": "refused", "swarm": None}


def test_stacks_and_services_come_in_the_order_of_their_names() -> None:
    made = [release(name, services=[service("z"), service("a")]) for name in "cab"]
    document = report.status(facts(made, stacks=dict.fromkeys("bc", "d1")))
    assert [stack["name"] for stack in document["stacks"]] == ["a", "b", "c"]
    assert [s["name"] for s in document["stacks"][0]["services"]] == ["a", "z"]


def test_a_manager_that_stands_by_names_the_leader_and_shows_no_stacks_as_its_own() -> None:
    found = report.status(replace(facts([WEB]), standby="node2"))
    assert (found["state"], found["standby"], found["stacks"]) == (
        "standby",
        {"leader": "node2"},
        [],
    )

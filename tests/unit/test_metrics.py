"""What a monitoring system is told: true, bounded, documented, and only once somebody asks."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from agent.adapters.state import journal, schema
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.control.source.remote_status import Remotes, Seen, last_answers
from agent.domain.container import TaskOnNode
from agent.domain.outcome import Action, Outcome, Phase, Reason, Status, Total
from agent.domain.outside import metrics
from agent.domain.outside.metrics import Observed, Record
from agent.domain.source.decide import Answer
from agent.domain.status import held, stack_state
from agent.domain.status.facts import Facts, LastLook
from agent.domain.swarm.model import SwarmNode
from agent.surface.api import exposition
from tests.unit.builders import SHA, attempt, container, release
from tests.unit.judged import DOWN, GITEA, NOW, facts, hold

_PAGE = Path(__file__).parents[2] / "docs/reference/metrics.md"
_HOSTILE = 'web"} 1\ncommitd_ready{x="\\ \x00\udc80'
Told = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def observed(found: Facts | None, **more: Any) -> Observed:
    holds = held.current(found) if found else ()
    usual = Observed(
        host="media",
        version="1.2",
        now=NOW,
        ready=True,
        stream_age=3.0,
        cycle=0.5,
        facts=found,
        holds=holds,
        stacks=stack_state.states(found, holds) if found else (),
        record=Record(totals=(), phases={}),
        failing=(),
    )
    return Observed(**{name: getattr(usual, name) for name in usual.__struct_fields__} | more)


def told(seen: Observed) -> Told:
    """What a client reads of the answer, by the parser of Prometheus's library."""
    text, _ = exposition.written(seen, "")
    found: Told = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def value(found: Told, name: str, /, **labels: str) -> float | None:
    return found.get((name, tuple(sorted(labels.items()))))


def test_a_host_as_it_should_be() -> None:
    found = told(observed(facts([release("web")], remotes=[{**GITEA, "took_s": 0.25}])))
    assert value(found, "commitd_build_info", host="media", version="1.2") == 1
    assert value(found, "commitd_host_state", state="in-sync") == 1
    assert value(found, "commitd_host_state", state="failed") == 0
    assert value(found, "commitd_revision_info", revision=SHA) == 1
    assert value(found, "commitd_stack_sync", stack="web", state="synced") == 1
    assert value(found, "commitd_stack_sync", stack="web", state="failed") == 0
    assert value(found, "commitd_stack_health", stack="web", state="healthy") == 1
    assert value(found, "commitd_stack_failures", stack="web") == 0
    assert value(found, "commitd_remote_reachable", remote="gitea") == 1
    assert value(found, "commitd_remote_lag_commits", remote="gitea") == 0
    assert value(found, "commitd_remote_probe_duration_seconds", remote="gitea") == 0.25
    assert value(found, "commitd_cycle_age_seconds") == 30
    assert value(found, "commitd_cycle_duration_seconds") == 0.5
    assert value(found, "commitd_event_stream_age_seconds") == 3
    assert value(found, "commitd_holds_waiting") == 0
    assert (value(found, "commitd_process_resident_memory_bytes") or 0) > 1e6


def test_a_swarm_has_its_nodes_and_tasks_counted_and_a_host_has_none() -> None:
    tasks = tuple(TaskOnNode(node="n", state=each) for each in ("running", "running", "pending"))
    app = replace(container("web_app", "web", "app"), tasks=tasks)
    node = SwarmNode(
        id="n",
        hostname="node1",
        role="manager",
        availability="active",
        state="down",
        leads=True,
        engine="28.5.2",
    )
    found = told(observed(replace(facts([release("web")], [app]), nodes=(node,))))
    assert value(found, "commitd_stack_tasks", stack="web", state="running") == 2
    assert value(found, "commitd_stack_tasks", stack="web", state="other") == 1
    assert value(found, "commitd_swarm_nodes", state="down") == 1
    assert value(found, "commitd_swarm_nodes", state="ready") == 0
    of_a_host = {name for name, _ in told(observed(facts([release("web")])))}
    assert not of_a_host & {"commitd_stack_tasks", "commitd_swarm_nodes"}


def test_what_is_wrong_shows() -> None:
    found = told(
        observed(
            facts(
                [release("web", "old"), release("db")],
                stacks={"web": "d1", "db": "d1", "api": "d2"},
                attempts=[replace(attempt("web", "d1"), count=3)],
                rollbacks={"api": ("d2", "it was not healthy")},
                remotes=[DOWN],
                holds=[hold("media", Reason.CLIFF, person=True)],
                look=LastLook(None, "the engine does not answer"),
            ),
            stream_age=None,
            failing=("notify:phone",),
        )
    )
    assert value(found, "commitd_outside_failing", name="notify:phone") == 1
    assert value(found, "commitd_stack_failures", stack="web") == 3
    assert value(found, "commitd_stack_failures", stack="api") == 1
    assert value(found, "commitd_stack_sync", stack="web", state="failed") == 1
    assert value(found, "commitd_remote_reachable", remote="gitea") == 0
    assert value(found, "commitd_remote_lag_commits", remote="gitea") is None
    assert value(found, "commitd_holds", reason="teardown-limit", needs_person="true") == 1
    assert value(found, "commitd_holds_waiting") == 1
    assert value(found, "commitd_cycle_failing") == 1
    assert value(found, "commitd_event_stream_up") == 0
    assert value(found, "commitd_event_stream_age_seconds") is None


def test_an_agent_that_does_not_look_any_more_does_not_go_on_being_in_sync() -> None:
    found = told(observed(facts([release("web")]), now=NOW + 3600))
    assert value(found, "commitd_host_state", state="in-sync") == 0
    assert value(found, "commitd_host_state", state="unknown") == 1
    assert value(found, "commitd_cycle_age_seconds") == 3630


def test_what_is_not_known_is_not_told() -> None:
    found = told(observed(None, cycle=None, stream_age=None, ready=False, record=None))
    assert {name for name, _ in found if not name.startswith("commitd_process_")} == {
        "commitd_build_info", "commitd_ready", "commitd_event_stream_up", "commitd_journal_up",
    }  # fmt: skip
    assert value(found, "commitd_ready") == value(found, "commitd_journal_up") == 0


def test_names_that_mean_harm_stay_values() -> None:
    found = told(observed(facts([release(_HOSTILE), release("y" * 999)], stacks={_HOSTILE: "d1"})))
    assert value(found, "commitd_ready") == 1
    stacks = {dict(labels)["stack"] for name, labels in found if name == "commitd_stack_failures"}
    assert stacks == {_HOSTILE.replace("\udc80", "\\udc80"), "y" * 200}


def test_names_that_only_differ_where_they_are_cut_are_told_once() -> None:
    found = told(observed(facts([release("y" * 300), release("y" * 301)], stacks={})))
    assert value(found, "commitd_stacks") == 2  # and no series is there twice, see told()


def test_of_very_many_stacks_only_some_have_series() -> None:
    stacks = {f"s{number:04}": "d1" for number in range(2000)}
    found = told(observed(facts(stacks=stacks)))
    assert value(found, "commitd_stacks") == 2000
    assert sum(name == "commitd_stack_failures" for name, _ in found) == metrics.MOST_STACKS
    assert len(found) < 100 + 18 * metrics.MOST_STACKS


def test_counters_are_there_before_the_first_action_and_count_by_code() -> None:
    def total(action: Action, reason: Reason, status: str, count: int) -> Total:
        return Total(action=action, reason=reason, status=status, count=count, seconds=count / 2)

    found = told(observed(None))
    assert value(found, "commitd_actions_total", action="rollback", status="failed") == 0
    assert value(found, "commitd_undeclared_removed_total") == 0
    totals = (
        total(Action.EVICT, Reason.NO_PROJECT, "succeeded", 3),
        total(Action.EVICT, Reason.NO_PROJECT, "failed", 1),
        total(Action.EVICT, Reason.KEEP_EXPIRED, "succeeded", 2),
        total(Action.DEPLOY, Reason.NEW, "succeeded", 4),
    )
    phases: Mapping[str, Mapping[str, float]] = {"web": {"pull": 1.5, "of another version": 2.0}}
    record = Record(totals=totals, phases=phases)
    found = told(observed(facts([release("web")]), record=record))
    assert value(found, "commitd_actions_total", action="evict", status="succeeded") == 5
    assert value(found, "commitd_action_seconds_total", action="deploy", status="succeeded") == 2
    assert value(found, "commitd_undeclared_removed_total") == 3
    assert value(found, "commitd_stack_phase_duration_seconds", stack="web", phase="pull") == 1.5


def test_the_page_has_each_series_with_its_labels() -> None:
    documented: dict[str, set[str]] = {}
    for names, labels in re.findall(
        r"^\| (`commitd_[^|]*)\|([^|]*)\|", _PAGE.read_text(), re.MULTILINE
    ):
        for name in re.findall(r"`(\w+)`", names):
            assert name not in documented
            documented[name] = set(re.findall(r"`(\w+)`", labels))
    own = {family.name: set(family.labels) for family in metrics.FAMILIES}
    process = {name for name, _ in told(observed(None)) if name.startswith("commitd_process_")}
    assert documented == own | {name: set() for name in process}


# --- the journal ---


async def _deploy(actions: AsyncJournal, status: Status, **phases: float) -> None:
    async with actions.recording(Action.DEPLOY, "web", Reason.NEW) as entry:
        for name, seconds in phases.items():
            with entry.phase(Phase(name)):
                await anyio.sleep(seconds)
        entry.outcome = Outcome(subject="web", status=status)


def test_the_journal_keeps_how_long_the_phases_of_the_last_deploy_took(tmp_path: Path) -> None:
    async def main() -> None:
        mine = AsyncJournal(Journal(tmp_path / "journal.db"))
        await _deploy(mine, Status.SUCCEEDED, pull=0.0, gate=0.0)
        await _deploy(mine, Status.FAILED, pull=0.01)
        async with mine.recording(Action.RESTART, "web", Reason.DRIFTED) as entry:
            with entry.phase(Phase.GATE):
                pass
        assert list(mine._journal.phases()) == ["web"]
        assert list(mine._journal.phases()["web"]) == ["pull"]
        assert mine._journal.phases()["web"]["pull"] >= 0.01
        mine.close()

    anyio.run(main)


def test_actions_stay_counted_when_they_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        mine = AsyncJournal(Journal(tmp_path / "journal.db"))
        for status in (Status.SUCCEEDED, Status.SUCCEEDED, Status.FAILED):
            await _deploy(mine, status)
        mine._journal._begin(Action.DEPLOY, "web", Reason.NEW)
        assert mine._journal.close_open_actions() == 1
        monkeypatch.setattr(journal, "ACTIONS_KEPT", timedelta(seconds=-1))
        assert mine._journal.prune() == 4
        assert {each.status: each.count for each in mine._journal.totals()} == {
            "succeeded": 2, "failed": 1, "cancelled": 1,
        }  # fmt: skip
        mine.close()

    anyio.run(main)


def test_what_an_older_version_did_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.db"
    with monkeypatch.context() as patch:
        before = schema.MIGRATIONS.index(schema.TOTALS)
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:before])
        Journal(path).close()
    with closing(sqlite3.connect(path)) as db, db:
        for status, seconds in (("succeeded", 2.5), ("succeeded", 1.0), ("failed", None)):
            db.execute(
                "INSERT INTO actions (at, action, subject, reason, cause, status, duration_s)"
                " VALUES ('t', 'deploy', 'web', 'new', '[]', ?, ?)",
                (status, seconds),
            )
        db.execute(
            "INSERT INTO actions (at, action, subject, reason, cause)"
            " VALUES ('t', 'deploy', 'web', 'new', '[]')"
        )
    again = Journal(path)
    assert again.close_open_actions() == 1
    assert {each.status: (each.count, each.seconds) for each in again.totals()} == {
        "succeeded": (2, 3.5), "failed": (1, 0.0), "cancelled": (1, 0.0),
    }  # fmt: skip
    assert again.phases() == {}
    again.close()


def test_how_long_an_answer_took_is_kept_while_the_agent_runs_and_no_longer(tmp_path: Path) -> None:
    async def main() -> None:
        mine = AsyncJournal(Journal(tmp_path / "journal.db"))
        remotes = Remotes({"gitea": Seen(name="gitea")}, mine, tmp_path)
        for took in (0.25, 0.5):
            remotes.tell("gitea", Answer.HEAD, sha=SHA, error=None, at="t", took_s=took)
            await remotes.save()
            kept = await mine.get("remotes")
            assert kept["gitea"]["took_s"] is None  # or each answer would be a write to the disk
        assert last_answers(mine._journal, ["gitea"], tmp_path)["gitea"].took_s == 0.5
        remotes.tell("gitea", Answer.DOWN, sha=None, error="refused", at="t")
        assert remotes.seen["gitea"].took_s is None
        mine.close()

    anyio.run(main)

"""What a monitoring system is told: series and their values, out of what the agent knows.

The series are a contract: ``docs/reference/metrics.md`` has them all. How many there can be follows
from what is bounded: the stacks that a host declares (``MOST_STACKS`` of them), its remotes, and
codes. No text of anybody else, such as a container's name or an error, becomes a label.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from itertools import islice

from msgspec import Struct
from msgspec.structs import replace

from agent.domain.outcome import Action, Phase, Reason, Status, Total
from agent.domain.source.decide import Relation
from agent.domain.status import verdict
from agent.domain.status.facts import Facts
from agent.domain.status.held import Held
from agent.domain.status.stack_state import StackState
from agent.domain.status.verdict import State

MOST_STACKS = 500
"""Stacks that have series of their own: by name, the first."""
_LONGEST = 200
"""Characters of a label's value."""
_SYNC = ("synced", "pending", "failed", "held", "suspended", "unknown")
_HEALTH = ("healthy", "progressing", "degraded", "missing", "unknown")
_NODE_STATES = ("ready", "down", "unknown", "disconnected")
_UNDECLARED = {
    Reason.NO_PROJECT, Reason.UNKNOWN_PROJECT, Reason.UNKNOWN_SERVICE, Reason.UNKNOWN_CONTAINER,
}  # fmt: skip

Row = tuple[tuple[str, ...], float]
"""The values of a family's labels, and the value."""


class Kind(StrEnum):
    """Whether a value goes up and down, or only up."""

    GAUGE = "gauge"
    COUNTER = "counter"


class Family(Struct, frozen=True):
    """All series of one name."""

    name: str
    labels: tuple[str, ...]
    text: str
    kind: Kind = Kind.GAUGE


class Measured(Struct, frozen=True):
    """A family and its series now, none twice."""

    family: Family
    rows: Mapping[tuple[str, ...], float]


class Record(Struct, frozen=True, kw_only=True):
    """What the journal remembers: how many actions ended, and the phases of the last deploys."""

    totals: tuple[Total, ...]
    phases: Mapping[str, Mapping[str, float]]


class Observed(Struct, frozen=True, kw_only=True):
    """All that is known when somebody asks, at ``now`` (seconds since the epoch).

    ``facts``, ``holds`` and ``stacks`` are of the last judgement; there may have been none
    yet. ``cycle`` is how long the last cycle took, ``stream_age`` how long ago the stream of
    events was opened, in seconds. ``record`` is None when the journal cannot be read.
    """

    host: str
    version: str
    now: float
    ready: bool
    stream_age: float | None
    cycle: float | None
    facts: Facts | None
    holds: tuple[Held, ...]
    stacks: tuple[StackState, ...]
    record: Record | None
    failing: tuple[str, ...]
    """What of telling others does not work, by name."""


_BUILD = Family("commitd_build_info", ("host", "version"), "The agent. Always 1.")
_READY = Family("commitd_ready", (), "Whether a cycle has found out how the host is.")
_STATE = Family("commitd_host_state", ("state",), "1 for the state that the host is in, else 0.")
_ENROLLED = Family("commitd_enrolled", (), "Whether the host is enrolled.")
_REVISION = Family("commitd_revision_info", ("revision",), "The applied commit. Always 1.")
_ENGINE = Family("commitd_engine_up", (), "Whether the engine has answered when last asked.")
_STREAM = Family("commitd_event_stream_up", (), "Whether the agent hears the engine's events.")
_STREAM_AGE = Family(
    "commitd_event_stream_age_seconds", (), "Since the stream of the engine's events was opened."
)
_CYCLE_AGE = Family(
    "commitd_cycle_age_seconds", (), "Since a cycle last looked at everything with success."
)
_CYCLE = Family("commitd_cycle_duration_seconds", (), "How long the last cycle took.")
_FAILING = Family("commitd_cycle_failing", (), "Whether each cycle since the last look failed.")
_JOURNAL = Family("commitd_journal_up", (), "Whether the journal can be read.")
_HOLDS = Family(
    "commitd_holds", ("reason", "needs_person"), "Holds by code, and whether a person is needed."
)
_WAITING = Family("commitd_holds_waiting", (), "Holds that wait for a person.")
_OUTSIDE = Family(
    "commitd_outside_failing", ("name",), "1 for what cannot be told others: see commitd status."
)
_STACKS = Family("commitd_stacks", (), "Stacks that are declared or deployed.")
_NODES = Family("commitd_swarm_nodes", ("state",), "Machines of the Swarm by their state.")
_SYNCED = Family(
    "commitd_stack_sync", ("stack", "state"), "1 for how the stack is against Git, else 0."
)
_HEALTHY = Family(
    "commitd_stack_health", ("stack", "state"), "1 for how healthy the stack is, else 0."
)
_SUCCESS = Family(
    "commitd_stack_last_success_timestamp_seconds",
    ("stack",),
    "When a release of the stack was last brought up and found healthy.",
)
_TASKS = Family(
    "commitd_stack_tasks",
    ("stack", "state"),
    "Tasks of the stack in a Swarm that are wanted now: those that run, and the others.",
)
_RUNS = Family(
    "commitd_stack_revision_info",
    ("stack", "revision"),
    "The commit of the stack's last healthy release. Always 1.",
)
_FAILURES = Family(
    "commitd_stack_failures", ("stack",), "Failures in a row of what is declared of the stack now."
)
_PHASES = Family(
    "commitd_stack_phase_duration_seconds",
    ("stack", "phase"),
    "How long a phase of the stack's last deploy took, whatever became of it.",
)
_REACHABLE = Family("commitd_remote_reachable", ("remote",), "Whether the remote answered last.")
_LAG = Family(
    "commitd_remote_lag_commits", ("remote",), "Applied commits that the remote has not got."
)
_PROBE = Family(
    "commitd_remote_probe_duration_seconds", ("remote",), "How long the last answer took."
)
_CHECKED = Family(
    "commitd_remote_checked_timestamp_seconds", ("remote",), "When the remote was last asked."
)
_ACTIONS = Family(
    "commitd_actions_total", ("action", "status"), "Actions that ended.", Kind.COUNTER
)
_SECONDS = Family(
    "commitd_action_seconds_total", ("action", "status"), "Seconds they took.", Kind.COUNTER
)
_REMOVED = Family(
    "commitd_undeclared_removed_total", (), "Undeclared containers that were ended.", Kind.COUNTER
)

FAMILIES = (
    _BUILD, _READY, _STATE, _ENROLLED, _REVISION, _ENGINE, _STREAM, _STREAM_AGE, _CYCLE_AGE,
    _CYCLE, _FAILING, _JOURNAL, _HOLDS, _WAITING, _OUTSIDE, _STACKS, _NODES, _SYNCED, _HEALTHY,
    _TASKS, _SUCCESS, _RUNS, _FAILURES, _PHASES, _REACHABLE, _LAG, _PROBE, _CHECKED, _ACTIONS,
    _SECONDS, _REMOVED,
)  # fmt: skip
"""All there are, in the order in which they are told."""


def measure(seen: Observed) -> list[Measured]:
    """The series now. What is not known has none."""
    rows: dict[Family, list[Row]] = {family: [] for family in FAMILIES}
    for family, row in _all(seen):
        rows[family].append(row)
    return [Measured(family, _distinct(found)) for family, found in rows.items() if found]


def _distinct(rows: Iterable[Row]) -> dict[tuple[str, ...], float]:
    """A series that is there twice would cost the monitoring system the whole answer."""
    found: dict[tuple[str, ...], float] = {}
    for labels, value in rows:
        found.setdefault(tuple(map(_label, labels)), value)
    return found


def _label(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()[:_LONGEST]


def _all(seen: Observed) -> Iterator[tuple[Family, Row]]:
    yield _BUILD, ((seen.host, seen.version), 1)
    yield _READY, ((), seen.ready)
    yield _STREAM, ((), seen.stream_age is not None)
    if seen.stream_age is not None:
        yield _STREAM_AGE, ((), seen.stream_age)
    if seen.cycle is not None:
        yield _CYCLE, ((), seen.cycle)
    yield _JOURNAL, ((), seen.record is not None)
    yield from ((_OUTSIDE, ((name,), 1)) for name in seen.failing)
    if seen.record:
        yield from _recorded(seen.record)
    if seen.facts:
        facts = replace(seen.facts, now=seen.now)
        yield from _host(facts, seen)
        yield from _remotes(facts)
        phases = seen.record.phases if seen.record else {}
        for stack in islice(seen.stacks, MOST_STACKS):
            yield from _stack(stack, facts, phases.get(stack.name, {}))


def _host(facts: Facts, seen: Observed) -> Iterator[tuple[Family, Row]]:
    # Judged anew: an agent that does not look any more does not go on being in sync.
    state = verdict.judge_states(facts, seen.holds, seen.stacks).state
    yield from ((_STATE, ((each,), each is state)) for each in State)
    yield _ENROLLED, ((), facts.enrolled)
    yield _ENGINE, ((), facts.containers is not None)
    yield _FAILING, ((), facts.look.error is not None)
    if facts.applied:
        yield _REVISION, ((facts.applied,), 1)
    if (age := facts.age(facts.look.at)) is not None:
        yield _CYCLE_AGE, ((), age)
    holds: dict[tuple[str, str], int] = {}
    for hold in seen.holds:
        key = hold.reason.value, "true" if hold.needs_person else "false"
        holds[key] = holds.get(key, 0) + 1
    yield from ((_HOLDS, row) for row in holds.items())
    yield _WAITING, ((), sum(hold.needs_person for hold in seen.holds))
    yield _STACKS, ((), len(seen.stacks))
    nodes = [node.state for node in facts.nodes]
    yield from ((_NODES, ((state,), nodes.count(state))) for state in _NODE_STATES if nodes)


def _stack(
    stack: StackState, facts: Facts, phases: Mapping[str, float]
) -> Iterator[tuple[Family, Row]]:
    name = stack.name
    for state in dict.fromkeys((*_SYNC, stack.sync)):
        yield _SYNCED, ((name, state), state == stack.sync)
    for state in dict.fromkeys((*_HEALTH, stack.health)):
        yield _HEALTHY, ((name, state), state == stack.health)
    yield _FAILURES, ((name,), _failures(name, facts))
    tasks = [t.state for c in stack.containers if c.tasks is not None for t in c.tasks]
    if any(container.tasks is not None for container in stack.containers):
        running = tasks.count("running")
        yield _TASKS, ((name, "running"), running)
        yield _TASKS, ((name, "other"), len(tasks) - running)
    if stack.release:
        yield _RUNS, ((name, stack.release.revision), 1)
        if (age := facts.age(stack.release.at)) is not None:
            yield _SUCCESS, ((name,), facts.now - age)
    for phase in Phase:
        if phase in phases:
            yield _PHASES, ((name, phase), phases[phase])


def _failures(name: str, facts: Facts) -> int:
    digest, attempt = facts.stacks.get(name), facts.attempts.get(name)
    failed, _ = facts.rollbacks.get(name, (None, ""))
    count = attempt.count if attempt and attempt.digest == (digest or "") else 0
    return max(count, int(failed is not None and failed == digest))


def _remotes(facts: Facts) -> Iterator[tuple[Family, Row]]:
    for remote in facts.remotes:
        name, lag = remote["name"], remote["lag"]
        yield _REACHABLE, ((name,), bool(remote["reachable"]))
        if facts.applied is not None and remote["head"] == facts.applied:
            lag = 0  # also before a cycle has compared them
        elif remote["relation"] == Relation.AHEAD:
            lag = 0
        if lag is not None and remote["reachable"]:
            yield _LAG, ((name,), lag)
        if (took := remote.get("took_s")) is not None:
            yield _PROBE, ((name,), took)
        if (age := facts.age(remote["checked_at"])) is not None:
            yield _CHECKED, ((name,), facts.now - age)


def _recorded(record: Record) -> Iterator[tuple[Family, Row]]:
    kinds = [
        (action, status) for action in Action if action is not Action.OTHER for status in Status
    ]
    counts = {(action.value, status.value): (0, 0.0) for action, status in kinds}
    removed = 0
    for total in record.totals:
        key = total.action.value, total.status
        count, seconds = counts.get(key, (0, 0.0))
        counts[key] = count + total.count, seconds + total.seconds
        if total.action is Action.EVICT and total.reason in _UNDECLARED:
            removed += total.count if total.status == Status.SUCCEEDED else 0
    for key, (count, seconds) in counts.items():
        yield _ACTIONS, (key, count)
        yield _SECONDS, (key, seconds)
    yield _REMOVED, ((), removed)

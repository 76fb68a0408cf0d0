"""The document of ``status --json`` and of the API: the facts of a host, judged and laid out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict

from agent.domain.container import Container
from agent.domain.outcome import EvictionAction
from agent.domain.status import held, placement, remedy, stack_state, verdict
from agent.domain.status.facts import Facts, Ongoing
from agent.domain.status.on_trial import OnTrial
from agent.domain.status.stack_state import StackState

if TYPE_CHECKING:  # a host does without it
    from agent.domain.swarm.model import SwarmNode

_REMOTE = ("name", "reachable", "head", "relation", "checked_at", "error", "down_since", "lag")


def status(
    facts: Facts,
    *,
    undeclared: Iterable[Mapping[str, Any]] = (),
    changed_at: str | None = None,
    engine_error: str | None = None,
    outside: Iterable[Mapping[str, str]] = (),
    trial: OnTrial | None = None,
) -> dict[str, Any]:
    """The document. ``undeclared`` are containers as the journal keeps them, newest first;
    ``changed_at`` is when something was last done here (ISO 8601); ``engine_error`` is why the
    engine could not be asked; ``outside`` is what cannot be told to others (name, error, since);
    ``trial`` is that of the agent's version.
    """
    revision: Mapping[str, Any] = (facts.declared or {}).get("revision") or {}
    attempted: Mapping[str, Any] = facts.attempted or {}
    holds = held.current(facts)
    stacks = stack_state.states(facts, holds)
    found = verdict.judge_states(facts, holds, stacks)
    applied = facts.applied
    return {
        "host": facts.host,
        "enrolled": facts.enrolled,
        "state": found.state.value,
        "standby": None if facts.standby is None else {"leader": facts.standby},
        "nodes": [_node(each) for each in facts.nodes],
        "verdict": found.line,
        "since": changed_at,
        "agent": {
            "running": facts.running,
            "looked_at": facts.look.at,
            "error": facts.look.error,
            "trial": None if trial is None else asdict(trial),
        },
        "engine": {
            "answers": facts.containers is not None,
            "error": engine_error,
            "swarm": facts.look.swarm,
        },
        "working": [_working(each) | {"subject": each.subject} for each in facts.working],
        "revision": {
            "applied": applied,
            "attempted": attempted.get("sha"),
            "remote": next((r["name"] for r in facts.remotes if r["head"] == applied), None),
            "author": revision.get("author"),
            "committed_at": revision.get("committed_at"),
            "subject": revision.get("subject"),
        },
        "remotes": [_remote(facts, remote) for remote in facts.remotes],
        "stacks": [_stack(stack) for stack in stacks],
        "undeclared": list(_undeclared(facts, undeclared)),
        "holds": [
            {
                "subject": hold.subject,
                "reason": hold.reason,
                "message": hold.message,
                "since": hold.since,
                "needs_person": hold.needs_person,
                "ends_alone": remedy.ends_alone(hold, stacks),
                "command": remedy.command(hold, facts),
            }
            for hold in holds
        ],
        "outside": [dict(each) for each in outside],
    }


def _remote(facts: Facts, remote: Mapping[str, Any]) -> dict[str, Any]:
    shown = {key: remote[key] for key in _REMOTE}
    same = facts.applied is not None and remote["head"] == facts.applied
    if same and not remote["error"]:  # also before a cycle has compared them
        shown |= {"relation": "same", "lag": 0}
    age = facts.age(remote["checked_at"])
    asked = age is not None and age <= remote["patience"]
    return shown | {"current": facts.running and asked}


def _stack(stack: StackState) -> dict[str, Any]:
    return {
        "name": stack.name,
        "sync": stack.sync,
        "health": stack.health,
        "revision": stack.release.revision if stack.release else None,
        "reason": stack.reason,
        "message": stack.message,
        "rolled_back_to": stack.rolled_back,
        "working": _working(stack.working) if stack.working else None,
        "services": [_service(each) for each in stack.containers],
    }


def _service(container: Container) -> dict[str, Any]:
    return {
        "name": container.service,
        "image": container.image,
        "state": container.state,
        "health": container.health,
        "tasks": placement.tasks(container),
    }


def _node(node: SwarmNode) -> dict[str, Any]:
    return {
        "name": node.hostname,
        "role": node.role,
        "state": node.state,
        "availability": node.availability,
        "leads": node.leads,
        "engine": node.engine,
    }


def _working(action: Ongoing) -> dict[str, str]:
    return {"action": action.action, "since": action.since}


def _undeclared(facts: Facts, records: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """Without the end of one that is back, and without one that was reported and is gone."""
    known = list(records)
    alive = {c.id for c in facts.containers or () if c.alive}
    exempt = {record["id"] for record in known if record["action"] == EvictionAction.EXEMPT}
    for record in known:
        ended = record["action"] in {EvictionAction.REMOVED, EvictionAction.STOPPED}
        back = record["id"] in alive | exempt
        gone = facts.containers is not None and record["id"] not in alive
        if not (ended and back) and not (record["action"] == EvictionAction.REPORTED and gone):
            yield record

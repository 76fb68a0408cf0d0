"""``commitd status``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from agent.adapters.host import systemd
from agent.control.status import status
from agent.domain.outcome import EvictionAction, Reason, short
from agent.domain.source.decide import Relation
from agent.domain.status import placement, unit, verdict
from agent.domain.status.on_trial import OnTrial
from agent.domain.status.verdict import State
from agent.surface.cli import asking, common, terminal

_SHOWN = 10
_SIGNS = {State.IN_SYNC: "✓", State.WORKING: "…", State.FAILED: "✗", State.WAITING: "!"}
_SIGNS |= {State.SUSPENDED: "‖", State.STANDBY: "‖", State.UNKNOWN: "?"}


@click.command()
@common.as_json
@click.option(
    "--exit-code",
    "as_exit_code",
    is_flag=True,
    help="End with 0 in sync, 1 failed or not there yet, 3 waits for a person, 4 not known.",
)
@click.pass_context
def command(ctx: click.Context, *, as_json: bool, as_exit_code: bool) -> None:
    """Show what runs here and whether it is what Git says.

    What waits for a person comes first. Answers also while the agent or Docker is stopped, and says
    what is not known then.

    Example: commitd status --json
    """
    document = asking.document(ctx, "/v1/status", status.now)
    if as_json:
        common.print_json(document)
    else:
        running = document["agent"]["running"]
        show(document, advice=[] if running else unit.advice(systemd.unit()))
    if as_exit_code:
        sys.exit(verdict.exit_code(State(document["state"])))


def show(document: dict[str, Any], *, advice: list[str]) -> None:
    """Print it for people: what waits for them first. ``advice`` is what to do for the agent."""
    holds, needed = document["holds"], [h for h in document["holds"] if not _ends_alone(h)]
    sign = _SIGNS[State(document["state"])]
    line = f"{sign} {document['host']}: {terminal.local(document['verdict'])}"
    since = f"; last change {terminal.clock(document['since'])}" if document["since"] else ""
    terminal.say(line + since)
    for line in advice:
        terminal.say(f"! {line}")
    if trial := document["agent"].get("trial"):  # an agent of before the upgrade knows none
        known = OnTrial(**{name: trial[name] for name in OnTrial.__struct_fields__})
        terminal.say(f"… {terminal.local(known.line)}")
    if error := document["engine"]["error"]:
        terminal.say(f"! {error}")
    if part := document["engine"].get("swarm"):  # an agent of before the upgrade knows none
        terminal.say(
            f"! Docker is a {part} of a Swarm. This agent does nothing with its services: that of"
            " a manager deploys them, with docker.mode: swarm."
        )
    for subjects, hold in common.alike(needed):
        _hold("!", subjects, hold)
    if not document["enrolled"] and not any(h["reason"] == Reason.OTHER_MACHINE for h in needed):
        terminal.say(
            "! This host is not enrolled: nothing undeclared is removed. Run commitd enroll."
        )
    told = document["verdict"] + "".join(hold["message"] for hold in holds)
    reported = {
        item["name"] for item in document["undeclared"] if item["action"] == EvictionAction.REPORTED
    }
    others = [
        hold
        for hold in holds
        if hold not in needed
        and not (hold["subject"] in reported and hold["reason"] == Reason.REPORT_ONLY)
    ]
    for subjects, hold in common.alike(others):
        _hold("‖", subjects, hold)
    _revision(document["revision"])
    for remote in document["remotes"]:
        terminal.say(f"remote {remote['name']}: {_answer(remote)}; {_place(remote)}")
    for node in document.get("nodes", ()):  # an agent of before the upgrade knows none
        _node(node)
    for each in document.get("outside", ()):  # an agent of before the upgrade knows none
        _outside(each)
    _stacks(document["stacks"], told)
    exempt = [item for item in document["undeclared"] if item["action"] == EvictionAction.EXEMPT]
    _list("undeclared", [item for item in document["undeclared"] if item not in exempt])
    _list("exempt", exempt)


def _ends_alone(hold: Mapping[str, Any]) -> bool:
    """An agent of before the upgrade does not say it."""
    return bool(hold.get("ends_alone", not hold["needs_person"]))


def _revision(revision: Mapping[str, Any]) -> None:
    if revision["applied"]:
        terminal.say(
            f"{revision['applied'][:7]} {revision['subject']} — {revision['author']},"
            f" {terminal.clock(revision['committed_at'])}"
        )


def _stacks(stacks: list[dict[str, Any]], told: str) -> None:
    """The table, and reasons that are not ``told`` yet."""
    if stacks:
        terminal.print_table(
            ("Stack", "Sync", "Health", "Revision", "Services"),
            [
                (
                    stack["name"],
                    common.sync(stack),
                    common.health(stack),
                    (stack["revision"] or "")[:7],
                    ", ".join(map(_service, stack["services"])),
                )
                for stack in stacks
            ],
        )
    for stack in stacks:
        if stack["message"] and stack["sync"] != "suspended" and stack["message"] not in told:
            sign = common.sync(stack)[0]
            terminal.say(f"{sign} {stack['name']}: {terminal.local(stack['message'])}")


def _service(service: Mapping[str, Any]) -> str:
    """With where its tasks run, in a Swarm."""
    shown = f"{service['name']} {service['state']}"
    tasks = service.get("tasks")  # an agent of before the upgrade says none
    return f"{shown} ({placement.line(tasks)})" if tasks else shown


def _node(node: Mapping[str, Any]) -> None:
    role = "leader" if node["leads"] else node["role"]
    busy = "" if node["availability"] == "active" else f", {node['availability']}"
    terminal.say(f"node {node['name']}: {node['state']}, {role}{busy}, engine {node['engine']}")


def _hold(sign: str, subjects: str, hold: Mapping[str, Any]) -> None:
    since = terminal.clock(hold["since"])
    terminal.say(f"{sign} {subjects}: {terminal.local(hold['message'])} (since {since})")


def _outside(failing: Mapping[str, Any]) -> None:
    since = terminal.clock(failing["since"])
    terminal.say(f"outside {failing['name']}: {terminal.local(failing['error'])} (since {since})")


def _list(word: str, items: list[dict[str, Any]]) -> None:
    for item in items[:_SHOWN]:
        what = f"{word} {item['name']} ({short(item['image'])})"
        done = "" if word == item["action"] else f"{item['action']} {terminal.clock(item['at'])}: "
        kept = f"; to bring it back: commitd undo {item['id'][:12]}" if item["undoable"] else ""
        terminal.say(f"{what}: {done}{item['message']}{kept}")
    if len(items) > _SHOWN:
        click.echo(f"{word}: {len(items) - _SHOWN} more, see commitd status --json")


def _answer(remote: Mapping[str, Any]) -> str:
    """Whether a remote answers; if not, since when and why."""
    asked = terminal.clock(remote["checked_at"]) if remote["checked_at"] else "before this boot"
    if remote["reachable"]:
        said = "answers" if remote["current"] else f"last answered {asked}"
        return said + (f": {remote['error']}" if remote["error"] else "")
    if remote["error"] is None:
        return "not asked yet"
    since = f" since {terminal.clock(remote['down_since'])}" if remote["down_since"] else ""
    last = "" if remote["current"] else f", last asked {asked}"
    return f"down{since}{last}: {remote['error']}"


def _place(remote: Mapping[str, Any]) -> str:
    """Its head, how that stands to the applied commit, and how many commits it has not got."""
    place = f"{(remote['head'] or '')[:7]} {remote['relation']}".strip()
    if lag := remote["lag"]:
        place += "" if remote["relation"] == Relation.BEHIND else ", behind"
        place += f" by {lag} commit" + ("s" if lag > 1 else "")
    return place

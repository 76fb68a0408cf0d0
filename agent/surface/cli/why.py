"""``commitd why``."""

from __future__ import annotations

from typing import Any

import click

from agent.domain.revision import Revision
from agent.domain.status.why import Explanation, ServiceFacts
from agent.surface.cli import common, complete, history, terminal


@click.command()
@click.argument("name", metavar="STACK|CONTAINER", shell_complete=complete.subjects)
@common.as_json
@click.pass_context
def command(ctx: click.Context, name: str, as_json: bool) -> None:
    """Say why a stack or a container runs here, or why it does not.

    Which line of which file declares it, by which commit, and what was last done with it. A
    container is named by its name or the beginning of its ID. Answers also while the agent or
    Docker is stopped.

    Example: commitd why web
    """
    import anyio

    from agent.control.status import why

    answer, kept = anyio.run(why.ask, common.load(ctx), name, backend="asyncio")
    if as_json:
        common.print_json(answer.as_json())
    else:
        show(answer, kept=kept)


def show(answer: Explanation, *, kept: bool) -> None:
    """The answer for people."""
    terminal.say(terminal.local(answer.because))
    for place in (answer.rule, answer.declared):
        if place and place.commit:
            terminal.say(f"that line is there since {_commit(place.commit)}", 2)
    if answer.left and answer.left.commit:
        terminal.say(f"it left {answer.left.where} with {_commit(answer.left.commit)}", 2)
    if answer.state:
        _state(answer.state)
    for service in answer.services:
        _service(service)
    if answer.container and not answer.services:
        container = answer.container
        terminal.say(
            f"container {container.id[:12]} {container.name}: {container.state}, {container.image}",
            2,
        )
    if answer.ended:
        ended = answer.ended
        until = f", kept until {terminal.clock(ended.kept_until)}" if ended.kept_until else ""
        terminal.say(f"{ended.action} {terminal.clock(ended.at)}: {ended.message}{until}", 2)
        if kept:
            terminal.say(f"to bring it back: commitd undo {ended.id[:12]}", 2)
    if answer.last:
        terminal.say("The last thing that was done:")
        last = dict(answer.last)
        notes = {path: f"by {_commit(commit)}" for path, commit in answer.touched.items()}
        history.show(last, notes, told=answer.because)
    if answer.words:
        at = terminal.clock(answer.words["at"])
        terminal.say(f"Last output of the failed container ({at}; not in any log):")
        terminal.say(answer.words["text"], 2)


def _state(state: Any) -> None:
    revision = f", release of {state['revision'][:7]}" if state["revision"] else ""
    sync, health = common.sync(state), terminal.state(state["health"])
    terminal.say(f"{sync}, {health}{revision}", 2)


def _service(service: ServiceFacts) -> None:
    origin = service.origin
    where = origin.where if origin else "not in any file of the applied commit"
    since = f", since {_commit(origin.commit)}" if origin and origin.commit else ""
    terminal.say(f"{service.name}: {service.image or 'not deployed yet'}", 2)
    terminal.say(f"{where}{since}", 6)
    for container in service.containers:
        health = f", {container.health}" if container.health else ""
        terminal.say(f"{container.id[:12]} {container.name}: {container.state}{health}", 6)


def _commit(commit: Revision) -> str:
    when = terminal.clock(commit.committed_at)
    return f'{commit.short} "{commit.subject}" — {commit.author}, {when}'

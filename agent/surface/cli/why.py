"""``commitd why``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from agent.domain.config import Config
from agent.domain.status import placement
from agent.surface.cli import asking, common, complete, history, terminal


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

    def explain(config: Config) -> dict[str, Any]:
        return anyio.run(why.document, config, name, backend="asyncio")

    at = f"/v1/why/{asking.quoted(name)}" if name else None
    answer = asking.document(ctx, at, explain)
    if as_json:
        common.print_json(answer)
    else:
        show(answer)


def show(answer: Mapping[str, Any]) -> None:
    """The answer for people."""
    terminal.say(terminal.local(answer["because"]))
    for place in (answer["exempt"], answer["declared"]):
        if place and place["commit"]:
            terminal.say(f"that line is there since {_commit(place['commit'])}", 2)
    left, container, ended = answer["left"], answer["container"], answer["ended"]
    if left and left["commit"]:
        terminal.say(f"it left {left['where']} with {_commit(left['commit'])}", 2)
    if answer["state"]:
        _state(answer["state"])
    for service in answer["services"]:
        _service(service)
    if container and not answer["services"]:
        terminal.say(f"{_named(container)}: {container['state']}, {container['image']}", 2)
    if ended:
        kept = ended["kept_until"]
        until = f", kept until {terminal.clock(kept)}" if kept else ""
        terminal.say(
            f"{ended['action']} {terminal.clock(ended['at'])}: {ended['message']}{until}", 2
        )
        if ended["undoable"]:
            terminal.say(f"to bring it back: commitd undo {ended['id'][:12]}", 2)
    if answer["last"]:
        terminal.say("The last thing that was done:")
        notes = {path: f"by {_commit(commit)}" for path, commit in answer["touched"].items()}
        history.show(answer["last"], notes, told=answer["because"])
    if words := answer["words"]:
        at = terminal.clock(words["at"])
        terminal.say(f"Last output of the failed container ({at}; not in any log):")
        terminal.say(words["text"], 2)


def _state(state: Mapping[str, Any]) -> None:
    revision = f", release of {state['revision'][:7]}" if state["revision"] else ""
    sync, health = common.sync(state), common.health(state)
    terminal.say(f"{sync}, {health}{revision}", 2)


def _service(service: Mapping[str, Any]) -> None:
    where = service["where"] or "not in any file of the applied commit"
    since = f", since {_commit(service['commit'])}" if service["commit"] else ""
    terminal.say(f"{service['name']}: {service['image'] or 'not deployed yet'}", 2)
    terminal.say(f"{where}{since}", 6)
    for container in service["containers"]:
        health = f", {container['health']}" if container["health"] else ""
        tasks = placement.line(container.get("tasks") or ())  # an older agent does not say
        nodes = f", {tasks}" if tasks else ""
        terminal.say(f"{_named(container)}: {container['state']}{health}{nodes}", 6)


def _named(container: Mapping[str, Any]) -> str:
    return f"{container['id'][:12]} {container['name']}"


def _commit(commit: Mapping[str, Any]) -> str:
    when = terminal.clock(commit["committed_at"])
    return f'{commit["sha"][:7]} "{commit["subject"]}" — {commit["author"]}, {when}'

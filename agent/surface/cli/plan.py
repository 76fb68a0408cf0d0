"""``commitd plan``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from agent.domain.config import Config
from agent.domain.errors import PermanentError
from agent.domain.outcome import short
from agent.surface.cli import asking, common, effect_report, terminal


@click.command()
@click.option(
    "--rev", metavar="R", help="Plan for this commit: a SHA, or a remote's name for its head."
)
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    type=common.directory,
    help="Plan for the files of a clone as they are, committed or not.",
)
@click.option("--host", "name", metavar="HOST", help="With --dir: the host's name in the clone.")
@common.as_json
@click.pass_context
def command(
    ctx: click.Context, rev: str | None, directory: Path | None, name: str | None, *, as_json: bool
) -> None:
    """Show what the next cycle would do and why, for each stack and service, and do nothing.

    For the applied commit, or for any other that was fetched. Of a stack that is new to the agent
    and runs already, it says whether anything of it would be recreated. With --dir it needs no
    configuration: the host is called what the machine is called.

    Example: commitd plan --rev 1a2b3c4
    """
    import anyio

    from agent.control.review import plan_view

    if rev and directory:
        raise click.UsageError("--rev or --dir, not both")
    if name and not directory:
        raise click.UsageError("--host goes with --dir")
    if directory:
        document = _of_directory(ctx, directory, name)
    else:

        def plan(config: Config) -> dict[str, Any]:
            return anyio.run(plan_view.document, config, rev, _reading, backend="asyncio")

        document = asking.document(ctx, "/v1/plan", plan, rev=rev)
    if document["warning"]:
        click.echo(terminal.one_line(f"commitd: warning: {document['warning']}"), err=True)
    if as_json:
        common.print_json(document)
    else:
        show(document)


def _of_directory(ctx: click.Context, directory: Path, name: str | None) -> dict[str, Any]:
    import anyio

    from agent.control.review import plan_view

    config = common.for_host(ctx, name)
    try:
        return anyio.run(plan_view.document_of_directory, config, directory, backend="asyncio")
    except PermanentError as err:
        if name is None and err.where == f"host/{config.host}":
            err.hint = f"{err.hint}; --host names another"
        raise


def _reading(stacks: int) -> None:
    terminal.progress(f"reading the files of {stacks} stacks")


def show(plan: Mapping[str, Any]) -> None:
    """The plan for people."""
    deploys, removals, evictions = plan["deploys"], plan["removals"], plan["evictions"]
    if not (deploys or removals or evictions):
        where = f" at {plan['revision'][:7]}" if plan["revision"] else ""
        rest = " but what is held:" if plan["holds"] else "."
        terminal.say(f"Nothing to do{where}{rest}")
    for subjects, hold in common.alike(plan["holds"]):
        sign = "! waits for you:" if hold["needs_person"] else "‖ held:"
        terminal.say(f"{sign} {subjects}: {terminal.local(hold['message'])}")
    for deploy in deploys:
        _show_deploy(deploy)
    for removal in removals:
        after = f" once {removal['after']} is up" if removal["after"] else ""
        terminal.say(f"take down {removal['stack']}{after}: {removal['message']} (volumes stay)")
        for service in removal["services"]:
            terminal.say(f"remove {service}", 4)
    undeclared = [("evict", each) for each in evictions]
    undeclared += [("exempt", each) for each in plan["exempt"]]
    for act, each in undeclared:
        terminal.say(f"{act} {each['name']} ({short(each['image'])}): {each['message']}")
    for name in plan["newer"]:
        terminal.say(f"{name} shows another commit: commitd plan --rev {name}, once it is fetched")


def _show_deploy(deploy: Mapping[str, Any]) -> None:
    terminal.say(f"deploy {deploy['stack']}: {deploy['message']}")
    for cause in deploy["cause"]:
        terminal.say(cause["message"], 4)
    if deploy["runs_already"]:
        terminal.say("it already runs: nothing is recreated", 4)
    elif why := deploy["differs"]:
        terminal.say(f"it is there, but not as declared: {why}", 4)
    for note in deploy["notes"]:
        terminal.say(f"! {note}", 4)
    for line in effect_report.details(effect_report.read(deploy)):
        text = line.lstrip()
        terminal.say(text, 4 + len(line) - len(text))

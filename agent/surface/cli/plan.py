"""``commitd plan``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.domain.errors import PermanentError
from agent.domain.outcome import short
from agent.domain.reconcile.actions import Deploy
from agent.surface.cli import common, effect_report, terminal

if TYPE_CHECKING:
    # It loads much that --help does not need.
    from agent.control.review.plan_view import PlanView


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
    newer: list[str] = []
    if directory:
        config = common.for_host(ctx, name)
        try:
            view = anyio.run(plan_view.of_directory, config, directory, backend="asyncio")
        except PermanentError as err:
            if name is None and err.where == f"host/{config.host}":
                err.hint = f"{err.hint}; --host names another"
            raise
    else:
        config = common.load(ctx)
        view = anyio.run(plan_view.of_commit, config, rev, _reading, backend="asyncio")
        newer = plan_view.newer(config, view.revision)
    if warning := anyio.run(plan_view.warning, config, view, backend="asyncio"):
        click.echo(terminal.one_line(f"commitd: warning: {warning}"), err=True)
    if as_json:
        common.print_json(view.as_json())
    else:
        show(view, newer)


def _reading(stacks: int) -> None:
    terminal.progress(f"reading the files of {stacks} stacks")


def show(view: PlanView, newer: Iterable[str]) -> None:
    """The plan for people."""
    plan = view.plan
    if plan.empty:
        where = f" at {view.revision[:7]}" if view.revision else ""
        rest = " but what is held:" if plan.holds else "."
        terminal.say(f"Nothing to do{where}{rest}")
    for subjects, hold in common.alike(view.as_json()["holds"]):
        sign = "! waits for you:" if hold["needs_person"] else "‖ held:"
        terminal.say(f"{sign} {subjects}: {terminal.local(hold['message'])}")
    for deploy in plan.deploys:
        _show_deploy(view, deploy)
    for removal in plan.removals:
        after = f" once {removal.after} is up" if removal.after else ""
        terminal.say(f"take down {removal.project}{after}: {removal.reason.text} (volumes stay)")
        for service in view.services(removal.project):
            terminal.say(f"remove {service}", 4)
    undeclared = [("evict", each.container, each.reason.text) for each in plan.evictions]
    undeclared += [("exempt", e.container, e.reason.message(e.where)) for e in plan.exempt]
    for act, container, why in undeclared:
        terminal.say(f"{act} {container.name} ({short(container.image)}): {why}")
    for name in newer:
        terminal.say(f"{name} shows another commit: commitd plan --rev {name}, once it is fetched")


def _show_deploy(view: PlanView, deploy: Deploy) -> None:
    name = deploy.stack.name
    terminal.say(f"deploy {name}: {deploy.reason.text}")
    for cause in deploy.causes:
        terminal.say(cause.message, 4)
    if view.runs_already(name):
        terminal.say("it already runs: nothing is recreated", 4)
    elif why := view.differences.get(name):
        terminal.say(f"it is there, but not as declared: {why}", 4)
    for note in view.notes(deploy):
        terminal.say(f"! {note}", 4)
    for line in effect_report.details(view.effects[name]):
        text = line.lstrip()
        terminal.say(text, 4 + len(line) - len(text))

"""``commitd plan``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from agent.adapters.clone.clone import Clone
from agent.adapters.engine import containers
from agent.adapters.git.repository import Repository
from agent.adapters.host import directories
from agent.adapters.state.journal import Journal
from agent.control.reconcile import observe
from agent.control.source import pinned_releases, remote_status
from agent.domain.config import Config
from agent.domain.container import Container
from agent.domain.errors import PermanentError
from agent.domain.outcome import Reason
from agent.domain.reconcile import plan as planning
from agent.domain.reconcile.actions import Plan
from agent.domain.reconcile.effects import Effect, Sight
from agent.domain.reconcile.host_state import HostState
from agent.domain.release import namespaces
from agent.domain.release.release import Release
from agent.domain.repository import layout
from agent.domain.repository.desired import Stack
from agent.domain.repository.tree import Tree
from agent.domain.revision import Revision
from agent.domain.source.decide import Relation
from agent.surface.cli import common, terminal

Differences = Mapping[str, str | None]
"""Stacks without a release of which something is there: how that differs from what they declare."""


@click.command()
@click.option(
    "--rev", metavar="R", help="Plan for this commit: a SHA, or a remote's name for its head."
)
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
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

    if rev and directory:
        raise click.UsageError("--rev or --dir, not both")
    if directory:
        here = common.for_host(ctx, name)
        try:
            data = anyio.run(_of_directory, here, directory, backend="asyncio")
        except PermanentError as err:
            if name is None and err.where == f"host/{here.host}":
                err.hint = f"{err.hint}; --host names another"
            raise
        common.print_json(data) if as_json else show(data, ())
        return
    if name:
        raise click.UsageError("--host goes with --dir")
    config = common.load(ctx)
    todo, sha = anyio.run(look, config, rev, backend="asyncio")
    journal = common.open_journal(config)
    sights: Mapping[str, Sight] = {}
    if todo.deploys:
        if sys.stderr.isatty():
            click.echo(f"reading the files of {len(todo.deploys)} stacks …", err=True)
        sights = anyio.run(_preview, config, journal, todo, sha, backend="asyncio")
    differences, closed = anyio.run(_of_commit, config, todo, sha, backend="asyncio")
    sights = {**sights, **closed}
    left = anyio.run(_left_behind, config, todo, backend="asyncio")
    data = {"revision": sha, **as_data(todo, sights, journal.releases(), differences, left)}
    if as_json:
        common.print_json(data)
    else:
        show(data, _newer(config, journal, sha))


async def _of_directory(config: Config, directory: Path) -> dict[str, Any]:
    """What would be done if the files of a clone were the commit."""
    tree, contents = Clone(directory).everything()
    desired = layout.read(tree, contents, Revision("0" * 40, "", "", ""), config.host)
    if (config.state_dir / "journal.db").exists():
        journal = common.open_journal(config)
        listed = _listed(config, journal)
        spared = observe.exemptions(journal, journal.helpers())
        found = observe.situation(config, journal, desired, listed, spared)
    else:  # where no agent has ever worked
        listed = containers.list_now(directories.docker_host(config))
        found = HostState(
            desired, listed, {}, time.time(), str(config.state_dir / "repo" / "stacks")
        )
    todo = planning.plan(found)
    differences, closed = await _differences(config, _new(todo, listed), tree, contents)
    unseen = Sight(unknown="what happens to each service, before it is committed and fetched")
    sights = {deploy.stack.name: unseen for deploy in todo.deploys} | closed
    left = await _left_behind(config, todo)
    return {"revision": None, **as_data(todo, sights, found.releases, differences, left)}


async def _of_commit(config: Config, todo: Plan, sha: str) -> tuple[Differences, dict[str, Sight]]:
    new = _new(todo, containers.list_now(directories.docker_host(config)))
    if not new:
        return {}, {}
    repository = Repository(config.state_dir / "repo", config.branch, config.state_dir / "askpass")
    inputs = {path: oid for stack in new for path, oid in stack.inputs}
    tree, contents = await repository.tree(sha), await repository.contents(inputs)
    return await _differences(config, new, tree, contents)


async def _left_behind(config: Config, todo: Plan) -> dict[str, str]:
    """What new stacks do not use of the project that their files name."""
    new = [d.stack for d in todo.deploys if d.reason is Reason.NEW and d.stack.called]
    if not new:
        return {}
    from agent.adapters.engine.engine import Engine
    from agent.control.stack.notes import left_behind

    async with Engine(directories.docker_host(config)) as engine:
        said = {stack.name: await left_behind(stack, engine) for stack in new}
    return {name: text for name, text in said.items() if text}


def _new(todo: Plan, listed: Iterable[Container]) -> list[Stack]:
    """The stacks without a release of which something is there."""
    there = {container.project for container in listed}
    return [
        deploy.stack
        for deploy in todo.deploys
        if deploy.reason is Reason.NEW and deploy.stack.name in there
    ]


async def _differences(
    config: Config, stacks: list[Stack], tree: Tree, contents: Mapping[str, bytes]
) -> tuple[Differences, dict[str, Sight]]:
    """How they differ from what runs, and what is unknown where a secret cannot be read here."""
    if not stacks:
        return {}, {}
    from agent.adapters.compose import locate
    from agent.adapters.engine.engine import Engine
    from agent.control.release.adoption import Adopter
    from agent.control.release.dry_run import open_secrets, rehearse

    docker_host = directories.docker_host(config)
    program = await locate.find(docker_host, config.converge.timeout)
    async with Engine(docker_host) as engine:
        opened = await open_secrets(config, engine, stacks, contents)
        closed = {}
        for stack in stacks:
            if missing := [f.path for f in stack.environment if f.secret and f.path not in opened]:
                unknown = f"whether it runs as declared: {missing[0]} cannot be decrypted here"
                closed[stack.name] = Sight(unknown=unknown)
        known = [stack for stack in stacks if stack.name not in closed]
        adopter = Adopter(program, engine)
        found = await rehearse(program, adopter, known, tree=tree, contents=contents, opened=opened)
    return found, closed


async def _preview(config: Config, journal: Journal, todo: Plan, sha: str) -> dict[str, Sight]:
    from agent.adapters.compose import locate
    from agent.adapters.engine.engine import Engine
    from agent.adapters.git.git import Git
    from agent.control.release.preview import Preview
    from agent.control.stack.provision import Provisioner

    docker_host = directories.docker_host(config)
    program = await locate.find(docker_host, config.converge.timeout)
    root, askpass = config.state_dir / "repo", config.state_dir / "askpass"
    repository, git = Repository(root, config.branch, askpass), Git(root, askpass)
    back = [hold.subject for hold in todo.holds if hold.reason is Reason.ROLLED_BACK]
    async with Engine(docker_host) as engine:
        provisioner = Provisioner(engine, tuple)
        preview = Preview(repository, git, config.host, journal, program, provisioner=provisioner)
        return await preview.look(todo.deploys, sha, back)


def _newer(config: Config, journal: Journal, sha: str) -> list[str]:
    """Remotes that show another commit than the one that is planned for."""
    names = [remote.name for remote in config.remotes]
    seen = remote_status.last_answers(journal, names, config.runtime_dir).values()
    ahead = (each for each in seen if each.relation in {Relation.AHEAD, Relation.UNKNOWN})
    return [each.name for each in ahead if each.head and each.head != sha]


async def look(config: Config, rev: str | None) -> tuple[Plan, str]:
    """The plan for a commit that is known here, and that commit."""
    journal = common.open_journal(config)
    repository = Repository(config.state_dir / "repo", config.branch, config.state_dir / "askpass")
    sha = await repository.resolve(rev) if rev else await repository.applied()
    if sha is None:
        raise PermanentError("no commit was applied here yet", hint=common.look_now(config))
    tree = await repository.tree(sha)
    contents = await repository.contents(layout.wanted(tree, config.host))
    desired = layout.read(tree, contents, await repository.revision(sha), config.host)
    desired = await pinned_releases.substituted(desired, journal, repository)
    listed = _listed(config, journal)
    spared = observe.exemptions(journal, journal.helpers())
    found = observe.situation(config, journal, desired, listed, spared)
    return planning.plan(found), sha


def _listed(config: Config, journal: Journal) -> tuple[Container, ...]:
    """What the engine shows now."""
    joining = namespaces.joining(journal.releases().values())
    return containers.list_now(directories.docker_host(config), joining)


def as_data(
    todo: Plan,
    sights: Mapping[str, Sight],
    releases: Mapping[str, Release],
    differences: Differences,
    left: Mapping[str, str],
) -> dict[str, Any]:
    """The plan for programs."""
    there = {name for name, why in differences.items() if why is None}
    seen = {**sights, **{name: _untouched(sights[name]) for name in there}}
    busy = {d.stack.name for d in todo.deploys} | {r.project for r in todo.removals}
    busy |= {hold.subject for hold in todo.holds}
    return {
        "deploys": [
            {
                "stack": deploy.stack.name,
                "reason": deploy.reason.value,
                "cause": [cause.as_json() for cause in deploy.causes],
                "services": [effect.as_json() for effect in seen[deploy.stack.name].services],
                "unknown": seen[deploy.stack.name].unknown,
                "runs_already": deploy.stack.name in there,
                "differs": differences.get(deploy.stack.name),
                "notes": [
                    *map(str, deploy.stack.notes),
                    *filter(None, [left.get(deploy.stack.name)]),
                    *_refused(seen[deploy.stack.name]),
                ],
            }
            for deploy in todo.deploys
        ],
        "removals": [
            {
                "stack": removal.project,
                "reason": removal.reason.value,
                "after": removal.after,
                "services": [
                    service.name
                    for release in (releases.get(removal.project),)
                    if release
                    for service in release.services
                ],
            }
            for removal in todo.removals
        ],
        "unchanged": sorted(releases.keys() - busy),
        "evictions": [
            _undeclared(eviction.container, eviction.reason.value) for eviction in todo.evictions
        ],
        "exempt": [_undeclared(spare.container, spare.rule) for spare in todo.spared],
        "holds": [
            {
                "subject": hold.subject,
                "reason": f"{hold.reason.value}: {hold.detail}",
                "needs_person": hold.needs_person,
            }
            for hold in todo.holds
        ],
    }


def _refused(sight: Sight) -> list[str]:
    return [f"it would be refused: {sight.refused}"] if sight.refused else []


def _untouched(sight: Sight) -> Sight:
    return Sight(tuple(Effect(each.service, "none") for each in sight.services))


def _undeclared(container: Container, reason: str) -> dict[str, str]:
    return {
        "id": container.id,
        "name": container.name,
        "image": container.image,
        "reason": reason,
    }


def show(data: Mapping[str, Any], newer: Iterable[str]) -> None:
    """The plan for people."""
    where = f" at {data['revision'][:7]}" if data["revision"] else ""
    if not (data["deploys"] or data["removals"] or data["evictions"]):
        terminal.say(
            f"Nothing to do{where} but what is held:" if data["holds"] else f"Nothing to do{where}."
        )
    for subjects, hold in common.alike(data["holds"]):
        sign = "! waits for you:" if hold["needs_person"] else "‖ held:"
        terminal.say(f"{sign} {subjects}: {terminal.local(hold['reason'])}")
    for deploy in data["deploys"]:
        terminal.say(f"deploy {deploy['stack']}: {deploy['reason']}")
        for cause in deploy["cause"]:
            before, after = common.short(cause["from"]), common.short(cause["to"])
            terminal.say(f"{cause['path']}: {before} → {after}", 4)
        if deploy["runs_already"]:
            terminal.say("it already runs: nothing is recreated", 4)
        elif deploy["differs"]:
            terminal.say(f"it is there, but not as declared: {deploy['differs']}", 4)
        for note in deploy["notes"]:
            terminal.say(f"! {note}", 4)
        for service in deploy["services"]:
            terminal.say(_service(service), 4)
        if deploy["unknown"]:
            terminal.say(f"not known: {deploy['unknown']}", 4)
    for removal in data["removals"]:
        after = f" once {removal['after']} is up" if removal["after"] else ""
        terminal.say(f"take down {removal['stack']}{after}: {removal['reason']} (volumes stay)")
        for service in removal["services"]:
            terminal.say(f"remove {service}", 4)
    for each in data["evictions"]:
        terminal.say(f"evict {each['name']} ({common.short(each['image'])}): {each['reason']}")
    for each in data["exempt"]:
        terminal.say(f"exempt {each['name']} ({common.short(each['image'])}): {each['reason']}")
    for name in newer:
        terminal.say(f"{name} shows another commit: commitd plan --rev {name}, once it is fetched")


def _service(service: Mapping[str, Any]) -> str:
    if service["action"] == "none":
        return f"leave {service['name']} as it is"
    text = f"{service['action']} {service['name']}: {service['reason']}"
    image = service["image"]
    if image and image["from"] and image["to"]:
        text += f": {common.short(image['from'])} → {common.short(image['to'])}"
    return text

"""What the next cycle would do, found out without doing it.

the applied commit, or another that was fetched ┐                          ┌─▶ Preview: each service
                                                ├─▶ HostState ─▶ Plan ─────┼─▶ rehearse: does a new
the files of a clone ───────────────────────────┘                          │   stack run already?
                                                                           └─▶ volumes left behind
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
from msgspec import Struct, field
from msgspec.structs import replace

from agent.adapters.clone.clone import Clone
from agent.adapters.compose import locate
from agent.adapters.engine.engine import Engine
from agent.adapters.git.repository import Repository
from agent.adapters.host import directories
from agent.adapters.secrets.plaintext_store import PlaintextStore
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal, open_journal
from agent.control.reconcile import left_data, listed, observe
from agent.control.release.adoption import Adopter
from agent.control.release.dry_run import open_secrets, rehearse
from agent.control.release.preview import Foresee, Preview
from agent.control.source import pinned_releases, remote_status
from agent.control.stack.notes import left_behind
from agent.control.stack.provision import Provisioner
from agent.domain.config import Config
from agent.domain.container import Container
from agent.domain.errors import ConfigError, PermanentError
from agent.domain.outcome import Reason
from agent.domain.reconcile import plan as planning
from agent.domain.reconcile.actions import Deploy, Plan
from agent.domain.reconcile.effects import ServiceEffect, StackEffects
from agent.domain.reconcile.host_state import HostState
from agent.domain.release.release import Release
from agent.domain.repository import layout, swarm_mode
from agent.domain.repository.desired import DesiredState, Stack
from agent.domain.repository.tree import Tree, small
from agent.domain.revision import Revision
from agent.domain.source.decide import Relation

NOT_COMMITTED = "what happens to each service, before it is committed and fetched"


class PlanView(Struct, frozen=True, kw_only=True):
    """A plan for the commit ``revision`` (None: for files that are not committed).

    ``effects`` are on each stack that is deployed. ``differences`` has the stacks without a
    release of which something is there: how that differs from what they declare, or None.
    ``left`` says which volumes a new stack does not use.
    """

    revision: str | None
    plan: Plan
    releases: Mapping[str, Release]
    effects: Mapping[str, StackEffects] = field(default_factory=dict)
    differences: Mapping[str, str | None] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)

    def as_json(self, *, newer: Sequence[str] = (), warning: str | None = None) -> dict[str, Any]:
        """A stable contract, see the reference.

        ``newer`` are remotes that show another commit.
        """
        plan = self.plan
        busy = {d.stack.name for d in plan.deploys} | {r.project for r in plan.removals}
        busy |= {hold.subject for hold in plan.holds}
        return {
            "revision": self.revision,
            "deploys": [self._deploy(deploy) for deploy in plan.deploys],
            "removals": [
                {
                    "stack": removal.project,
                    "reason": removal.reason,
                    "message": removal.reason.text,
                    "after": removal.after,
                    "services": self.services(removal.project),
                }
                for removal in plan.removals
            ],
            "unchanged": sorted(self.releases.keys() - busy),
            "evictions": [_undeclared(e.container, e.reason) for e in plan.evictions],
            "exempt": [_undeclared(e.container, e.reason, e.where) for e in plan.exempt],
            "holds": [
                {
                    "subject": hold.subject,
                    "reason": hold.reason,
                    "message": hold.message,
                    "needs_person": hold.needs_person,
                }
                for hold in plan.holds
            ],
            "newer": list(newer),
            "warning": warning,
        }

    def _deploy(self, deploy: Deploy) -> dict[str, Any]:
        name = deploy.stack.name
        effects = self.effects[name]
        return {
            "stack": name,
            "reason": deploy.reason,
            "message": deploy.reason.text,
            "cause": [cause.as_json() for cause in deploy.causes],
            **effects.as_json(),
            "runs_already": self.runs_already(name),
            "differs": self.differences.get(name),
            "notes": self.notes(deploy),
        }

    def services(self, project: str) -> list[str]:
        """Those of the last release, by name."""
        release = self.releases.get(project)
        return [service.name for service in release.services] if release else []

    def runs_already(self, stack: str) -> bool:
        """Whether all of a stack without a release is there as it is declared."""
        return stack in self.differences and self.differences[stack] is None

    def notes(self, deploy: Deploy) -> list[str]:
        """What in the files has no effect, what that leaves behind, and what refuses them."""
        refused = self.effects[deploy.stack.name].refused
        left = self.left.get(deploy.stack.name)
        said = f"it would be refused: {refused}" if refused else None
        return [*map(str, deploy.stack.notes), *filter(None, (left, said))]


IN_A_SWARM = (
    "which of its services, that run already, get new tasks: the Swarm compares them at the deploy"
)


async def document(
    config: Config, rev: str | None, reading: Callable[[int], None] = lambda _: None
) -> dict[str, Any]:
    """The document of ``plan --json`` for a commit, as :func:`of_commit` finds it."""
    view = await of_commit(config, rev, reading)
    ahead = await anyio.to_thread.run_sync(newer, config, view.revision)
    return view.as_json(newer=ahead, warning=await warning(config, view))


async def document_of_directory(config: Config, directory: Path) -> dict[str, Any]:
    """The same for the files of a clone, as :func:`of_directory` finds it."""
    view = await of_directory(config, directory)
    return view.as_json(warning=await warning(config, view))


async def warning(config: Config, view: PlanView) -> str | None:
    """What to know of how a plan was made: that Compose was not held back."""
    if not view.plan.deploys:
        return None
    try:
        program = await locate.find(directories.docker_host(config), config.converge.timeout)
    except ConfigError:
        return None  # it was not needed
    hindrance = await program.hindrance()
    return f"{hindrance[0]} ({hindrance[1]})" if hindrance else None


async def of_commit(config: Config, rev: str | None, reading: Callable[[int], None]) -> PlanView:
    """For a commit that is known here; ``reading`` is told how many stacks take a while.

    Raises :class:`CommitdError`.
    """
    journal = open_journal(config)
    plan, sha = await planned(config, journal, rev)
    if not plan.deploys:
        return PlanView(revision=sha, plan=plan, releases=journal.releases())
    reading(len(plan.deploys))
    repository, docker_host = Repository.to_read(config), directories.docker_host(config)
    new = _there_before(plan, listed.now(config, None).containers)
    whole = await repository.tree(sha)
    tree = {path: whole[path] for stack in new for path, _ in stack.inputs}
    contents = await repository.contents(small(tree))
    async with Engine(docker_host) as engine:
        effects = await _preview(config, journal, engine, plan, sha)
        view = PlanView(revision=sha, plan=plan, releases=journal.releases(), effects=effects)
        return await _completed(view, config, engine, new, (tree, contents))


async def of_directory(config: Config, directory: Path) -> PlanView:
    """For the files of a clone as if they were the commit. Raises :class:`CommitdError`."""
    tree, contents = Clone(directory).everything()
    desired = layout.read(
        tree, contents, Revision(sha="0" * 40, author="", committed_at="", subject=""), config.host
    )
    swarm_mode.agree(desired, swarm=config.docker.mode == "swarm")
    docker_host = directories.docker_host(config)
    if (config.state_dir / "journal.db").exists():
        situation = _situation(config, open_journal(config), desired)
    else:  # where no agent has ever worked
        stacks = str(config.state_dir / "repo" / "stacks")
        situation = HostState(
            desired=desired,
            containers=listed.now(config, None).containers,
            releases={},
            now=time.time(),
            stacks_dir=stacks,
        )
    async with Engine(docker_host) as engine:
        swarm = config.docker.mode == "swarm"
        situation = await left_data.look(engine, config.state_dir / "repo", situation, swarm=swarm)
    plan = planning.plan(situation)
    unseen = StackEffects(unknown=NOT_COMMITTED)
    view = PlanView(
        revision=None,
        plan=plan,
        releases=situation.releases,
        effects={d.stack.name: unseen for d in plan.deploys},
    )
    new = _there_before(plan, situation.containers)
    async with Engine(docker_host) as engine:
        return await _completed(view, config, engine, new, (tree, contents))


async def planned(config: Config, journal: Journal, rev: str | None) -> tuple[Plan, str]:
    """The plan for a commit that is known here (None: the applied one), and that commit.

    Raises :class:`CommitdError`.
    """
    repository = Repository.to_read(config)
    if rev:
        names = [remote.name for remote in config.remotes]
        rev = remote_status.named(journal, names, config.runtime_dir, rev)
    sha = await repository.resolve(rev) if rev else await repository.applied()
    if sha is None:
        raise PermanentError("no commit was applied here yet", hint=directories.look_now(config))
    desired, _ = await repository.declared(sha, config.host)
    swarm_mode.agree(desired, swarm=config.docker.mode == "swarm")
    desired = await pinned_releases.with_rollbacks(desired, AsyncJournal(journal), repository)
    async with Engine(directories.docker_host(config)) as engine:
        situation = _situation(config, journal, desired)
        swarm = config.docker.mode == "swarm"
        found = await left_data.look(engine, repository.root, situation, swarm=swarm)
        return planning.plan(found), sha


def newer(config: Config, sha: str | None) -> list[str]:
    """Remotes that show another commit than the one that is planned for. Blocks."""
    names = [remote.name for remote in config.remotes]
    seen = remote_status.last_answers(open_journal(config), names, config.runtime_dir).values()
    ahead = (each for each in seen if each.relation in {Relation.AHEAD, Relation.UNKNOWN})
    return [each.name for each in ahead if each.head and each.head != sha]


def _situation(config: Config, journal: Journal, desired: DesiredState) -> HostState:
    there = listed.now(config, journal).containers
    exempt = observe.exemptions(journal, journal.helpers())
    return observe.situation(journal, config, desired, there, exempt)


def _there_before(plan: Plan, containers: Iterable[Container]) -> list[Stack]:
    """The stacks without a release of which something is there."""
    there = {container.project for container in containers}
    return [stack for stack in _new(plan) if stack.name in there]


def _new(plan: Plan) -> list[Stack]:
    return [deploy.stack for deploy in plan.deploys if deploy.reason is Reason.NEW]


async def _preview(
    config: Config, journal: Journal, engine: Engine, plan: Plan, sha: str
) -> dict[str, StackEffects]:
    program = await locate.find(directories.docker_host(config), config.converge.timeout)
    repository = Repository.to_read(config)
    back = [hold.subject for hold in plan.holds if hold.reason is Reason.ROLLED_BACK]
    agent = await anyio.to_thread.run_sync(directories.agent_places, config)
    store = PlaintextStore.of(config, repository.root, repository.export)
    preview = Preview(
        repository,
        config.host,
        journal,
        program,
        foresee=_foresee(config, engine),
        agent=agent,
        store=store,
    )
    return await preview.look(plan.deploys, sha, back)


def _foresee(config: Config, engine: Engine) -> Foresee:
    if config.docker.mode != "swarm":
        return Provisioner(engine, tuple).foresee
    from agent.control.swarm import unchanged  # noqa: PLC0415  a plain host needs none

    return partial(unchanged.foresee, engine)


async def _completed(
    view: PlanView,
    config: Config,
    engine: Engine,
    new: list[Stack],
    files: tuple[Tree, Mapping[str, bytes]],
) -> PlanView:
    """With what the engine shows of ``new`` stacks: those of which something is there."""
    tree, contents = files
    left = {stack.name: await left_behind(stack, engine) for stack in _new(view.plan)}
    view = replace(view, left={name: said for name, said in left.items() if said})
    if not new:
        return view
    if config.docker.mode == "swarm":
        unseen = {stack.name: StackEffects(unknown=IN_A_SWARM) for stack in new}
        return replace(view, effects={**view.effects, **unseen})
    program = await locate.find(directories.docker_host(config), config.converge.timeout)
    opened = await open_secrets(config, engine, new, contents)
    effects, known = dict(view.effects), list[Stack]()
    for stack in new:
        if missing := [f.path for f in stack.environment if f.secret and f.path not in opened]:
            unknown = f"whether it runs as declared: {missing[0]} cannot be decrypted here"
            effects[stack.name] = StackEffects(unknown=unknown)
        else:
            known.append(stack)
    adopter = Adopter(program, engine)
    differences = await rehearse(
        program, adopter, known, tree=tree, contents=contents, opened=opened
    )
    for name, why in differences.items():
        if why is None:
            untouched = (ServiceEffect(name=each.name) for each in effects[name].services)
            effects[name] = StackEffects(services=tuple(untouched), asks=effects[name].asks)
    return replace(view, effects=effects, differences=differences)


def _undeclared(container: Container, reason: Reason, detail: str | None = None) -> dict[str, str]:
    return {
        "id": container.id,
        "name": container.name,
        "image": container.image,
        "reason": reason,
        "message": reason.message(detail),
    }

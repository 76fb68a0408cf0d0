"""Putting the parts of the agent together, with the host's lock held."""

from __future__ import annotations

import logging
import math
import os
import resource
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from agent.adapters.compose import compose, locate
from agent.adapters.engine.engine import Engine, Helpers
from agent.adapters.git import version
from agent.adapters.git.repository import Repository
from agent.adapters.git.signatures import Verifier
from agent.adapters.host import directories, identity_file, key_file, lock
from agent.adapters.probes.connect import probes
from agent.adapters.secrets import sops
from agent.adapters.secrets.plaintext_store import PlaintextStore
from agent.adapters.state import damage
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.database import DamagedError
from agent.adapters.state.journal import Journal, worked_before
from agent.adapters.tasks import task_group, to_the_end
from agent.control.host_parts import of_host
from agent.control.parts import Parts
from agent.control.release.rollback import Restorer
from agent.control.retry import Attempts
from agent.control.secrets.decrypt import SecretKeeper, no_key
from agent.control.source.beside import Beside
from agent.control.source.examine import Examined, Examiner
from agent.control.source.follower import Follower
from agent.control.source.housekeeping import Housekeeper
from agent.control.source.remote_status import Remotes, last_outages, recall
from agent.control.stack.operations import Stacks
from agent.control.status.judge import Judge
from agent.control.status.looks import Looks, last
from agent.control.trial import Trial, begin
from agent.control.undeclared.protection import Protection
from agent.control.upgrade import complete_records
from agent.control.wiring import Backend, Base
from agent.domain.compose.host_mounts import AgentPlaces
from agent.domain.config import Config
from agent.domain.errors import ConfigError
from agent.domain.outcome import Reason
from agent.domain.reconcile.actions import Hold

log = logging.getLogger("commitd")

_IN_MEMORY = frozenset({"tmpfs", "ramfs"})
_SWITCH_S = 0.001
"""How long a thread that computes, as one that reads YAML, keeps the event loop from its turn."""


class JournalledHelpers(Helpers):
    """Helpers that a killed agent's successor can still find."""

    def __init__(self, journal: AsyncJournal) -> None:
        super().__init__()
        self._journal = journal

    async def add(self, container_id: str) -> None:
        """Remember it on disk before it starts."""
        await super().add(container_id)
        await self._journal.keep_helper(container_id)

    async def discard(self, container_id: str) -> None:
        """Forget it."""
        await super().discard(container_id)
        await self._journal.forget_helper(container_id)


@asynccontextmanager
async def assemble(
    config: Config,
    *,
    pulse: Callable[[], None] = lambda: None,
    stopping: Callable[[], bool] = lambda: False,
    wake: Callable[[str], None] = lambda _: None,
    patience_s: float = math.inf,
) -> AsyncIterator[Parts]:
    """All parts of the agent, with the host's lock held. Raises :class:`CommitdError`.

    ``pulse`` hears of every bounded step that begins or ends; no stack is begun once ``stopping``.
    A cycle waits for ``patience_s`` for news of the remotes to be looked at; ``wake`` hears of what
    took longer.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.setswitchinterval(_SWITCH_S)
    os.umask(0o077)
    await anyio.to_thread.run_sync(directories.prepare_directories, config)
    with ExitStack() as held:
        await anyio.to_thread.run_sync(held.enter_context, lock.only_agent(config))
        await version.check()
        docker_host = directories.docker_host(config)
        program = await locate.find(docker_host, config.converge.timeout)
        file, trial = await anyio.to_thread.run_sync(_open_journal, config)
        journal = _for_the_loop(config, file)
        try:
            await journal.close_open_actions()
            await anyio.to_thread.run_sync(_prepare, config)
            places = await anyio.to_thread.run_sync(directories.agent_places, config)
            keys = await anyio.to_thread.run_sync(_whose_keys, config)
            repository = Repository.of(config)
            applied = await journal.get("declared")
            await repository.prepare(str(applied["revision"]["sha"]) if applied else None)
            await complete_records(journal, repository)
            async with (
                Engine(docker_host, JournalledHelpers(journal)) as engine,
                task_group() as group,
            ):
                names = [remote.name for remote in config.remotes]
                seen = await journal.run(recall, names)
                outages = await journal.run(last_outages)
                parts = await _wire(
                    config,
                    journal,
                    repository,
                    engine=engine,
                    group=group,
                    program=program,
                    places=places,
                    remotes=Remotes(seen, journal, config.runtime_dir, outages),
                    standing_holds=keys,
                    pulse=pulse,
                    stopping=stopping,
                    beside=Beside(group, patience_s, wake),
                    trial=trial,
                )
                try:
                    yield parts
                finally:
                    group.cancel_scope.cancel()
                    with anyio.CancelScope(shield=True):
                        await parts.judge.keep()
                        await repository.end()
        finally:
            await to_the_end(journal.close)


async def _wire(
    config: Config,
    journal: AsyncJournal,
    repository: Repository,
    *,
    engine: Engine,
    group: TaskGroup,
    program: compose.Compose,
    places: AgentPlaces,
    remotes: Remotes,
    standing_holds: tuple[Hold, ...],
    pulse: Callable[[], None],
    stopping: Callable[[], bool],
    beside: Beside[Examined],
    trial: Trial | None,
) -> Parts:
    settings = config.secrets
    store = PlaintextStore.of(config, repository.root, repository.export)
    secrets = SecretKeeper(
        store,
        journal,
        sops.decryptor(settings.sops, engine) if settings else None,
        partial(key_file.read_key, settings) if settings else no_key,
        repository.contents,
    )
    stacks = Stacks(
        program,
        engine,
        journal,
        secrets,
        pulse,
        agent=places,
        unsettled=lambda: repository.unsettled,
    )
    attempts = Attempts(journal)
    protection = Protection(engine, journal.urgent())
    restorer = Restorer(repository, journal, secrets, config.host)
    verifier = Verifier(config.signatures, repository.incoming.commits, config.runtime_dir)
    asked = probes(config.remotes, config.branch)
    examiner = Examiner(config, repository, verifier, asked, remotes.heads)
    base = Base(
        config=config,
        journal=journal,
        repository=repository,
        engine=engine,
        program=program,
        group=group,
        stacks=stacks,
        secrets=secrets,
        store=store,
        attempts=attempts,
        restorer=restorer,
        protection=protection,
        heads=remotes.shown,
        pulse=pulse,
        stopping=stopping,
    )
    backend = await _backend(base)
    look = await journal.run(last, config.runtime_dir)
    alone = config.docker.mode == "host"
    looks = Looks(journal, config.runtime_dir, look, lambda: engine.part if alone else None)
    return Parts(
        config=config,
        repository=repository,
        probes=asked,
        remotes=remotes,
        follower=Follower(config, repository, remotes, journal, examiner=examiner, beside=beside),
        housekeeper=Housekeeper(repository, journal, group),
        engine=engine,
        ledger=backend.ledger,
        observer=backend.observer,
        journal=journal,
        secrets=secrets,
        restorer=restorer,
        converger=backend.converger,
        evictor=backend.evictor,
        quarantine=backend.quarantine,
        protection=protection,
        judge=Judge(
            config, journal, remotes, backend.observer.containers, looks, nodes=backend.nodes
        ),
        words=attempts.words,
        watcher=backend.watcher,
        manager=backend.manager,
        standing_holds=standing_holds,
        trial=trial,
    )


def _for_the_loop(config: Config, file: Journal) -> AsyncJournal:
    if config.docker.mode == "swarm":
        from agent.control.swarm import shared_journal  # noqa: PLC0415  a host does without it

        return shared_journal.SharedJournal(file)
    return AsyncJournal(file)


async def _backend(base: Base) -> Backend:
    if base.config.docker.mode == "swarm":
        from agent.control.swarm_parts import of_swarm  # noqa: PLC0415  a host does without it

        return await of_swarm(base)
    return await of_host(base)


def _open_journal(config: Config) -> tuple[Journal, Trial | None]:
    path, worked = config.state_dir / "journal.db", worked_before(config)
    trial = begin(config, path)
    if trial is None:
        return damage.open_journal_of_agent(path, worked_before=worked), None
    try:
        return damage.whole(path, worked_before=worked), trial
    except DamagedError as err:  # or so this version says: the one before sets it aside, or not
        raise trial.failed(str(err)) from None


def _whose_keys(config: Config) -> tuple[Hold, ...]:
    """A clone goes by the keys of the machine that it is a copy of, and may be one host twice.

    That is said and stops no deploy: a machine that was restored has another number too. What the
    other one was agreed to does not count meanwhile (``observe.enrolled``).
    """
    noted = identity_file.of_another_machine(config)
    if noted is None:
        return ()
    detail = (
        f"as {noted.host}; until that is settled nothing undeclared is removed: commitd setup"
        " --new-keys makes new ones, with --keep-keys they are kept"
    )
    log.warning("%s: %s", config.host, Reason.OTHER_MACHINE.message(detail))
    return (Hold(config.host, Reason.OTHER_MACHINE, detail, needs_person=True),)


def _prepare(config: Config) -> None:
    """What is there before the first Git: the program that it asks for a token, and no keys."""
    volatile = config.secrets is not None and config.secrets.store == "runtime"
    if volatile and (kind := directories.file_system(config.runtime_dir)) not in _IN_MEMORY:
        if config.docker.mode == "swarm":
            raise ConfigError(
                f"it is on {kind or 'an unknown file system'}, and in Swarm mode secrets are never"
                " on a disk",
                where=str(config.runtime_dir),
                hint="make runtime_dir a tmpfs, as /run/commitd is",
            )
        log.warning(
            "secrets.store: runtime: %s is on %s, so plaintext is on a disk all the same; "
            "make runtime_dir a tmpfs",
            config.runtime_dir,
            kind or "an unknown file system",
        )
    shutil.rmtree(config.state_dir / "gnupg", ignore_errors=True)  # keys that older versions kept
    directories.install_askpass(config.state_dir)

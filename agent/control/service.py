"""Putting the parts together: one cycle, or the daemon with its timers and signals."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import anyio
import anyio.to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from agent.adapters import compose, host, lease, process, sops, systemd
from agent.adapters.engine import Engine, Helpers
from agent.adapters.journal import Journal
from agent.adapters.repository import Repository
from agent.adapters.signatures import Verifier
from agent.control.converge import Converger
from agent.control.evict import Evictor
from agent.control.follower import Follower
from agent.control.keeper import Keeper
from agent.control.poller import Poller
from agent.control.reconciler import Parts, Reconciler, Verdict
from agent.control.remotes import Remotes
from agent.control.secrets import SecretKeeper, no_key
from agent.control.shield import Shield
from agent.control.stacks import Stacks
from agent.control.watcher import Watcher
from agent.domain.config import Config
from agent.domain.errors import CommitdError, ConfigError

log = logging.getLogger("commitd")

OLDEST_GIT = (2, 39)
ENGINE_RETRY_S = 2.0
SAFE_POINT_S = 45.0
"""How long a cycle may go on after SIGTERM before its children are ended."""
START_S = 300.0
"""What a cycle may take beside a step of converging: fetch, decrypt, list."""
SLACK_S = 30.0


class JournalledHelpers(Helpers):
    """Helpers that a killed agent's successor can still find."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def add(self, container_id: str) -> None:
        """Remember it on disk before it starts."""
        super().add(container_id)
        self._journal.keep_helper(container_id)

    def discard(self, container_id: str) -> None:
        """Forget it."""
        super().discard(container_id)
        self._journal.forget_helper(container_id)


@asynccontextmanager
async def assemble(
    config: Config,
    *,
    pulse: Callable[[], None] = lambda: None,
    stopping: Callable[[], bool] = lambda: False,
) -> AsyncIterator[Parts]:
    """All parts of the agent, with the host's lock held. Raises :class:`CommitdError`.

    ``pulse`` hears of every bounded step that begins or ends; no stack is begun once ``stopping``.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)
    host.prepare_directories(config)
    with host.only_agent(config):
        await _check_git()
        docker_host = host.docker_host(config)
        program = await compose.find(docker_host, config.converge.timeout)
        journal = Journal(config.state_dir / "journal.db")
        try:
            if closed := journal.close_open_actions():
                log.warning("%d actions were cut short when the agent ended", closed)
            repository = Repository(
                config.state_dir / "repo", config.branch, host.install_askpass(config)
            )
            await repository.prepare()
            async with Engine(docker_host, JournalledHelpers(journal)) as engine:
                yield _wire(
                    config, journal, repository, engine, program, pulse=pulse, stopping=stopping
                )
        finally:
            journal.close()


def _wire(
    config: Config,
    journal: Journal,
    repository: Repository,
    engine: Engine,
    program: compose.Compose,
    *,
    pulse: Callable[[], None],
    stopping: Callable[[], bool],
) -> Parts:
    settings = config.secrets
    secrets = SecretKeeper(
        repository.root,
        journal,
        sops.decryptor(settings.sops, engine) if settings else None,
        partial(host.read_key, settings) if settings else no_key,
        repository.contents,
    )
    shield = Shield(engine, journal)
    evictor = Evictor(engine, journal, config.undeclared, shield)
    names = [remote.name for remote in config.remotes]
    remotes = Remotes(names, journal, config.runtime_dir)
    return Parts(
        config=config,
        repository=repository,
        remotes=remotes,
        follower=Follower(
            config,
            repository,
            remotes,
            journal,
            Verifier(config.signatures, repository, config.state_dir / "gnupg"),
        ),
        engine=engine,
        journal=journal,
        secrets=secrets,
        converger=Converger(
            Stacks(program, engine, journal, secrets, pulse),
            engine,
            journal,
            parallel=config.converge.parallel,
            pulse=pulse,
            stopping=stopping,
        ),
        evictor=evictor,
        keeper=Keeper(engine, journal, shield, evictor),
        shield=shield,
    )


async def _check_git() -> None:
    need = f"install git {OLDEST_GIT[0]}.{OLDEST_GIT[1]} or newer"
    if shutil.which("git") is None:
        raise ConfigError("git is not on this machine", hint=need)
    result = await process.run(
        ["git", "version"], env={"PATH": os.environ.get("PATH", os.defpath)}, timeout_s=10
    )
    numbers = [int(part) for part in result.out.decode().split()[2].split(".")[:2]]
    if tuple(numbers) < OLDEST_GIT:
        raise ConfigError(f"git {numbers[0]}.{numbers[1]} is too old", hint=need)


async def _reap_helpers(parts: Parts) -> None:
    """Containers that a killed agent left: known by ID, because a label could be anyone's."""
    for container_id in parts.journal.helpers():
        await parts.engine.remove_helper(container_id)
        parts.journal.forget_helper(container_id)


async def once(config: Config) -> Verdict:
    """One whole cycle."""
    async with assemble(config) as parts:
        with lease.only_agent_of(await parts.engine.identity()):
            return await _one_cycle(parts)


async def _one_cycle(parts: Parts) -> Verdict:
    await _reap_helpers(parts)
    config = parts.config
    poller = Poller(config.remotes, config.branch, parts.remotes, lambda _: None)
    await poller.ask_all()
    await poller.aclose()
    return await Reconciler(parts).cycle()


class Daemon:
    """The agent as a service. Signals: TERM and INT end it, HUP reloads, USR1 looks now."""

    def __init__(self, config: Config, reload: Callable[[], Config]) -> None:
        self._config = config
        self._before: Config | None = None
        self._reload = reload
        self._reload_wanted = False
        self._stopping = False
        self._poller: Poller | None = None
        self._alive_until = time.monotonic() + START_S
        self._wake: tuple[MemoryObjectSendStream[str], MemoryObjectReceiveStream[str]] = (
            anyio.create_memory_object_stream[str](1)
        )

    async def run(self) -> None:
        """Work until told to stop. Raises :class:`CommitdError` when it cannot begin."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._listen_to_signals, group.cancel_scope)
                group.start_soon(self._feed_watchdog)
                while not self._stopping:
                    await self._run_or_fall_back()
                group.cancel_scope.cancel()
        except* CommitdError as errors:
            raise errors.exceptions[0] from None

    async def _run_or_fall_back(self) -> None:
        """A new configuration that turns out not to work must not end a running agent."""
        try:
            await self._run_with_one_config()
        except CommitdError as err:
            if self._before is None:
                raise
            log.error("back to the configuration before: %s", err)  # noqa: TRY400
            self._config, self._before = self._before, None

    async def _run_with_one_config(self) -> None:
        self._reload_wanted = False
        self._pulse()
        async with assemble(
            self._config, pulse=self._pulse, stopping=lambda: self._stopping
        ) as parts:
            if engine_id := await self._await_engine(parts):
                with lease.only_agent_of(engine_id):
                    await self._work(parts)
        if self._reload_wanted:
            self._take_new_config()

    async def _work(self, parts: Parts) -> None:
        """Watch, poll and cycle, until told to stop or to reload."""
        self._before = None
        systemd.notify("READY=1", "STATUS=looking at the remotes")
        reconciler = Reconciler(parts)
        watcher = Watcher(
            parts.engine, parts.evictor, parts.shield, self._wake_up, parts.config.resync
        )
        config = parts.config
        poller = Poller(config.remotes, config.branch, parts.remotes, self._wake_up)
        self._poller = poller
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(watcher.run)
                group.start_soon(poller.run)
                await self._loop(reconciler, parts)
                group.cancel_scope.cancel()
        finally:
            self._poller = None
            await poller.aclose()

    async def _await_engine(self, parts: Parts) -> str | None:
        """Docker may start after the agent; an agent in a crash loop would help nobody.

        Returns the engine's identity, or None when told to stop or to reload first.
        """
        said = None
        while not (self._stopping or self._reload_wanted):
            try:
                engine_id = await parts.engine.identity()
                await _reap_helpers(parts)
            except CommitdError as err:
                if str(err) != said:
                    said = str(err)
                    log.warning("waiting for the engine: %s", err)
                systemd.notify("READY=1", f"STATUS=waiting for the engine: {err}")
                await self._sleep(ENGINE_RETRY_S)
            else:
                return engine_id
        return None

    async def _loop(self, reconciler: Reconciler, parts: Parts) -> None:
        """Cycles, woken by time, remotes, events and signals."""
        tick_s = min(self._config.resync, *(remote.poll for remote in self._config.remotes))
        last_line, remotes, journal = None, parts.remotes, parts.journal
        while not remotes.all_asked() and not (self._stopping or self._reload_wanted):
            await self._sleep(SLACK_S)
        while not (self._stopping or self._reload_wanted):
            line = await self._cycle(reconciler)
            if line != last_line:
                log.info("%s", line)
                last_line = line
            systemd.notify(f"STATUS={line}")
            now = time.time()
            due = journal.next_due(now)
            await self._sleep(min(tick_s, due - now) if due else tick_s)

    async def _cycle(self, reconciler: Reconciler) -> str:
        self._pulse()
        try:
            return (await reconciler.cycle()).line
        except CommitdError as err:
            return f"cannot work: {err}"
        except Exception as err:
            log.exception("unexpected; the loop goes on")
            return f"unexpected {type(err).__name__}, see the log"

    def _pulse(self) -> None:
        """The work gets on: it may now take as long as its longest bounded step."""
        self._alive_until = time.monotonic() + self._config.converge.timeout + START_S

    async def _sleep(self, seconds: float) -> None:
        """Until woken or time is up."""
        self._alive_until = time.monotonic() + seconds + SLACK_S
        with anyio.move_on_after(seconds):
            await self._wake[1].receive()

    async def _feed_watchdog(self) -> None:
        """Signs of life, only while the loop gets on within the time that its work may take."""
        allowed = systemd.watchdog_s()
        while allowed:
            if time.monotonic() < self._alive_until:
                systemd.notify("WATCHDOG=1")
            await anyio.sleep(allowed / 3)

    def _wake_up(self, why: str) -> None:
        try:
            self._wake[0].send_nowait(why)
        except anyio.WouldBlock:
            return  # it is about to look anyway

    def _take_new_config(self) -> None:
        try:
            self._before, self._config = self._config, self._reload()
        except ConfigError as err:
            log.error("the configuration stays as it was: %s", err)  # noqa: TRY400
        else:
            log.info("the configuration was reloaded")

    async def _listen_to_signals(self, scope: anyio.CancelScope) -> None:
        kinds = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
        with anyio.open_signal_receiver(*kinds) as signals:
            async for number in signals:
                if number == signal.SIGHUP:
                    systemd.reloading()
                    self._reload_wanted = True
                elif number in {signal.SIGTERM, signal.SIGINT}:
                    if self._stopping:
                        scope.cancel()
                    self._stopping = True
                    scope.deadline = anyio.current_time() + SAFE_POINT_S
                    systemd.notify("STOPPING=1", "STATUS=finishing what has begun")
                elif self._poller:
                    self._poller.ask_now()  # at once: a cycle may go on for long
                self._wake_up(signal.Signals(number).name)

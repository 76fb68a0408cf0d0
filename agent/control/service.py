"""One cycle (``once``), or the daemon with its timers and signals (``run``).

    remotes (Poller) ┐            ┌▶ _sleep ends: the next cycle begins
    engine (Watcher) ┼▶ Wakes ────┤
    signals          ┘            └▶ _repair_meanwhile, while a cycle runs: drift elsewhere does not
                                     wait for it

The end of a cycle comes to the repairer by the same way: it then stops waiting, and is never cut
short.

    run ─▶ _run_or_fall_back ─▶ _run_with_one_config ─▶ _work ─▶ _loop ─▶ turn: cycle, log, sleep

``run`` never ends by itself once the agent has worked. HUP ends ``_work`` and reads the
configuration again; one that does not work is replaced by the one before.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from agent.adapters import log_context
from agent.adapters.engine import lease
from agent.adapters.guard import Guard, brief
from agent.adapters.host import systemd
from agent.adapters.state.database import DamagedError
from agent.adapters.tasks import task_group
from agent.control import leftovers
from agent.control.assembly import assemble
from agent.control.liveness import Liveness
from agent.control.outside.running import Consumer, Running
from agent.control.parts import Parts
from agent.control.reconciler import Reconciler
from agent.control.source.poller import Poller
from agent.control.status.judge import Judge
from agent.control.status.verdict_log import VerdictLog
from agent.control.trial import Trial, tell_of_return
from agent.control.wakes import Wakes
from agent.domain.config import Config
from agent.domain.errors import AgentUnhealthyError, CommitdError, ConfigError
from agent.domain.status import verdict
from agent.domain.status.verdict import State, Verdict

if TYPE_CHECKING:
    from agent.control.swarm.manager import Manager

log = logging.getLogger("commitd")

ENGINE_RETRY_S = 2.0
DAMAGE_PAUSE_S = 1.0
NEWS_S = 5.0
"""How long a cycle waits for a new commit to be fetched and looked at, before it goes on with the
applied one. What takes longer goes on beside the cycles."""
SAFE_POINT_S = 45.0
"""How long a cycle may go on after SIGTERM before its children are ended."""
START_S = 300.0
"""What a cycle may take beside a step of converging: fetch, decrypt, list."""
SLACK_S = 30.0
REPAIR_EVERY_S = 5.0
REPAIR_PAUSE_S = 0.2
"""Between two looks for drift during one cycle; events of stacks that nobody works on ask for
one."""


class Daemon:
    """The agent as a service. Signals: TERM and INT end it, HUP reloads, USR1 looks now."""

    def __init__(
        self,
        config: Config,
        reload: Callable[[], Config],
        consumers: Sequence[Consumer] = (),
    ) -> None:
        """``consumers`` run beside the work, for as long as the host's lock is held."""
        self._config = config
        self._consumers = consumers
        self._before: Config | None = None
        self._reload = reload
        self._reload_wanted = False
        self._stopping = False
        self._damage: DamagedError | None = None
        self._unhealthy: AgentUnhealthyError | None = None
        self._trial: Trial | None = None
        self._poller: Poller | None = None
        self._manager: Manager | None = None
        self._has_worked = self._is_known = False
        self._cycles = 0
        self._guard = Guard("working", log, pause=self._sleep)
        self._liveness = Liveness(START_S)
        self._wakes = Wakes()
        self._verdicts = VerdictLog()

    async def run(self) -> None:
        """Work until told to stop. Raises :class:`CommitdError` when it cannot begin.

        Once it has begun it only ends by a signal, or with :class:`AgentUnhealthyError`.
        """
        async with task_group() as group:
            listen = partial(self._listen_to_signals, group.cancel_scope)
            group.start_soon(Guard("listening to signals", log).until_done, listen)
            feeding = Guard("feeding the watchdog", log)
            group.start_soon(feeding.until_done, self._liveness.feed_watchdog)
            while not self._stopping:
                if self._has_worked:
                    await self._guard.run(self._run_or_fall_back)
                else:
                    await self._run_or_fall_back()
            group.cancel_scope.cancel()
        if self._unhealthy:
            raise self._unhealthy

    async def _run_or_fall_back(self) -> None:
        """A new configuration that turns out not to work must not end a running agent."""
        try:
            await self._run_with_one_config()
        except DamagedError as err:
            if not self._has_worked:
                raise
            self._guard.note(err, "; opening it again")
            await self._sleep(DAMAGE_PAUSE_S)
        except Exception as err:
            if isinstance(err, AgentUnhealthyError) or self._before is None:
                systemd.notify(f"STATUS={verdict.failed(brief(err)).line}")
                raise
            self._guard.note(err, "; continuing with the previous configuration")
            self._config, self._before = self._before, None

    async def _run_with_one_config(self) -> None:
        self._pulse()
        async with (
            assemble(
                self._config,
                pulse=self._pulse,
                stopping=lambda: self._stopping,
                wake=self._wakes.look,
                patience_s=NEWS_S,
            ) as parts,
            AsyncExitStack() as beside,
        ):
            running = self._running(parts)
            for consumer in self._consumers:
                await beside.enter_async_context(consumer(running))
            await tell_of_return(parts.config, parts.journal)
            self._trial = parts.trial
            if parts.trial:
                await beside.enter_async_context(parts.trial.watched(parts.journal, self._give_up))
            if engine_id := await self._await_engine(parts):
                async with lease.only_agent_of(engine_id):
                    await self._work(parts)
        if self._reload_wanted:
            # Before the file is read: who asks meanwhile means a newer one.
            self._reload_wanted = False
            await self._take_new_config()

    def _running(self, parts: Parts) -> Running:
        return Running(
            config=parts.config,
            journal=parts.journal,
            standings=parts.judge.standings,
            words=parts.words,
            alive=self._liveness.alive,
            ready=lambda: self._is_known,
            wake=self._look_now,
            stream_age=parts.observer.stream_age,
            leave=self._leave,
        )

    async def _work(self, parts: Parts) -> None:
        """Watch, poll and cycle, until told to stop or to reload."""
        self._before = None
        self._damage = None
        self._has_worked = True
        systemd.notify("READY=1", "STATUS=asking the remotes")
        reconciler = Reconciler(parts)
        watcher = parts.watcher(self._wakes.look)
        poller = Poller(parts.probes, parts.remotes, self._wakes.look)
        self._poller, self._manager = poller, parts.manager
        try:
            async with task_group() as group:
                group.start_soon(watcher.run)
                group.start_soon(poller.run)
                if parts.manager:
                    group.start_soon(parts.manager.leadership.watch, self._wakes.look)
                    group.start_soon(parts.manager.share_orders)
                await self._loop(reconciler, parts)
                group.cancel_scope.cancel()
        finally:
            self._poller = self._manager = None
            await poller.aclose()
        if self._damage:
            raise self._damage  # opened again, it is set aside

    def _leave(self) -> None:
        self._stopping = True
        self._wakes.look()

    def _give_up(self, err: AgentUnhealthyError) -> None:
        self._unhealthy = err
        self._leave()

    async def _await_engine(self, parts: Parts) -> str | None:
        """Docker may start after the agent; an agent in a crash loop would help nobody.

        Returns the engine's identity, or None when told to stop or to reload first.
        """
        guard = Guard("waiting for the engine", log)
        while not (self._stopping or self._reload_wanted):
            try:
                engine_id = await parts.engine.identity()
                if parts.manager:
                    await parts.manager.leadership.look()
                await leftovers.finish(parts)
            except Exception as err:  # noqa: BLE001  it is logged, and tried again
                guard.note(err)
                found = await parts.judge.failed(brief(err))
                systemd.notify("READY=1", f"STATUS={found.line}")
                await self._sleep(ENGINE_RETRY_S)
            else:
                return engine_id
        return None

    async def _loop(self, reconciler: Reconciler, parts: Parts) -> None:
        """Cycles, woken by time, remotes, events and signals."""
        tick_s = min(self._config.resync, *(remote.poll for remote in self._config.remotes))
        journal, cycles = parts.journal, Guard("reconciling", log)

        async def turn() -> None:
            found = await self._cycle(reconciler, parts.judge, cycles)
            self._is_known = found.state is not State.UNKNOWN
            if parts.trial:
                await parts.trial.judged(found, journal, parts.remotes.shown())
            self._verdicts.note(found, journal.log.take_troubled())
            systemd.notify(f"STATUS={found.line}")
            now = journal.now()
            due = await journal.next_due(now)
            await self._sleep(min(tick_s, due - now) if due else tick_s)

        while not parts.remotes.all_asked() and not (self._stopping or self._reload_wanted):
            await self._sleep(SLACK_S)
        guard = Guard("the loop", log, pause=self._sleep)
        while not (self._stopping or self._reload_wanted or self._damage):
            await guard.run(turn)

    async def _cycle(self, reconciler: Reconciler, judge: Judge, guard: Guard) -> Verdict:
        self._pulse()
        done, self._cycles = anyio.Event(), self._cycles + 1
        with log_context.about(cycle=self._cycles):
            async with task_group() as group:
                group.start_soon(self._repair_meanwhile, reconciler, done)
                found = await self._one_cycle(reconciler, judge, guard)
                done.set()
                self._wakes.tell()
        return found

    async def _one_cycle(self, reconciler: Reconciler, judge: Judge, guard: Guard) -> Verdict:
        try:
            found = await reconciler.cycle()
        except DamagedError as err:
            self._damage = err
            return verdict.failed(str(err))
        except AgentUnhealthyError as err:
            self._give_up(err)
            return verdict.failed(str(err))
        except CommitdError as err:
            error = str(err)
        except Exception as err:  # noqa: BLE001  it is logged, and tried again
            guard.note(err)
            error = brief(err)
        else:
            guard.recovered()
            return found
        return await judge.failed(error)

    async def _repair_meanwhile(self, reconciler: Reconciler, done: anyio.Event) -> None:
        """A cycle may wait long for one stack; what drifts elsewhere does not wait with it.

        Nor for a repair that takes its time: its end comes as that of the cycle does. None is begun
        after the cycle: the next one, which may have a new commit, would wait for it.
        """
        due_at = anyio.current_time() + REPAIR_EVERY_S
        async with task_group() as repairs:
            while not done.is_set() or reconciler.repairing:
                with anyio.move_on_at(due_at):  # what failed is due again
                    await self._wakes.heard()
                if anyway := anyio.current_time() >= due_at:
                    due_at = anyio.current_time() + REPAIR_EVERY_S
                found = await reconciler.repair(
                    repairs, self._wakes.tell, anyway=anyway, over=done.is_set
                )
                if found:
                    due_at = anyio.current_time() + REPAIR_EVERY_S
                    systemd.notify(f"STATUS={found.line}")
                if done.is_set() and not reconciler.repairing:
                    return  # at once: a new commit may be waiting
                with anyio.move_on_after(REPAIR_PAUSE_S):
                    await (anyio.sleep_forever() if done.is_set() else done.wait())

    def _pulse(self) -> None:
        """The work gets on: it may now take as long as its longest bounded step."""
        self._liveness.may_take(self._config.converge.timeout + START_S)

    async def _sleep(self, seconds: float) -> None:
        """Until woken or time is up."""
        self._liveness.may_take(seconds + SLACK_S)
        with anyio.move_on_after(seconds):
            await self._wakes.asked()

    def _look_now(self) -> None:
        if self._poller:
            self._poller.ask_now()  # at once: a cycle may go on for long
        if self._manager:
            self._manager.ordered()
        self._wakes.look()

    async def _take_new_config(self) -> None:
        try:
            new = await anyio.to_thread.run_sync(self._reload)
        except ConfigError as err:
            log.error("keeping the previous configuration: %s", err)  # noqa: TRY400
        else:
            self._before, self._config = self._config, new
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
                    elif self._trial:
                        await anyio.to_thread.run_sync(self._trial.stopped)
                    self._stopping = True
                    scope.deadline = anyio.current_time() + SAFE_POINT_S
                    systemd.notify("STOPPING=1", "STATUS=finishing running actions")
                else:
                    self._look_now()
                self._wakes.look()

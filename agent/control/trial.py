"""A version of the agent that has just been installed, until it has shown that it is healthy.

    the journal is copied ─▶ migrated ─▶ looked at once, at the applied commit, doing nothing
      ─▶ cycles as ever ─▶ the first that is clean: the trial is over
    at any time: it would do what no commit and no person asked for, or its time is over
      ─▶ it says so and ends; ``packaging/lib/start`` has the version before run again

The time only runs while the engine and a remote can be connected to, and nothing is being deployed.
Where all that is wrong is that no remote answers, a remote that did not answer the version before
does not count.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread

from agent.adapters import reachable
from agent.adapters.host import directories, programs
from agent.adapters.host.programs import Programs
from agent.adapters.state import before, older
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.database import utcnow
from agent.adapters.state.journal import Journal
from agent.adapters.tasks import task_group
from agent.domain.config import Config
from agent.domain.errors import AgentUnhealthyError, CommitdError, MissingError, TransientError
from agent.domain.outcome import Action, Outcome, Reason, Status
from agent.domain.reconcile.actions import Deploy, Plan
from agent.domain.reconcile.host_state import HostState
from agent.domain.shortened import some_of
from agent.domain.status.verdict import State, Verdict
from agent.domain.upgrade import gate
from agent.domain.upgrade.gate import Before

log = logging.getLogger("commitd.upgrade")

_NAMED = 5
EVERY_S = 5.0
"""Between two looks at whether the engine and the remotes answer."""


class Trial:
    """Of the version that runs this; ``before`` is what the one before it had recorded."""

    def __init__(self, beside: Programs, config: Config, before: Before) -> None:
        self._beside = beside
        self._config = config
        self._before = before
        self._ran_s = 0.0
        self._situation: HostState | None = None
        self._why: list[str] = ["no cycle has ended yet"]
        self._unknown = False
        self.open = True
        self.looked = before.revision is None

    def examine(self, plan: Plan, situation: HostState) -> None:
        """Before anything of ``plan`` is done. Raises :class:`AgentUnhealthyError`."""
        self._situation = situation
        if self.open and (found := gate.unasked(self._before, plan, situation)):
            raise self.failed(f"nothing recorded calls for what it would do: {_some(found)}")

    def allows(self, deploy: Deploy, situation: HostState) -> bool:
        """Whether a repair may be begun; what may not is left to the next cycle."""
        mine = [c for c in situation.containers if c.project == deploy.stack.name]
        return not self.open or gate.deploy_is_called_for(self._before, deploy, mine, situation)

    def failed(self, why: str) -> AgentUnhealthyError:
        """The trial has failed: the version before is to be started again."""
        try:
            self._beside.note("failed", why)
        except OSError as err:
            log.error("the trial cannot be written down: %s", err)  # noqa: TRY400
        return AgentUnhealthyError(
            f"this version, {self._beside.version}, is not healthy: {why}",
            hint="the version before is started again",
        )

    @asynccontextmanager
    async def watched(
        self, journal: AsyncJournal, give_up: Callable[[AgentUnhealthyError], None]
    ) -> AsyncIterator[None]:
        """Ready to work, or to wait for the engine; ``give_up`` hears when its time is over."""

        async def watch() -> None:
            await self._time_is_over(journal)
            give_up(self.failed(self._reason))

        await anyio.to_thread.run_sync(self._note_ready)
        async with task_group() as group:
            group.start_soon(watch)
            try:
                yield
            finally:
                group.cancel_scope.cancel()

    def _note_ready(self) -> None:
        try:
            self._beside.note("ready", utcnow())
        except OSError as err:
            log.warning("the trial cannot be written down: %s", err)

    def stopped(self) -> None:
        """Somebody stops the service, which is no fault of this version. Blocks."""
        if self.open:
            try:
                self._beside.not_counted()
            except OSError as err:
                log.warning("the trial cannot be written down: %s", err)

    async def judged(
        self, verdict: Verdict, journal: AsyncJournal, shown: frozenset[str] = frozenset()
    ) -> None:
        """A cycle has ended so, with these heads of the remotes. A clean one ends the trial."""
        if not self.open:
            return
        self._unknown = verdict.state is State.UNKNOWN
        self._why = gate.unexcused(verdict, self._before, self._situation, shown)
        if self._why:
            return
        try:
            stays = await anyio.to_thread.run_sync(self._beside.accept)
        except OSError as err:
            self._why = [f"the end of the trial cannot be written down: {err}"]
            return
        self.open = False
        if not stays:
            return  # a person has gone back from it, and it runs until the service is started again
        version = self._beside.version
        log.info("version %s is healthy; its trial has ended", version)
        await tell(journal, self._config.host, Reason.AGENT_UPGRADED, f"{version} runs")

    async def _time_is_over(self, journal: AsyncJournal) -> None:
        """Return once the time of the trial is over without a clean cycle; never after one."""
        last = time.monotonic()
        while self.open:
            await anyio.sleep(EVERY_S)
            now = time.monotonic()
            if await self._may_be_judged(journal):
                self._ran_s += now - last
            last = now
            if self._ran_s >= gate.TRIAL_S:
                return
        await anyio.sleep_forever()

    @property
    def _reason(self) -> str:
        """Why no cycle was clean."""
        minutes = round(gate.TRIAL_S / 60)
        return f"no cycle was clean within {minutes} minutes: {_some(self._why)}"

    async def _may_be_judged(self, journal: AsyncJournal) -> bool:
        """Whether it is this version's own doing that it is not healthy yet."""
        try:
            if await journal.run(Journal.unfinished):
                return False
        except CommitdError:
            return True
        return await anyio.to_thread.run_sync(self._outside_answers)

    def _outside_answers(self) -> bool:
        docker_host = directories.docker_host(self._config)
        return reachable.outside_answers(self._config, docker_host, self._excused)

    @property
    def _excused(self) -> frozenset[str]:
        """The remotes whose silence is no fault of this version, where nothing else is wrong."""
        return self._before.silent if self._unknown else frozenset()


def cannot_begin(err: CommitdError) -> CommitdError:
    """The error to end with: on trial, that of this version, or systemd would leave it ended."""
    beside = programs.here()
    found = beside.trial() if beside else None
    if beside is None or found is None or found.candidate != beside.version:
        return err
    if not isinstance(err, MissingError):  # which counts as a start: apt may be exchanging it
        with suppress(OSError):
            beside.note("failed", str(err))
    return AgentUnhealthyError(f"this version, {beside.version}, cannot begin: {err}")


async def tell(journal: AsyncJournal, host: str, reason: Reason, detail: str) -> None:
    """Write down what became of a version, for the history and for those who are notified."""
    try:
        async with journal.recording(Action.HOLD, host, reason, detail=detail) as entry:
            if reason is Reason.AGENT_UNHEALTHY:
                entry.outcome = Outcome(subject=host, status=Status.FAILED, error=detail)
    except CommitdError as err:
        log.error("%s", err)  # noqa: TRY400


def begin(config: Config, path: Path) -> Trial | None:
    """Before the journal at ``path`` is opened: the trial that goes on, if one does. Blocks.

    Raises :class:`AgentUnhealthyError` where what the version before knew cannot be kept.
    """
    beside = programs.here()
    if beside is None:
        return None
    if beside.fell_back() and older.is_newer(path):
        older.take_back(path)
    found = beside.trial()
    if found is None or found.candidate != beside.version:
        return None
    try:
        copy = found.copy if found.copy and found.copy.exists() else None
        if copy is None and (copy := older.keep_copy(path)) is not None:
            beside.note("journal", str(copy))
        recorded = before.read(copy) if copy else Before()
    except (TransientError, OSError) as err:
        raise Trial(beside, config, Before()).failed(str(err)) from None
    return Trial(beside, config, recorded)


async def tell_of_return(config: Config, journal: AsyncJournal) -> None:
    """That this version runs again because another one was given up: said once."""
    beside = programs.here()
    found = beside.fell_back() if beside else None
    if beside is None or found is None:
        return
    detail = f"{found.given_up} was given up ({found.why}); {found.now} runs again"
    log.error("version %s", detail)
    await tell(journal, config.host, Reason.AGENT_UNHEALTHY, detail)
    await anyio.to_thread.run_sync(beside.forget_return)


def _some(found: list[str]) -> str:
    return some_of(found, _NAMED)

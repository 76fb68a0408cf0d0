"""Asking every remote for its head, each over its own warm connection and at its own pace."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from functools import partial

import anyio

from agent.adapters.guard import Guard, brief
from agent.adapters.probes.base import Probe
from agent.adapters.state.database import utcnow
from agent.adapters.tasks import task_group
from agent.control.source.remote_status import Remotes
from agent.domain.backoff import Backoff
from agent.domain.errors import BusyError, CommitdError
from agent.domain.source.decide import Answer, without

log = logging.getLogger("commitd.poller")

SUSPECT_S = 1.5
"""A remote that is silent for so long counts as down, although it is still being waited for."""
FIRST_SUSPECT_S = 5.0
"""The same for one whose pace is not known: it has to be connected to first."""
LONGEST_SUSPECT_S = 10.0
"""The same for one that is always slow."""
LONGEST_WAIT_S = 60.0
"""Between two tries of a remote that is down, unless its own interval is longer."""


class Poller:
    """Keeps ``memory`` up to date with what the remotes say; ``wake`` when that is news."""

    def __init__(
        self, probes: Mapping[str, Probe], memory: Remotes, wake: Callable[[str], None]
    ) -> None:
        self._remotes = {name: probe.remote for name, probe in probes.items()}
        self._probes = probes
        self._memory = memory
        self._wake = wake
        self._usual_s: dict[str, float] = {}
        self._now: dict[str, anyio.Event] = {name: anyio.Event() for name in self._remotes}
        self._guards = {
            name: Guard(f"asking {name}", log, pause=partial(self._pause, name))
            for name in self._remotes
        }

    async def ask_all(self) -> None:
        """Ask every remote once, side by side."""
        async with task_group() as group:
            for name, guard in self._guards.items():
                group.start_soon(guard.run, partial(self._ask, name))

    async def run(self) -> None:
        """Ask for ever."""
        async with task_group() as group:
            for name in self._remotes:
                group.start_soon(self._poll, name)

    async def aclose(self) -> None:
        """Part from all servers."""
        with anyio.CancelScope(shield=True):
            async with task_group() as group:
                for name in self._probes:
                    group.start_soon(self._part, name)

    async def _part(self, name: str) -> None:
        try:
            await self._probes[name].aclose()
        except Exception as err:  # noqa: BLE001  the next connection is another one
            self._guards[name].note(err)

    def ask_now(self) -> None:
        """Do not wait for the next turn."""
        for event in self._now.values():
            event.set()

    async def _poll(self, name: str) -> None:
        failures = 0

        async def turn() -> None:
            nonlocal failures
            # Before asking: who wants to know now does not mean the answer that is on its way.
            self._now[name] = anyio.Event()
            patience_s = await self._ask(name)
            failures = 0 if patience_s is None else failures + 1
            wait_s = self._remotes[name].poll * random.uniform(0.9, 1.1)  # noqa: S311  spreads load
            if patience_s is not None:
                pauses = Backoff(first_s=wait_s, longest_s=LONGEST_WAIT_S)
                wait_s = max(wait_s, pauses.wait_s(failures), patience_s)
            await self._pause(name, wait_s)

        await self._guards[name].forever(turn)

    async def _pause(self, name: str, seconds: float) -> None:
        """Until somebody wants to know now, or time is up."""
        with anyio.move_on_after(seconds):
            await self._now[name].wait()

    async def _ask(self, name: str) -> float | None:
        """Ask one remote; None, or for how long it wants to be left alone at least (seconds)."""
        patience_s: float | None = None
        started = time.monotonic()
        async with task_group() as group:
            group.start_soon(self._suspect, name)
            try:
                said = await self._probes[name].ask()
            except CommitdError as err:
                patience_s = (err.retry_after_s or 0.0) if isinstance(err, BusyError) else 0.0
                self._usual_s.pop(name, None)
                self._tell(name, Answer.DOWN, error=str(err))
            except Exception as err:
                self._usual_s.pop(name, None)
                self._tell(name, Answer.DOWN, error=f"{name}: {brief(err)}")
                raise
            else:
                # Slow answers are remembered for a while: some come over a new connection.
                lately_s = self._usual_s.get(name, 0.0) * 0.8
                took_s = time.monotonic() - started
                self._usual_s[name] = max(took_s, lately_s)
                missing = f"{name}: {without(said.answer, self._probes[name].branch)}"
                error = None if said.sha else missing
                self._tell(name, said.answer, sha=said.sha, error=error, took_s=took_s)
            group.cancel_scope.cancel()
        return patience_s

    async def _suspect(self, name: str) -> None:
        started = time.monotonic()
        await anyio.sleep(suspect_s(self._usual_s.get(name)))
        silent = time.monotonic() - started
        self._tell(name, Answer.DOWN, error=f"{name}: silent for {silent:.1f} s")

    def _tell(
        self,
        name: str,
        answer: Answer,
        *,
        sha: str | None = None,
        error: str | None,
        took_s: float | None = None,
    ) -> None:
        now = utcnow()
        news = self._memory.tell(name, answer, sha=sha, error=error, at=now, took_s=took_s)
        if news:
            if error:
                log.warning("%s", error)
            self._wake(f"{name}: {sha[:7] if sha else answer}")


def suspect_s(usual_s: float | None) -> float:
    """How long a remote may be silent that usually answers within ``usual_s`` (None: unknown)."""
    if usual_s is None:
        return FIRST_SUSPECT_S
    return min(LONGEST_SUSPECT_S, max(SUSPECT_S, 3 * usual_s))

"""Getting the images that stacks need, before any container of theirs is touched.

Each stack waits for its own images alone. An image that several want is pulled once; a registry
that is slow has a few places of its own, which others do not wait for. Who waits may give up, for a
newer commit: the pull goes on, and who asks next joins it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection

import anyio
from msgspec import Struct, field

from agent.adapters.engine import images
from agent.adapters.engine.docker_config import DockerConfig
from agent.adapters.engine.engine import Engine
from agent.adapters.engine.images import RegistryBusyError
from agent.adapters.retrying import in_passing, retrying
from agent.domain.backoff import Backoff
from agent.domain.errors import CancelledError, CommitdError, PermanentError, TransientError
from agent.domain.repository.image_reference import parse

log = logging.getLogger("commitd.pull")

_OF_A_REGISTRY, _AT_A_TIME = 4, 16
"""Pulls at a time: of one registry, and of all."""
_BUSY = Backoff(first_s=10.0, longest_s=300.0)
"""For a registry that asks to be left alone."""
_SAY_EVERY_S = 10.0
_LOOK_S = 1.0
"""A newer commit is no event of a pull."""


class _Pull(Struct):
    """One image on its way."""

    reference: str
    done: anyio.Event = field(default_factory=anyio.Event)
    error: CommitdError | None = None


class Puller:
    """What is here is not asked for. A registry that is busy is left alone for a while.

    One pull takes no longer than ``timeout_s`` once it is its turn. ``start_soon`` is that of the
    task group whose tasks pulls are.
    """

    def __init__(
        self,
        engine: Engine,
        pulse: Callable[[], None],
        timeout_s: float,
        start_soon: Callable[..., object],
    ) -> None:
        self._engine = engine
        self._timeout_s = timeout_s
        self._pulse = pulse
        self._start_soon = start_soon
        self._all = anyio.CapacityLimiter(_AT_A_TIME)
        self._of: dict[str, anyio.CapacityLimiter] = {}
        self._pauses: dict[str, tuple[int, float]] = {}
        self._going: dict[str, _Pull] = {}
        self._logins = DockerConfig()

    async def fetch(
        self, references: Collection[str], cancel_reason: Callable[[], CancelledError | None]
    ) -> None:
        """Have all these images here.

        Raises the error of the first that cannot be had, and what ``cancel_reason`` gives
        once the wait is to end.
        """
        pulls = [self._join(reference) for reference in sorted(references)]
        while True:
            if error := next((pull.error for pull in pulls if pull.error), None):
                raise error
            going = next((pull for pull in pulls if not pull.done.is_set()), None)
            if going is None:
                return
            if reason := cancel_reason():
                raise type(reason)(f"{reason}, while {going.reference} is pulled")
            with anyio.move_on_after(_LOOK_S):
                await going.done.wait()

    def _join(self, reference: str) -> _Pull:
        if not self._going:
            self._logins = DockerConfig()
        if reference not in self._going:
            self._going[reference] = _Pull(reference)
            self._start_soon(self._run, self._going[reference])
        return self._going[reference]

    async def _run(self, pull: _Pull) -> None:
        reference = pull.reference
        try:
            await self._have(reference)
        except CommitdError as err:
            pull.error = err
        except Exception as err:
            log.exception("%s: unexpected", reference)
            pull.error = TransientError(f"unexpected {type(err).__name__}")
        finally:
            del self._going[reference]
            pull.done.set()
            self._pulse()

    async def _have(self, reference: str) -> None:
        if await images.present(self._engine, reference):
            return
        try:
            registry = parse(reference).registry
        except PermanentError:
            raise TransientError(f"{reference} is not here, and names no registry") from None
        limiter = self._of.setdefault(registry, anyio.CapacityLimiter(_OF_A_REGISTRY))
        async with limiter, self._all:
            count, until = self._pauses.get(registry, (0, 0.0))
            if time.monotonic() < until:
                raise TransientError(f"{reference}: {registry} is rate-limiting this host")
            try:
                with anyio.fail_after(self._timeout_s):
                    await self._pull(reference)
            except TimeoutError:
                raise TransientError(
                    f"{reference} was not there after {self._timeout_s:g} s"
                ) from None
            except RegistryBusyError:
                self._pauses[registry] = count + 1, time.monotonic() + _BUSY.wait_s(count + 1)
                raise
            self._pauses.pop(registry, None)

    async def _pull(self, reference: str) -> None:
        started = said = time.monotonic()

        def progress(step: str) -> None:
            nonlocal said
            if time.monotonic() - said > _SAY_EVERY_S:
                said = time.monotonic()
                self._pulse()
                log.info("pulling %s, %.0f s: %s", reference, said - started, step)

        log.info("pulling %s", reference)
        async for attempt in retrying(worth=_worth_another):
            with attempt:
                await images.pull(self._engine, reference, self._logins, progress)
        log.info("pulled %s in %.1f s", reference, time.monotonic() - started)


def _worth_another(err: BaseException) -> bool:
    return in_passing(err) and not isinstance(err, RegistryBusyError)

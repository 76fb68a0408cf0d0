"""Getting all images that a plan needs, before any container is touched."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping

import anyio
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from agent.adapters import images
from agent.adapters.docker_config import DockerConfig
from agent.adapters.engine import Engine
from agent.adapters.images import RegistryBusyError
from agent.adapters.tasks import task_group
from agent.domain.errors import CommitdError, PermanentError, TransientError
from agent.domain.images import parse

log = logging.getLogger("commitd.pull")

_AT_A_TIME = 4
_TRIES = 3
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 10.0, 300.0
_SAY_EVERY_S = 10.0


class Puller:
    """What is here is not asked for. A registry that is busy is left alone for a while."""

    def __init__(self, engine: Engine, pulse: Callable[[], None], timeout_s: float) -> None:
        self._engine = engine
        self._timeout_s = timeout_s
        self._pulse = pulse
        self._limiter = anyio.CapacityLimiter(_AT_A_TIME)
        self._pauses: dict[str, tuple[int, float]] = {}

    async def fetch(self, wanted: Mapping[str, Collection[str]]) -> dict[str, CommitdError]:
        """Have all images here that each stack needs, each asked for once; failures by stack."""
        failures: dict[str, CommitdError] = {}
        logins = DockerConfig()

        async def one(reference: str) -> None:
            try:
                async with self._limiter:
                    with anyio.fail_after(self._timeout_s):
                        await self._have(reference, logins)
            except TimeoutError:
                failures[reference] = TransientError(
                    f"{reference} was not there after {self._timeout_s:g} s"
                )
            except CommitdError as err:
                failures[reference] = err
            except Exception as err:
                log.exception("%s: unexpected", reference)
                failures[reference] = TransientError(f"unexpected {type(err).__name__}")
            self._pulse()

        async with task_group() as group:
            for reference in sorted({each for many in wanted.values() for each in many}):
                group.start_soon(one, reference)
        return {
            stack: failures[reference]
            for stack, many in wanted.items()
            for reference in sorted(many, reverse=True)
            if reference in failures
        }

    async def _have(self, reference: str, logins: DockerConfig) -> None:
        if await images.present(self._engine, reference):
            return
        try:
            registry = parse(reference).registry
        except PermanentError:
            raise TransientError(f"{reference} is not here, and names no registry") from None
        count, until = self._pauses.get(registry, (0, 0.0))
        if time.monotonic() < until:
            raise TransientError(f"{reference}: {registry} asked to be left alone for a while")
        try:
            await self._pull(reference, logins)
        except RegistryBusyError:
            pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(count, 10))
            self._pauses[registry] = count + 1, time.monotonic() + pause_s
            raise
        self._pauses.pop(registry, None)

    async def _pull(self, reference: str, logins: DockerConfig) -> None:
        started = said = time.monotonic()

        def progress(step: str) -> None:
            nonlocal said
            if time.monotonic() - said > _SAY_EVERY_S:
                said = time.monotonic()
                self._pulse()
                log.info("pulling %s, %.0f s: %s", reference, said - started, step)

        log.info("pulling %s", reference)
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(_worth_another),
            stop=stop_after_attempt(_TRIES),
            wait=wait_exponential(multiplier=0.5, max=10) + wait_random(0, 1),
            reraise=True,
            sleep=anyio.sleep,
        ):
            with attempt:
                await images.pull(self._engine, reference, logins, progress)
        log.info("pulled %s in %.1f s", reference, time.monotonic() - started)


def _worth_another(err: BaseException) -> bool:
    return isinstance(err, TransientError) and not isinstance(err, RegistryBusyError)

"""Each failure in a row is waited for longer, never longer than the longest."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.adapters import retrying
from agent.domain.backoff import Backoff
from agent.domain.errors import BusyError, PermanentError, TransientError

SECONDS = st.floats(0.01, 1000)


def test_waits_grow_by_the_factor_up_to_the_longest() -> None:
    backoff = Backoff(first_s=5.0, longest_s=60.0)
    assert [backoff.wait_s(n) for n in range(1, 7)] == [5, 10, 20, 40, 60, 60]
    thrice = Backoff(first_s=1.0, longest_s=100.0, factor=3.0)
    assert [thrice.wait_s(n) for n in range(1, 6)] == [1, 3, 9, 27, 81]


@given(SECONDS, SECONDS, st.floats(0, 1), st.integers(1, 100_000), st.floats(0, 1))
def test_a_wait_is_no_longer_than_the_longest_and_its_jitter(
    first_s: float, longest_s: float, jitter: float, failures: int, chance: float
) -> None:
    backoff = Backoff(first_s=first_s, longest_s=longest_s, jitter=jitter)
    assert 0 <= backoff.wait_s(failures, chance) <= longest_s * (1 + jitter)
    assert backoff.wait_s(failures) <= backoff.wait_s(failures + 1)
    assert backoff.wait_s(failures, 0.0) <= backoff.wait_s(failures, 1.0)


def test_after_a_quiet_time_failures_count_anew() -> None:
    backoff = Backoff(first_s=5.0, longest_s=60.0, quiet_s=600.0)
    assert [backoff.count(0, 0.0), backoff.count(3, 600.0), backoff.count(3, 600.1)] == [1, 4, 1]
    assert Backoff(first_s=5.0, longest_s=60.0).count(3, 1e9) == 4


@pytest.mark.parametrize(
    ("error", "tries"), [(TransientError("the engine is away"), 3), (PermanentError("no"), 1)]
)
def test_only_what_fails_in_passing_is_tried_again(error: Exception, tries: int) -> None:
    done: list[int] = []

    async def main() -> None:
        async for attempt in retrying.retrying(pauses=Backoff(first_s=0.0, longest_s=0.0)):
            with attempt:
                done.append(attempt.retry_state.attempt_number)
                raise error

    with pytest.raises(type(error)):
        anyio.run(main)
    assert done == list(range(1, tries + 1))


def test_a_server_that_asks_for_patience_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def main() -> None:
        async for attempt in retrying.retrying(4, Backoff(first_s=0.5, longest_s=10.0)):
            with attempt:
                asked_s = {1: None, 2: 7.0, 3: 0.1}.get(attempt.retry_state.attempt_number)
                raise BusyError("too many requests", retry_after_s=asked_s)

    monkeypatch.setattr("agent.adapters.retrying.anyio.sleep", sleep)
    with pytest.raises(BusyError):
        anyio.run(main)
    assert slept == [0.5, 7.0, 2.0]

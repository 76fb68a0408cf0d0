"""Many looks at once, none of which can hold up another.

Each has a thread that ends with the process, and an event loop of its own if it needs one. So one
that hangs, in a system call that nothing ends or on a disk that does not answer, is left behind
when its time is up, and said to be.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio
from msgspec import Struct

from agent.domain.doctor.finding import Code, Finding, unknown
from agent.domain.errors import CommitdError

_waiting: dict[int, Callable[[], object]] = {}
"""What ends the looks that wait, by their threads: they have children that outlive the process."""

LIMIT_S = 20.0
_GRACE_S = 3.0
"""For a look that was told to end, until it is left behind."""


_Answers = queue.SimpleQueue[tuple[int, list[Finding]]]


class Check(Struct, frozen=True, kw_only=True):
    """One look; it takes ``limit_s`` seconds at most. What it raises is said, and no claim."""

    code: Code
    look: Callable[[], Iterable[Finding]]
    limit_s: float = LIMIT_S


def waiting(
    code: Code, look: Callable[[], Awaitable[Iterable[Finding]]], limit_s: float = LIMIT_S
) -> Check:
    """A look that waits for others, on an event loop of its own."""

    async def within() -> Iterable[Finding]:
        thread, loop = threading.get_ident(), asyncio.get_running_loop()
        said: Iterable[Finding] = ()  # when all are told to end
        with anyio.fail_after(limit_s) as scope:
            _waiting[thread] = partial(loop.call_soon_threadsafe, scope.cancel)
            try:
                said = await look()
            finally:
                del _waiting[thread]
        return said

    return Check(code=code, look=lambda: anyio.run(within, backend="asyncio"), limit_s=limit_s)


def examine(checks: Sequence[Check]) -> list[Finding]:
    """What all of them found, in their order. Blocks for as long as the longest may take."""
    answers: _Answers = queue.SimpleQueue()
    threads = [
        threading.Thread(target=_look, args=(check, number, answers), daemon=True)
        for number, check in enumerate(checks)
    ]
    for thread in threads:
        thread.start()
    try:
        found = _collected(checks, answers)
    except BaseException:  # somebody wants it to end
        for end in [*_waiting.values()]:
            with suppress(RuntimeError):  # it has just ended by itself
                end()
        over = time.monotonic() + _GRACE_S
        for thread in threads:
            thread.join(max(0.0, over - time.monotonic()))
        raise
    return [each for number in range(len(checks)) for each in found[number]]


def _collected(checks: Sequence[Check], answers: _Answers) -> dict[int, list[Finding]]:
    """What each found, by its number, or that it hangs."""
    began, found = time.monotonic(), dict[int, list[Finding]]()
    due = sorted({check.limit_s for check in checks})
    while due and len(found) < len(checks):
        left_s = began + due[0] + _GRACE_S - time.monotonic()
        try:
            number, said = answers.get(timeout=max(0.0, left_s))
            found.setdefault(number, said)
        except queue.Empty:
            over = due.pop(0)
            for number, check in enumerate(checks):
                if check.limit_s <= over and number not in found:
                    found[number] = [_hangs(check)]
    return found


def _look(check: Check, number: int, answers: queue.SimpleQueue[tuple[int, list[Finding]]]) -> None:
    said: list[Finding] = []
    try:
        said.extend(check.look())  # one by one: what was found before it raises is kept
    except TimeoutError:
        said.append(_hangs(check))
    except CommitdError as err:
        said.append(unknown(check.code, f"not looked at: {err.fact}", err.hint or ""))
    except OSError as err:
        said.append(unknown(check.code, f"not looked at: {err.strerror or type(err).__name__}"))
    except Exception as err:  # noqa: BLE001  the others are told all the same
        why = f"unexpected {type(err).__name__}{_at(err)}"
        said.append(unknown(check.code, f"not looked at: {why}"))
    answers.put((number, said))


def _at(err: Exception) -> str:
    """Where it was raised, for who mends this program; its text could hold anything."""
    frames = traceback.extract_tb(err.__traceback__)
    return f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def _hangs(check: Check) -> Finding:
    return unknown(
        check.code,
        f"not looked at: no answer within {check.limit_s:g} s",
        "what it looks at hangs or is slow; try again",
    )

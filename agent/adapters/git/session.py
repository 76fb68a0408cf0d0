"""One process of Git that answers many questions: it starts with the first, and again if it dies.

    question ─▶ a thread ─▶ stdin of git ─▶ its answers, each of a known length ─▶ the caller

Starting a Git costs more than almost any answer. It reads objects and refs anew for each question,
so that new ones are seen. It may remember deleted ones: call :meth:`Session.end` after deleting
some. When the agent dies, the pipe is closed, and Git exits.

A session belongs to no event loop, and takes one question at a time. What is wrong with an answer,
takes too long, or is wanted by nobody any more, ends the process: the next question begins with a
new one. A process is asked to end before it is killed, so that it removes its locks; one that
cannot be killed (a disk that hangs) is left behind.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

import anyio
import anyio.to_thread

from agent.adapters import memory_file, process
from agent.domain.errors import TransientError

_T = TypeVar("_T")
_CHUNK = 1024 * 1024
_TURN_S = 120.0
"""To wait for the questions of others: as long as any of them may take."""
_END_S = 10.0
_ENDING = ((signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0))
"""Signals, each with how many seconds the process has to exit after it."""
_LOOK_S = 1.0
"""How often who waits for an answer sees whether anybody wants it."""


class Pipe:
    """Both ends of a Git at work, for one question. All blocks, until ``deadline`` (monotonic).

    Raises :class:`TransientError` then, when Git ends before its answer does, and once the answer
    is not ``wanted`` any more.
    """

    def __init__(
        self, child: subprocess.Popen[bytes], deadline: float, wanted: Callable[[], bool]
    ) -> None:
        assert child.stdin is not None  # noqa: S101  for the type
        assert child.stdout is not None  # noqa: S101
        self._in, self._out = child.stdin.fileno(), child.stdout.fileno()
        self._deadline, self._wanted = deadline, wanted
        self._held = bytearray()
        self._at = 0

    def write(self, text: bytes) -> None:
        """Ask. Git reads all of it before it answers."""
        view = memoryview(text)
        while view:
            self._wait(self._in, select.POLLOUT)
            try:
                view = view[os.write(self._in, view[: select.PIPE_BUF]) :]
            except BrokenPipeError:
                raise _EndedError from None

    def line(self) -> bytes:
        """The next line, without its line break."""
        while (end := self._held.find(b"\n", self._at)) < 0:
            self._more()
        found = bytes(self._held[self._at : end])
        self._at = end + 1
        return found

    def exactly(self, count: int) -> bytes:
        """So many bytes."""
        while len(self._held) - self._at < count:
            self._more()
        found = bytes(self._held[self._at : self._at + count])
        self._at += count
        return found

    def _more(self) -> None:
        if self._at > _CHUNK:
            del self._held[: self._at]
            self._at = 0
        self._wait(self._out, select.POLLIN)
        part = os.read(self._out, _CHUNK)
        if not part:
            raise _EndedError
        self._held += part

    def _wait(self, handle: int, event: int) -> None:
        poll = select.poll()
        poll.register(handle, event)
        while self._wanted():
            left_s = self._deadline - time.monotonic()
            if left_s <= 0:
                raise process.OverdueError("git did not answer in time")
            if poll.poll(min(left_s, _LOOK_S) * 1000):
                return
        raise _UnwantedError


class _EndedError(TransientError):
    def __init__(self) -> None:
        super().__init__("git ended before its answer")


class _UnwantedError(TransientError):
    def __init__(self) -> None:
        super().__init__("nobody waits for git's answer any more")


class BusyError(TransientError):
    """It was not this question that took so long."""


class _Asked:
    """One question, from when somebody asks it; of none other is the process taken away."""

    def __init__(self) -> None:
        self.wanted = True


class Session:
    """``argv`` with exactly ``env``; its words for people are ``name``."""

    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str], umask: int) -> None:
        self._name = name
        self._argv, self._env, self._umask = list(argv), dict(env), umask
        self._changed = threading.Condition()
        """Held for moments only, to change what follows."""
        self._turn: _Asked | None = None
        self._outdated = False
        self._child: _Child | None = None

    async def ask(self, question: Callable[[Pipe], _T], timeout_s: float) -> _T:
        """What ``question`` makes of the answers to what it asks; it may be asked twice.

        Raises :class:`TransientError` for a Git that cannot start, dies, or takes longer from when
        it is this question's turn; :class:`BusyError` if that does not come.
        """
        asked = _Asked()
        try:
            return await anyio.to_thread.run_sync(
                self._ask, asked, question, timeout_s, abandon_on_cancel=True
            )
        except anyio.get_cancelled_exc_class():
            self._give_up(asked)
            raise

    def _give_up(self, asked: _Asked) -> None:
        """Nobody waits for the answer: its thread ends at once, and never asks again."""
        with self._changed:
            asked.wanted = False
            if self._turn is asked and self._child is not None:
                self._child.terminate()
            self._changed.notify_all()

    def _ask(self, asked: _Asked, question: Callable[[Pipe], _T], timeout_s: float) -> _T:
        if not self._take_turn(asked, _TURN_S):
            raise BusyError(f"git {self._name} was busy with other questions for {_TURN_S:g} s")
        deadline = time.monotonic() + timeout_s
        try:
            old = self._child is not None
            try:
                return self._try(asked, question, deadline)
            except _EndedError as err:
                said = self._close()
                if not asked.wanted:  # it was ended for that
                    raise
                if not old:  # one that has answered before may have been killed since
                    raise TransientError(f"git {self._name} failed: {said or err}") from None
            try:
                return self._try(asked, question, deadline)
            except _EndedError as err:
                raise TransientError(f"git {self._name} failed: {self._close() or err}") from None
        finally:
            self._pass_on(asked)

    def _take_turn(self, asked: _Asked, timeout_s: float) -> bool:
        """Whether it came. Raises for a question that nobody asks any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._turn is None or not asked.wanted, timeout_s)
            if not asked.wanted:
                raise _UnwantedError
            if self._turn is not None:
                return False
            self._turn = asked
            return True

    def _pass_on(self, asked: _Asked) -> None:
        with self._changed:
            child = None
            if self._outdated or not asked.wanted:  # nobody else is to get that process
                child, self._child = self._child, None
                self._outdated = False
            if child is None:
                self._turn = None
                self._changed.notify_all()
                return
        child.close()
        with self._changed:
            self._turn = None
            self._changed.notify_all()

    def _try(self, asked: _Asked, question: Callable[[Pipe], _T], deadline: float) -> _T:
        child = self._child
        if child is None:
            child = _Child(self, self._argv, self._env, self._umask)
            with self._changed:
                self._child = child
        else:
            child.forget_errors()
        try:
            return question(Pipe(child.process, deadline, lambda: asked.wanted))
        except _EndedError:
            raise
        except BaseException:
            self._close()
            raise

    def _close(self) -> str:
        with self._changed:
            child, self._child = self._child, None
        return child.close() if child else ""

    async def end(self) -> None:
        """Let the process go; the next question starts another.

        One that is at work is waited for, but not for long: it ends after its answer.
        """
        await anyio.to_thread.run_sync(self._end)

    def _end(self) -> None:
        asked = _Asked()
        with self._changed:
            self._outdated = True
        if self._take_turn(asked, _END_S):
            with self._changed:
                self._outdated = True
            self._pass_on(asked)


class _Child:
    """One process, which ends with its ``owner`` at the latest."""

    def __init__(
        self, owner: Session, argv: Sequence[str], env: Mapping[str, str], umask: int
    ) -> None:
        try:
            self._errors = memory_file.create()
        except OSError as err:
            raise TransientError(f"git cannot be started: {err.strerror}") from None
        try:
            self.process = subprocess.Popen(
                argv,
                env=env,
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,
                start_new_session=True,
                umask=umask,
            )
        except OSError as err:
            os.close(self._errors)
            raise TransientError(f"git cannot be started: {err.strerror}", where=argv[0]) from None
        self._finish = weakref.finalize(owner, _finish, self.process, self._errors)

    def forget_errors(self) -> None:
        """What it complained of before is of no account, and must not fill the memory."""
        os.ftruncate(self._errors, 0)
        os.lseek(self._errors, 0, os.SEEK_SET)

    def terminate(self) -> None:
        """At once, from any thread; it removes its locks before."""
        self.process.terminate()

    def close(self) -> str:
        """End it; what it complained of last."""
        _stop(self.process)
        said = complaint(os.pread(self._errors, 4096, 0))
        self._finish.detach()
        _release(self.process, self._errors)
        return said


def _finish(child: subprocess.Popen[bytes], errors: int) -> None:
    child.kill()
    child.wait()
    _release(child, errors)


def _release(child: subprocess.Popen[bytes], errors: int) -> None:
    for pipe in (child.stdin, child.stdout):
        if pipe:
            pipe.close()
    os.close(errors)


def _stop(child: subprocess.Popen[bytes]) -> None:
    for number, patience_s in _ENDING:
        child.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(patience_s)
            return


def complaint(err: bytes) -> str:
    """The line of Git's errors that says what happened: advice may follow it."""
    lines = [line for line in err.decode(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal: ", "error: "))]
    return (telling or lines or [""])[-1].strip()[:300]

"""One process of Git that answers many questions: it starts with the first, and again if it dies.

    question ─▶ a thread ─▶ stdin of git ─▶ its answers, each of a known length ─▶ the caller

Starting a Git costs more than almost any answer. It reads objects and refs anew for each question,
so that what comes later is seen; only what was deleted may be known for longer, which is what
:meth:`Session.end` is for. When the agent dies, its end of the pipe closes, and Git ends by itself.

A session belongs to no event loop, and takes one question at a time. What is wrong with an answer,
or takes too long, ends the process: the next question begins with a new one.
"""

from __future__ import annotations

import os
import select
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import anyio
import anyio.to_thread

from agent.adapters import memory_file, process
from agent.domain.errors import TransientError

_T = TypeVar("_T")
_CHUNK = 1024 * 1024


class Pipe:
    """Both ends of a Git at work, for one question. All blocks, until ``deadline`` (monotonic).

    Raises :class:`TransientError` then, and when Git ends before its answer does.
    """

    def __init__(self, child: subprocess.Popen[bytes], deadline: float) -> None:
        assert child.stdin is not None  # noqa: S101  for the type
        assert child.stdout is not None  # noqa: S101
        self._in, self._out = child.stdin.fileno(), child.stdout.fileno()
        self._deadline = deadline
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
        """The next line, without its end."""
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
        left_s = self._deadline - time.monotonic()
        if left_s <= 0 or not poll.poll(left_s * 1000):
            raise process.OverdueError("git did not answer in time")


class _EndedError(TransientError):
    def __init__(self) -> None:
        super().__init__("git ended before its answer")


class Session:
    """``argv`` with exactly ``env``; its words for people are ``name``."""

    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str], umask: int) -> None:
        self._name = name
        self._argv, self._env, self._umask = list(argv), dict(env), umask
        self._lock = threading.Lock()
        self._child: _Child | None = None

    async def ask(self, question: Callable[[Pipe], _T], timeout_s: float) -> _T:
        """What ``question`` makes of the answers to what it asks; it may be asked twice.

        Raises :class:`TransientError` for a Git that cannot start, dies, or takes longer.
        """
        try:
            return await anyio.to_thread.run_sync(
                self._ask, question, timeout_s, abandon_on_cancel=True
            )
        except anyio.get_cancelled_exc_class():
            # Nobody waits for the answer. If it is another's, that one asks again.
            if (child := self._child) is not None and self._lock.locked():
                child.kill()
            raise

    def _ask(self, question: Callable[[Pipe], _T], timeout_s: float) -> _T:
        deadline = time.monotonic() + timeout_s
        with self._lock:
            old = self._child is not None
            try:
                return self._try(question, deadline)
            except _EndedError as err:
                said = self._close()
                if not old:  # one that has answered before may have been killed since
                    raise TransientError(f"git {self._name} failed: {said or err}") from None
            try:
                return self._try(question, deadline)
            except _EndedError as err:
                raise TransientError(f"git {self._name} failed: {self._close() or err}") from None

    def _try(self, question: Callable[[Pipe], _T], deadline: float) -> _T:
        if self._child is None:
            self._child = _Child(self, self._argv, self._env, self._umask)
        else:
            self._child.forget_errors()
        try:
            return question(Pipe(self._child.process, deadline))
        except _EndedError:
            raise
        except BaseException:
            self._close()
            raise

    def _close(self) -> str:
        child, self._child = self._child, None
        return child.close() if child else ""

    async def end(self) -> None:
        """Let the process go; the next question starts another."""
        await anyio.to_thread.run_sync(self._end)

    def _end(self) -> None:
        with self._lock:
            self._close()


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

    def kill(self) -> None:
        """At once, from any thread."""
        self.process.kill()

    def close(self) -> str:
        """End it; the last line of its errors."""
        self.process.kill()
        self.process.wait()
        lines = os.pread(self._errors, 4096, 0).decode(errors="replace").strip().splitlines()
        self._finish()
        return lines[-1][:200] if lines else ""


def _finish(child: subprocess.Popen[bytes], errors: int) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe:
            pipe.close()
    os.close(errors)

"""Child processes: bounded in time and output, with nothing inherited, ended as a group.

What a child reads from standard input is a file in memory: it reads as much of it as it likes, and
nobody has to feed a pipe, or to bear that one which has ended does not read to the end.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

import anyio
from anyio.abc import ByteReceiveStream, Process
from msgspec import Struct

from agent.adapters.memory_file import holding
from agent.adapters.tasks import task_group
from agent.domain.errors import TransientError

MAX_OUTPUT = 16 * 1024 * 1024
GRACE_S = 10.0
"""Between SIGTERM and SIGKILL."""
LIMITER = shutil.which("prlimit", path=os.defpath)
"""What starts a program that has limits, where it is there."""
_NOT_STARTED = b"prlimit: failed to execute "


class OverdueError(TransientError):
    """The time of a child was up."""


class TooMuchError(TransientError):
    """A child printed more than was wanted of it."""


class Result(Struct, frozen=True):
    """How a child ended; a negative code is the signal that ended it."""

    code: int
    out: bytes
    err: bytes


Run = Callable[..., Awaitable[Result]]
"""What :func:`run` is, and what runs programs in another way."""


async def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    timeout_s: float,
    cwd: Path = Path("/"),
    stdin: bytes = b"",
    max_output: int = MAX_OUTPUT,
    max_memory: int | None = None,
    max_file: int | None = None,
    pass_fds: Sequence[int] = (),
    nice: int = 0,
    umask: int = -1,
    cut: bool = False,
) -> Result:
    """Run ``argv`` with exactly ``env`` and return how it ended, whatever its code.

    ``nice`` is how far it steps back behind the agent; ``umask`` -1 is the agent's own.
    ``max_memory`` limits the memory that it may write to, ``max_file`` any file it writes, in
    bytes. On cancellation and on time-out the whole process group gets SIGTERM, and after
    ``GRACE_S`` SIGKILL. Raises :class:`TransientError` when the time is up, the output is longer
    than ``max_output`` bytes (the rest is read and dropped; ``cut`` ends the program there instead)
    or the program cannot start; no message holds arguments or output.
    """
    name = os.path.basename(argv[0])  # noqa: PTH119  a word for messages
    try:
        with holding(stdin) if stdin else nullcontext(subprocess.DEVNULL) as given:
            process = await anyio.open_process(
                _limited(argv, max_memory, max_file),
                env=dict(env),
                cwd=cwd,
                stdin=given,
                start_new_session=True,
                pass_fds=pass_fds,
                umask=umask,
            )
    except OSError as err:
        raise TransientError(f"{name} cannot be started: {err.strerror}", where=argv[0]) from None
    for kind, limit in ((resource.RLIMIT_DATA, max_memory), (resource.RLIMIT_FSIZE, max_file)):
        if limit is not None and not LIMITER:
            with suppress(ProcessLookupError):
                resource.prlimit(process.pid, kind, (limit, limit))
    with suppress(ProcessLookupError, PermissionError):  # the agent itself may stand before all
        os.setpriority(os.PRIO_PROCESS, process.pid, nice)
    out, err_out = bytearray(), bytearray()
    finished = False
    try:
        with anyio.move_on_after(timeout_s) as scope:
            async with task_group() as group:
                full = group.cancel_scope.cancel if cut else None
                if process.stdout:
                    group.start_soon(_drain, process.stdout, out, max_output, full)
                if process.stderr:
                    group.start_soon(_drain, process.stderr, err_out, max_output, full)
                await process.wait()
            finished = process.returncode is not None
        if scope.cancelled_caught:
            raise OverdueError(f"{name} did not end within {timeout_s:g} s")
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process, finished=finished)
    if max(len(out), len(err_out)) > max_output:
        raise TooMuchError(f"{name} printed more than {max_output:,} bytes")
    if err_out.startswith(_NOT_STARTED):
        said = err_out.decode(errors="replace").strip().rpartition(": ")[2]
        raise TransientError(f"{name} cannot be started: {said}", where=argv[0])
    return Result(process.returncode or 0, bytes(out), bytes(err_out))


def _limited(argv: Sequence[str], memory: int | None, file: int | None) -> list[str]:
    """The same with limits in force before it starts: what it starts has them from its parent.

    Where a machine lacks the program that does it, they come a moment late.
    """
    limits = [f"--{n}={limit}" for n, limit in (("data", memory), ("fsize", file)) if limit]
    return [LIMITER, *limits, "--", *argv] if limits and LIMITER else [*argv]


async def _drain(
    stream: ByteReceiveStream, into: bytearray, limit: int, full: Callable[[], None] | None
) -> None:
    """Read to the end; beyond ``limit`` keep just one byte more, as a mark, and say ``full``."""
    with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
        async for chunk in stream:
            into += chunk[: limit + 1 - len(into)]
            if full and len(into) > limit:
                full()


async def _end(process: Process, *, finished: bool) -> None:
    """Close the pipes; unless the child ended by itself, first end its whole group."""
    if not finished:
        _signal_group(process, signal.SIGTERM)
        with anyio.move_on_after(GRACE_S):
            await process.wait()
        # Also when the child itself is gone: a grandchild may have stayed.
        _signal_group(process, signal.SIGKILL)
        with anyio.move_on_after(GRACE_S):
            await process.wait()
    with anyio.move_on_after(1):
        await process.aclose()


def _signal_group(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)

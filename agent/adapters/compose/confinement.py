"""Compose where it sees the files that it is to read and nothing else of the machine.

For whoever looks at files that nobody has judged yet: ``check`` and ``diff`` in a CI, ``plan``. A
name that was overlooked, or an environment that was misunderstood, leads to a file that is not
there then, and not into a log.

    event loop ──▶ a thread of its own: Landlock, no sockets ──▶ Compose …
                   (with an event loop of its own)               inherits both

Landlock is part of the kernel (Linux 5.13; on by default in Debian 12 and 13), asks for no
privileges, and containers of Docker may use it. The kernel restricts a thread and the processes
that it starts, so that a run costs nothing more. What is not opened can still be seen to be there
(``stat``). A script in the place of Compose starts programs that are not opened: :func:`hindrance`
tries that once, and Compose runs without all this there.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import platform
import stat
import struct
import sys
import threading
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio.to_thread

from agent.adapters import process
from agent.adapters.tasks import to_the_end
from agent.domain.errors import TransientError

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""The same numbers on every kind of machine."""
_VERSION = 1
_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""How many rights to files each version of Landlock knows."""
_LATEST_RIGHTS = 16
_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2
_SOCKET = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
"""Of each kind of machine its name for seccomp, and the number of ``socket``."""
_IO_URING, _FOREIGN = 425, 0x40000000
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
"""What a Compose needs that is not one file."""

_WARM_S = 10.0
_TRY_S = 60.0
_prepared = threading.Event()
_UNCONFINED = "Compose can read all files of this machine:"
NO_LANDLOCK = (
    f"{_UNCONFINED} this kernel, or the container around this, has no Landlock",
    "Linux 5.13 or newer has it, and Docker 20.10.24 or newer lets a container use it",
)
_HINT = (
    "put Compose itself in its place, which is where Docker's plugin is, for example "
    "/usr/libexec/docker/cli-plugins/docker-compose"
)


def possible() -> bool:
    """Whether the kernel can do it, for this process."""
    return _version() > 0


async def hindrance(program: Path) -> tuple[str, str] | None:
    """Why ``program`` cannot be :func:`confined` here, and what to do; None: it can be.

    It is asked for its version.
    """
    if not await anyio.to_thread.run_sync(possible):
        return NO_LANDLOCK
    try:
        async with confined(program, ()) as run:
            tried = await run([str(program), "version"], env={}, timeout_s=_TRY_S)
    except process.OverdueError:
        return None  # it did start
    except TransientError:
        tried = None
    if tried and tried.code == 0:
        return None
    return f"{_UNCONFINED} {program} starts other programs, as a script does", _HINT


@asynccontextmanager
async def confined(program: Path, readable: Iterable[Path]) -> AsyncIterator[process.Run]:
    """What runs ``program`` so that it can read no file but those at or below ``readable``.

    It has no network either. Only where there is no :func:`hindrance`.
    """
    await _prepare()
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    thread = threading.Thread(target=_work, args=(started, program, tuple(readable)), daemon=True)
    thread.start()
    loop, enough = await asyncio.wrap_future(started)

    async def run(*args: Any, **kwargs: Any) -> process.Result:
        there = asyncio.run_coroutine_threadsafe(process.run(*args, **kwargs), loop)
        return await asyncio.wrap_future(there)

    try:
        yield run
    finally:
        loop.call_soon_threadsafe(enough.set)
        await to_the_end(thread.join)


async def _prepare() -> None:
    """Run something once, so that Python has all its modules: the thread could not read any."""
    if not _prepared.is_set():
        with suppress(TransientError):
            await process.run(["cat"], env={"PATH": os.defpath}, timeout_s=_WARM_S, stdin=b"\n")
        _prepared.set()


def _work(
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]],
    program: Path,
    readable: Iterable[Path],
) -> None:
    """All that the thread does: it gives up what it does not need, and then runs what is asked."""

    async def serve() -> None:
        enough = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), enough))
        await enough.wait()
        # Nobody asks any more; what was cancelled is still being ended.
        if left := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(left)

    try:
        _restrict(program, readable)
        asyncio.run(serve())
    except BaseException as err:  # raised by the caller that waits for the thread
        if started.done():
            raise
        started.set_exception(err)


def _restrict(program: Path, readable: Iterable[Path]) -> None:
    """This thread, for the rest of its life. Raises OSError."""
    version = _version()
    handled = (1 << _RIGHTS.get(version, _LATEST_RIGHTS)) - 1
    attributes = struct.pack("=Q", handled)
    ruleset = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    try:
        for path in map(os.path.realpath, readable):
            _allow(ruleset, path, _READ_FILE | _READ_DIR)
        started = [os.path.realpath(each) for each in (program, process.LIMITER) if each]
        for path in (*started, *_LIBRARIES):
            with suppress(FileNotFoundError):
                _allow(ruleset, path, _READ_FILE | _READ_DIR | _EXECUTE)
        _allow(ruleset, os.devnull, _READ_FILE | _WRITE_FILE)
        _prctl(_NO_NEW_PRIVS, 1)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    _without_sockets()


def _allow(ruleset: int, path: str, rights: int) -> None:
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        fitting = rights if stat.S_ISDIR(os.fstat(handle).st_mode) else rights & ~_READ_DIR
        rule = struct.pack("=Qi", fitting, handle)
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(handle)


def _without_sockets() -> None:
    """As far as the numbers of this kind of machine are known."""
    if platform.machine() not in _SOCKET or sys.maxsize < 1 << 32:
        return
    name, socket = _SOCKET[platform.machine()]
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    allowed, refused = 0x7FFF0000, 0x00050000 | errno.EPERM
    steps = (
        (load, 0, 0, 4),  # the kind of machine
        (equal, 0, 5, name),
        (load, 0, 0, 0),  # the call
        (at_least, 3, 0, _FOREIGN),
        (equal, 2, 0, socket),
        (equal, 1, 0, _IO_URING),
        (answer, 0, 0, allowed),
        (answer, 0, 0, refused),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = struct.pack("@HP", len(steps), ctypes.addressof(code))
    _prctl(_SET_SECCOMP, _FILTER, program)


def _version() -> int:
    try:
        return _call(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    except OSError:
        return 0


def _call(number: int, *args: Any) -> int:
    return _checked(_libc().syscall(ctypes.c_long(number), *args))


def _prctl(option: int, value: int, more: bytes | None = None) -> None:
    none = ctypes.c_ulong(0)
    _checked(_libc().prctl(option, ctypes.c_ulong(value), more or none, none, none))


def _checked(answer: int) -> int:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return answer


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)

"""A quick way to start the agent: one process imports it, and is forked for each start.

A new interpreter needs a second of a core before the agent's first line, a fork some milliseconds.
What is forked is a process like any other: signals, locks, limits and descriptors are its own. It
runs `agent/__main__.py` as its main module and ends as an interpreter does. Two processes for each
start: the one between waits for the agent and reports how it ended.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tests import event_loop

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parents[2]
_MAIN = "from tests.sandbox import forkserver; forkserver.main()"
_REQUEST_BYTES = 100_000
_MEASURING = ("COVERAGE_PROCESS_START",)  # environment: the settings of `make coverage`
_WHEN_NEEDED = ("anyio._backends._asyncio", "anyio._core._subprocesses", "encodings.utf_8_sig")
"""What the modules of the agent import only when they run: a sixth of what a cycle costs."""
_WORK = {"run", "once"}  # what else a verb does, it does alone on its loop


class Forked:
    """An agent's process, as subprocess.Popen has it."""

    def __init__(self, words: Sequence[str], link: socket.socket) -> None:
        self.args = list(words)
        self._link = link
        self.returncode: int | None = None
        self.pid = int(link.recv(32))

    def poll(self) -> int | None:
        """The exit code (-n for signal n), or None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended; raises TimeoutExpired after that many seconds."""
        if self.returncode is None:
            self._link.settimeout(timeout)
            try:
                # Who tells it ends with its machine, too.
                self.returncode = int(self._link.recv(32) or -signal.SIGKILL)
            except (BlockingIOError, TimeoutError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            self._link.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The process that is forked; it ends with its creator, if nobody ends it before.

    `entry` is a command before its own, which enters other namespaces.
    """

    def __init__(self, entry: Sequence[str] = ()) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [*entry, sys.executable, "-c", _MAIN, str(theirs.fileno())],
                env={"PATH": os.defpath, "HOME": os.environ["HOME"], "LC_ALL": "C.UTF-8"}
                | {name: os.environ[name] for name in _MEASURING if name in os.environ},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                cwd=ROOT,
            )

    def start(
        self,
        words: Sequence[str],
        *,
        env: Mapping[str, str],
        stdio: tuple[int, int, int],
        cwd: Path = ROOT,
        constants: Mapping[str, float | str] | None = None,
    ) -> Forked:
        """Start `commitd words…` with this environment and these descriptors as 0, 1 and 2.

        `constants` of its modules, by their full names, are others than in the source.
        """
        asked = {"words": words, "env": dict(env), "cwd": str(cwd), "constants": constants or {}}
        request = json.dumps(asked).encode()
        link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self._control, [request], [theirs.fileno(), *stdio])
        return Forked(words, link)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def stop(self) -> None:
        """End it; agents that still run are left alone."""
        self._control.close()
        self._process.wait()


def _serve(control: socket.socket) -> None:
    """Import everything, then fork on request; returns in the process that is to be an agent."""
    for module in pkgutil.walk_packages([str(ROOT / "agent")], "agent."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in _WHEN_NEEDED:
        importlib.import_module(name)
    event_loop.forbidden()  # made once, and activated in each of them
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the processes between need no burial
    while True:
        request, descriptors, _, _ = socket.recv_fds(control, _REQUEST_BYTES, 4)
        if not request:
            os._exit(0)
        if os.fork() == 0:
            control.close()
            link, *stdio = descriptors
            _attend(json.loads(request), socket.socket(fileno=link), stdio)
            return
        for descriptor in descriptors:
            os.close(descriptor)


def _attend(request: dict[str, Any], link: socket.socket, stdio: list[int]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if pid := os.fork():
        for descriptor in stdio:
            os.close(descriptor)  # or a pipe would seem open when the agent has gone
        link.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(OSError):  # the tests have ended first
            link.send(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    link.close()
    for number, descriptor in enumerate(stdio):
        os.dup2(descriptor, number)
        os.close(descriptor)
    if any(name in os.environ for name in _MEASURING):
        importlib.import_module("coverage").process_startup()
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    time.tzset()
    sys.argv[1:] = request["words"]
    for name, value in request["constants"].items():
        module, _, constant = name.rpartition(".")
        getattr(sys.modules[module], constant)  # a name that is none would be set in vain
        setattr(sys.modules[module], constant, value)
    if _WORK.intersection(request["words"]):
        event_loop.watch()


def main() -> None:
    """The server's process, and then each agent's."""
    _serve(socket.socket(fileno=int(sys.argv[1])))
    try:
        runpy.run_module("agent", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, int) and threading.active_count() == 1:
            _end(end.code)
        raise


def _end(code: int) -> NoReturn:
    """End as an interpreter does, but do not take a thousand modules apart, which takes longest."""
    atexit._run_exitfuncs()
    gc.collect()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

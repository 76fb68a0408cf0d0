"""Servers and commands of the sandbox, each with a deadline and a readable failure."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


# Debian's own programs, not what a developer has put in front of them; dockerd finds its helpers
# here too.
_DEBIAN_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class SandboxError(Exception):
    """The sandbox cannot do what was asked; the message says why and, where known, what to do."""


def run(
    argv: Sequence[str | Path],
    *,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 120,
) -> bytes:
    """Run one of Debian's programs, or any by its path, to its end and return its stdout.

    `env` adds to the environment; `timeout` is in seconds. Raises SandboxError with the command's
    stderr when it exits non-zero, or when the time is up.
    """
    words = " ".join(str(word) for word in argv)
    try:
        done = subprocess.run(
            [str(word) for word in argv],
            input=stdin,
            env=_environment(env or {}),
            cwd=cwd,
            timeout=timeout,
            capture_output=True,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SandboxError(f"`{words}` did not end within {timeout:g} s") from error
    if done.returncode != 0:
        complaint = done.stderr.decode(errors="replace").strip()
        raise SandboxError(f"`{words}` exited {done.returncode}: {complaint}")
    return done.stdout


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, "PATH": _DEBIAN_PATH, **extra}


def wait_until(condition: Callable[[], bool], *, what: str, seconds: float = 60) -> None:
    """Poll `condition` until it holds; raises SandboxError naming `what` after `seconds`.

    That many cost nothing where it holds, and a busy machine may need them.
    """
    deadline = (asked := time.monotonic()) + seconds
    while not condition():
        if (answered := time.monotonic()) > deadline:
            raise SandboxError(f"waited {seconds:g} s in vain for {what}")
        # To ask is work too, and what is waited for needs the processor more.
        time.sleep(min(max(0.02, 3 * (answered - asked)), 0.3))
        asked = time.monotonic()


def descendants(pid: int) -> list[int]:
    """The processes that this one has started, and that those have, whatever their sessions."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for parent in found:  # grows as it goes
        found += [child for child, of in parents.items() if of == parent]
    return found[1:]


def listens(port: int) -> bool:
    """Whether something accepts TCP connections on this loopback port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def answers_on_unix(path: Path) -> bool:
    """Whether something accepts connections on this Unix socket."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path))
        return True
    return False


def freeze(pid: int) -> None:
    """Stop a process (SIGSTOP), and return once none of its threads runs.

    On a busy machine those that no processor has yet told of the signal work on for a while.
    """
    os.kill(pid, signal.SIGSTOP)
    threads = Path(f"/proc/{pid}/task")

    def stopped() -> bool:
        with contextlib.suppress(OSError):  # a thread has ended meanwhile
            states = [stat.read_text().rpartition(")")[2] for stat in threads.glob("*/stat")]
            return all(state.startswith((" T", " Z")) for state in states)
        return False

    wait_until(stopped, what=f"process {pid} to stop")


class Daemon:
    """A server process that can be started, ended, frozen and started again.

    It runs in a session of its own, so that a Ctrl-C meant for the tests does not reach it before
    the tests have put things away.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        log: Path,
        ready: Callable[[], bool],
        leftover: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._argv = [str(word) for word in argv]
        self._log = log
        self._ready = ready
        self._env = env or {}
        self._leftover = (
            leftover  # a file of an earlier run that would keep the server from starting
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id, or None while it does not run."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Start the server unless it runs, and return once it is ready for clients.

        One that was left frozen runs on, so that the next test does not pay for it.
        """
        if self.pid is not None:
            self.send(signal.SIGCONT)
            return
        if self._leftover is not None:
            self._leftover.unlink(missing_ok=True)
        with self._log.open("ab") as log:
            self._process = process = subprocess.Popen(
                self._argv,
                env=_environment(self._env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

        def ready_or_dead() -> bool:
            if process.poll() is not None:
                raise SandboxError(
                    f"{self.name} ended with code {process.returncode}:\n{self.log_tail()}"
                )
            return self._ready()

        try:
            wait_until(ready_or_dead, what=f"{self.name} to answer", seconds=120)
        except SandboxError as error:
            raise SandboxError(f"{error}\n{self.log_tail()}") from error

    def send(self, signal_number: int) -> None:
        """Send a signal to the server's main process; nothing happens when it does not run."""
        if (pid := self.pid) is not None:
            os.kill(pid, signal_number)

    def freeze(self) -> None:
        """Keep the server from answering while the kernel accepts connections for it."""
        if (pid := self.pid) is not None:
            freeze(pid)

    def stop(self, signal_number: int = signal.SIGTERM, *, patience: float = 60) -> None:
        """End the server and its workers; by force when it has not gone in `patience` seconds."""
        process = self._process
        if process is None:
            return
        self.send(signal_number)
        self.send(signal.SIGCONT)  # a frozen process would never see the first signal
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        self._process = None

    def log_tail(self) -> str:
        """The last lines of what the server has written."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])

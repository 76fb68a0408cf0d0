"""Which programs a process starts: counted by strace, which sees every one of them begin.

strace makes what it watches slower, so nothing is timed meanwhile.
"""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STRACE = ("strace", "-f", "-v", "-qq", "-s", "80", "-e", "trace=execve", "-e", "signal=none")
_CALL = re.compile(r'^(\d+) +execve\("([^"]+)", \[(.*?)\], \[.*(= 0|<unfinished \.\.\.>)$')
_RESUMED = re.compile(r"^(\d+) +<\.\.\. execve resumed>.*= 0$")
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"')


class Watched:
    """Everything that a process has started, once it is read: process, program and its words."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.starts: list[tuple[int, Path, list[str]]] = []

    def read(self) -> None:
        """Take over what strace has written; what a process becomes later counts too."""
        unfinished: dict[str, re.Match[str]] = {}
        for line in self.log.read_text(errors="replace").splitlines():
            if resumed := _RESUMED.match(line):
                call = unfinished.pop(resumed[1], None)
            elif (call := _CALL.match(line)) and call[4] != "= 0":
                unfinished[call[1]] = call
                continue
            if call:
                words = _WORD.findall(call[3])
                self.starts.append((int(call[1]), Path(call[2]), words))

    def processes(self, prefix: str = "") -> int:
        """How many processes there were of programs whose name begins like that."""
        return len({pid for pid, path, _ in self.starts if path.name.startswith(prefix)})


@contextlib.contextmanager
def watched(pid: int, log: Path) -> Iterator[Watched]:
    """Watch this process and all that it starts; the result is there after the block."""
    found = Watched(log)
    with log.with_suffix(".said").open("wb") as said:
        strace = subprocess.Popen([*STRACE, "-o", str(log), "-p", str(pid)], stderr=said)
    try:
        wait_until(lambda: _traced(pid), what="strace to watch the agent")
        yield found
    finally:
        strace.send_signal(signal.SIGINT)
        strace.wait(30)
        found.read()


def command(argv: Sequence[str], log: Path) -> tuple[list[str], Watched]:
    """The command that runs this one and watches it; its result has to be read afterwards."""
    return [*STRACE, "-o", str(log), *argv], Watched(log)


def _traced(pid: int) -> bool:
    """Whether all threads of a process are being watched."""
    texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    return bool(texts) and all(
        re.search(r"^TracerPid:\t[1-9]", text, re.MULTILINE) for text in texts
    )

"""The agent's processes: forked off the fork server where there is one, or as people start them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tests.sandbox.forkserver import ROOT, Forked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.sandbox import Sandbox

Process = subprocess.Popen[bytes] | Forked

_MACHINE_ID = "agent.adapters.host.identity_file._MACHINE_ID"


def start(
    box: Sandbox,
    words: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path = ROOT,
    stdin: IO[bytes] | None = None,
    stdout: IO[bytes] | None = None,
    stderr: IO[bytes] | None = None,
    constants: Mapping[str, float | str] | None = None,
) -> Process:
    """Start `commitd words…`; what is not given is /dev/null. `constants` are for forked ones."""
    constants = with_machine_id(box, constants)
    with Path(os.devnull).open("r+b") as null:
        given, out, err = (file or null for file in (stdin, stdout, stderr))
        if box.forkserver is not None:
            stdio = (given.fileno(), out.fileno(), err.fileno())
            return box.forkserver.start(words, env=env, cwd=cwd, stdio=stdio, constants=constants)
        command = [sys.executable, "-m", "agent", *words]
        return subprocess.Popen(command, env=env, cwd=cwd, stdin=given, stdout=out, stderr=err)


def with_machine_id(
    box: Sandbox, constants: Mapping[str, float | str] | None
) -> dict[str, float | str]:
    """`constants`, and the number of one machine for all agents, which this one may lack."""
    number = box.root / "machine-id"
    if not number.exists():
        number.write_text(f"{0x5EED:032x}\n")
    return {_MACHINE_ID: str(number), **(constants or {})}


def run(
    box: Sandbox,
    words: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path = ROOT,
    stdin: str = "",
    timeout_s: float = 240,
    constants: Mapping[str, float | str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `commitd words…` to its end; raises TimeoutExpired, having killed it, after that long."""
    with contextlib.ExitStack() as stack:
        given, out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        given.write(stdin.encode())
        given.seek(0)
        process = start(
            box, words, env=env, cwd=cwd, stdin=given, stdout=out, stderr=err, constants=constants
        )
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        return subprocess.CompletedProcess(list(words), code, _content(out), _content(err))


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()

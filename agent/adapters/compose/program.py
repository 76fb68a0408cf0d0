"""Docker Compose as a program: with a stack's files, to be told their model; with a model, to act.

It gets an environment of Git's values (``interpolation``), explicit files and names, no prompt and
no network loaders. What it acts on comes by standard input: a container may have changed the files
in the checkout since they were judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread

from agent.adapters import memory_file, process
from agent.adapters.compose import errors, go_runtime, seccomp
from agent.adapters.compose.invocation import Invocation
from agent.domain.compose import given
from agent.domain.errors import CommitdError
from agent.domain.repository import interpolation

MODEL_TIMEOUT_S = 60.0
MEMORY = 192 * 1024**2
"""Bytes that one Compose may write to; for a hundred services it takes 95 MiB.

As many as deploy and repair at once, with the agent and a Git beside them, fit into the MemoryMax
of its service (``tests/unit/test_limits.py``).
"""
NICE = 10
"""Many at once must not keep the agent from ending a rogue."""
NO_LOADERS = {"COMPOSE_EXPERIMENTAL_GIT_REMOTE": "0", "COMPOSE_EXPERIMENTAL_OCI_REMOTE": "0"}


class Program:
    """The program at ``binary``, talking to the engine at ``docker_host``.

    A command may take ``timeout_s``. ``start`` runs the process.
    """

    def __init__(
        self, binary: Path, docker_host: str, timeout_s: float, start: process.Run = process.run
    ) -> None:
        self.binary = binary
        self._docker_host = docker_host
        self._timeout_s = timeout_s
        self._start = start

    async def read(
        self,
        call: Invocation,
        *words: str,
        instead: bytes = b"",
        values: Sequence[bytes] = (),
        pass_fds: Sequence[int] = (),
    ) -> process.Result:
        """Run it on the stack's files, or on the text ``instead`` with the stack's values.

        ``values`` are texts of env files that win over those of the stack; ``pass_fds`` are files
        that the text names.
        """
        argv = ["--project-name", call.stack.name, "--file", "-" if instead else str(call.file)]
        argv += ["--project-directory", str(call.file.parent)]
        # Without it Compose puts the directory it runs in into PWD.
        env, steering = _parted({**call.secrets, "PWD": str(call.directory)})
        runtime = await anyio.to_thread.run_sync(go_runtime.settings, call)
        with memory_file.several([*steering, *values]) as files:
            paths = list(files.values())
            secret, more = paths[: len(steering)], paths[len(steering) :]
            # First for the files that use these values, and last, because they win.
            for path in [*secret, *map(str, call.env_files), *more, *secret] or ["/dev/null"]:
                argv += ["--env-file", path]
            try:
                return await self.run(
                    [*argv, *words],
                    {**runtime, **env, **call.own},
                    call.hidden,
                    timeout_s=MODEL_TIMEOUT_S,
                    reading=True,
                    # An include of an included file takes some relative names from where it runs.
                    cwd=call.file.parent,
                    stdin=instead,
                    pass_fds=[*files, *pass_fds],
                )
            except CommitdError as err:
                raise _of_repository(err, call) from None

    async def give(
        self,
        call: Invocation,
        model: Mapping[str, Any],
        *words: str,
        timeout_s: float | None = None,
        reading: bool = False,
    ) -> process.Result:
        """Run it on ``model``, the only input that it gets of the stack.

        The project's directory is in the checkout, for people and tools that look for it.
        """
        argv = ["--project-name", call.stack.name, "--file", "-"]
        argv += ["--project-directory", str(call.directory)]
        if not reading:
            await anyio.to_thread.run_sync(seccomp.provide, call.private)
        env, steering = _parted(call.passed)
        builds = "--build" in words  # by programs that get the same environment
        text = given.text(model)
        runtime = {} if builds else go_runtime.settings_for(text, call.passed)
        with memory_file.several(steering) as files:
            for path in files.values() or ["/dev/null"]:
                argv += ["--env-file", path]
            return await self.run(
                [*argv, *words],
                {**runtime, **env, **call.own},
                call.hidden,
                timeout_s=MODEL_TIMEOUT_S if reading else timeout_s,
                memory=None if builds else MEMORY,
                reading=reading,
                stdin=text,
                pass_fds=list(files),
            )

    async def run(
        self,
        words: Sequence[str],
        env: Mapping[str, str],
        secrets: Sequence[str],
        *,
        timeout_s: float | None = None,
        memory: int | None = MEMORY,
        reading: bool = False,
        cwd: Path = Path("/"),
        stdin: bytes = b"",
        pass_fds: Sequence[int] = (),
    ) -> process.Result:
        """Run it with these words; raises what it means that it failed, without ``secrets``."""
        result = await self._start(
            [
                str(self.binary), "--host", self._docker_host,
                "--ansi", "never", "--progress", "quiet", *words,
            ],
            env={**env, **NO_LOADERS},
            timeout_s=timeout_s or self._timeout_s,
            max_memory=memory,
            nice=NICE,
            cwd=cwd,
            stdin=stdin,
            pass_fds=pass_fds,
        )  # fmt: skip
        if result.code != 0:
            raise await anyio.to_thread.run_sync(
                partial(errors.meaning, result, secrets, reading=reading)
            )
        return result


def _of_repository(err: CommitdError, call: Invocation) -> CommitdError:
    """The error, about files as they are called in Git, where they are mended."""

    def shown(text: str | None) -> str | None:
        return text and text.replace(f"{call.root}/", "").replace(f"{call.checkout}/", "")

    return type(err)(shown(err.message) or "", where=shown(err.where), hint=err.hint)


def _parted(values: Mapping[str, str]) -> tuple[dict[str, str], list[bytes]]:
    """``values`` as an environment, and those that steer programs as the text of an env file."""
    steering = {k: v for k, v in values.items() if interpolation.steers(k)}
    other = {k: v for k, v in values.items() if k not in steering}
    return other, [interpolation.env_file(steering)] if steering else []

"""Docker Compose, run as its own binary on one project at a time.

It gets an environment of Git's values (``interpolation``), explicit files and names, no prompt and
no network loaders. Never
``-v``, ``-y``, ``-V`` or ``--remove-orphans``: what it may take for an orphan
can be a container that is kept, or that was there first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread

from agent.adapters import memory_file, process
from agent.adapters.compose import errors, older_model, own_variables
from agent.adapters.compose.invocation import Invocation
from agent.adapters.compose.own_variables import OwnVariables
from agent.domain.errors import PermanentError, TransientError
from agent.domain.repository import compose_paths, interpolation
from agent.domain.repository.compose_paths import Variable

MODEL_TIMEOUT_S = 60.0
NICE = 10
"""Many at once must not keep the agent from ending a rogue."""
MODEL_MEMORY = 4 * 1024**3
_NO_LOADERS = {"COMPOSE_EXPERIMENTAL_GIT_REMOTE": "0", "COMPOSE_EXPERIMENTAL_OCI_REMOTE": "0"}
_NO_HOME = b"the environment lacks HOME"
"""Compose was to expand a ``~``."""
_UNSET = re.compile(r'The \\?"([A-Za-z_]\w*)\\?" variable is not set', re.ASCII)


class ClimbingError(PermanentError):
    """Variables lead names of files out of the directories that count as read; nothing was read.

    ``found`` has a message for each, with ``file:line`` in front.
    """

    def __init__(self, found: list[tuple[Variable, str]]) -> None:
        super().__init__("; ".join(said for _, said in found))
        self.found = found


class StillWaitingError(TransientError):
    """Services wait for others that did not become healthy in time."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """``model`` is what ``docker compose config`` prints, with every ``$`` of a value doubled.

    ``unset`` are the variables that its files, env files included, take from nowhere. ``own`` are
    those of the agent's variables without which Compose cannot run the stack.
    """

    model: Mapping[str, Any]
    unset: frozenset[str]
    own: Mapping[str, str] = field(default_factory=dict)


class Compose:
    """The program at ``binary``, talking to the engine at ``docker_host``."""

    def __init__(self, binary: Path, docker_host: str, timeout_s: float) -> None:
        self._binary = binary
        self._docker_host = docker_host
        self._timeout_s = timeout_s
        self._own = OwnVariables(docker_host)

    async def resolve(self, call: Invocation) -> Resolved:
        """What ``call`` means once its files are read and combined; needs no engine.

        Nothing is judged here. Raises :class:`ClimbingError`, and :class:`CommitdError`, also when
        the stack needs variables of the agent's own (``~``, ``build:``) that it uses for something
        else.
        """
        if call.stack.variables:
            await self._refuse_to_climb(call)
        clean = await self._config(call)
        own, why = self._own.needed(
            clean.model, build=call.stack.policy.builds, tilde=bool(clean.own)
        )
        if own:
            found = await self._config(replace(call, own=own))
            home = own.get("HOME", "")
            if next(interpolation.moved(clean.model, found.model, home), None):
                raise PermanentError(
                    f"{why} needs the agent's own {', '.join(sorted(own))}, and the stack uses a "
                    "variable of that name",
                    where=await anyio.to_thread.run_sync(call.defined, own),
                    hint="give the variable another name"
                    + (", or write the directory out instead of ~" if home else ""),
                )
            return replace(found, unset=clean.unset, own=own)
        if "HOME" in clean.unset:
            await self._keep_mounts(call, clean.model)
        return clean

    async def _keep_mounts(self, call: Invocation, model: Mapping[str, Any]) -> None:
        """Refuse a mount that an empty ``${HOME}`` would move: the agent's own was used once."""
        home = own_variables.home()
        found = await self._config(replace(call, own={"HOME": home}))
        moved = interpolation.moved(model, found.model, home)
        if sources := [at for at in moved if at[-1] in {"source", "device"}]:
            raise PermanentError(
                f"{sources[0][1]}: HOME is not set, so that another directory would be mounted "
                "than one in the agent's home",
                where=await anyio.to_thread.run_sync(call.defined, ["HOME"]),
                hint="set HOME in an env file (HOME=/root, if the agent runs as root)",
            )

    async def hashes(self, call: Invocation, model: Mapping[str, Any]) -> dict[str, str]:
        """The config hash that ``up`` labels the containers of each service with.

        ``model`` is what ``call`` resolves to. Of the files themselves older versions of Compose
        make other hashes than ``up`` does, because they leave out the values of env files.
        """
        if not model.get("services"):
            return {}
        result = await self._stack(
            call, "config", "--hash", "*",
            timeout_s=MODEL_TIMEOUT_S, memory=MODEL_MEMORY, reading=True,
            instead=json.dumps(model).encode(),
        )  # fmt: skip
        pairs = (line.split() for line in result.out.decode(errors="replace").splitlines())
        return {pair[0]: pair[1] for pair in pairs if len(pair) == len(("name", "hash"))}

    async def _refuse_to_climb(self, call: Invocation) -> None:
        """Refuse names of files that lead elsewhere than seemed, once values are put in."""
        labels = {str(i): variable.name for i, variable in enumerate(call.stack.variables)}
        content = {"services": {"names": {"image": "none", "labels": labels}}}
        resolved = await self._config(call, json.dumps(content).encode())
        finished = resolved.model["services"]["names"]["labels"]
        names = [finished[key].replace("$$", "$") for key in labels]
        if found := compose_paths.climbing(call.stack.variables, names):
            raise ClimbingError(found)

    async def _config(self, call: Invocation, instead: bytes = b"") -> Resolved:
        """What the stack's file resolves to, or the text ``instead``."""
        result = await self._stack(
            call,
            "config",
            "--format",
            "json",
            timeout_s=MODEL_TIMEOUT_S,
            memory=MODEL_MEMORY,
            reading=True,
            instead=instead,
        )
        try:
            model = json.loads(result.out)
        except ValueError:
            raise TransientError(f"{self._binary} printed no model") from None
        older_model.as_mappings(model)
        older_model.without_profiles(model)
        await older_model.merge_env_files(model, partial(self._with_values, call))
        said = result.err.decode(errors="replace")
        own = {"HOME": own_variables.home()} if _NO_HOME in result.err else {}
        return Resolved(model, frozenset(_UNSET.findall(said)), own)

    async def _with_values(
        self, call: Invocation, paths: Sequence[Path], content: bytes
    ) -> dict[str, Any]:
        """What ``content`` resolves to where the files at ``paths`` give values as well."""
        call = replace(call, env_files=(*call.env_files, *paths))
        return dict((await self._config(call, content)).model)

    async def up(self, call: Invocation) -> None:
        """Create, recreate and start what differs, from images that are here."""
        await self._stack(call, "up", "--detach", "--pull", "never", _build(call))

    async def create(self, call: Invocation) -> None:
        """The first half of :meth:`up`: nothing is started yet."""
        await self._stack(call, "up", "--no-start", "--pull", "never", _build(call))

    async def start(self, call: Invocation, timeout_s: float) -> None:
        """The second half, in which services wait for each other.

        Raises :class:`StillWaitingError` after ``timeout_s``; what was started runs on.
        """
        words = ("up", "--detach", "--pull", "never", "--no-build")
        try:
            await self._stack(call, *words, timeout_s=timeout_s)
        except process.OverdueError as err:
            raise StillWaitingError(err.message) from None

    async def recreate(self, call: Invocation, service: str, *, start: bool = True) -> None:
        """Replace the containers of one service by equal ones; their volumes go over to them.

        Without ``start`` they do not run yet.
        """
        await self._stack(
            call, "up", "--detach" if start else "--no-start", "--pull", "never", "--no-build",
            "--force-recreate", "--no-deps", service,
        )  # fmt: skip

    async def read(self, *words: str, cwd: Path, stdin: bytes = b"") -> dict[str, Any]:
        """What ``config`` says of files that a person keeps, which ``words`` name.

        Raises :class:`CommitdError` without Compose's own words: they can quote a secret.
        """
        result = await process.run(
            [str(self._binary), "--ansi", "never", *words, "--format", "json"],
            # As far as anybody knows, what was there when that person ran Compose.
            env={**own_variables.of_a_person(), **_NO_LOADERS},
            timeout_s=MODEL_TIMEOUT_S,
            cwd=cwd,
            stdin=stdin,
        )
        if result.code != 0:
            hint = "docker compose config says why"
            raise PermanentError("Compose cannot read its files", where=str(cwd), hint=hint)
        found: dict[str, Any] = json.loads(result.out)

        async def ask(paths: Sequence[Path], content: bytes) -> dict[str, Any]:
            more = [word for path in paths for word in ("--env-file", str(path))]
            start = words[: words.index("config")]
            return await self.read(
                *_without_files(start), *more, "--file", "-", "config", cwd=cwd, stdin=content
            )

        older_model.as_mappings(found)
        if "--no-interpolate" not in words:
            await older_model.merge_env_files(found, ask)
        return found

    async def down(self, project: str) -> None:
        """Take a project down by its labels: containers and networks go, volumes stay."""
        # From "/", so that no file of anybody's is found; the labels tell Compose all it needs.
        await self._run(["--project-name", project, "down"], {}, ())

    async def _stack(
        self,
        call: Invocation,
        *words: str,
        timeout_s: float | None = None,
        memory: int | None = None,
        reading: bool = False,
        instead: bytes = b"",
    ) -> process.Result:
        """``instead`` is a Compose file in place of the stack's own."""
        argv = ["--project-name", call.stack.name, "--file", "-" if instead else str(call.file)]
        argv += ["--project-directory", str(call.file.parent)]
        steering = {k: v for k, v in call.secrets.items() if interpolation.steers(k)}
        other = {k: v for k, v in call.secrets.items() if k not in steering}
        env_files, handles = [str(path) for path in call.env_files], []
        with ExitStack() as memory_files:
            if steering:
                content = interpolation.env_file(steering)
                handles = [memory_files.enter_context(memory_file.holding(content))]
                # First for the files that use these values, and last, because they win.
                secret = memory_file.path(handles[0])
                env_files = [secret, *env_files, secret]
            for path in env_files or ["/dev/null"]:
                argv += ["--env-file", path]
            return await self._run(
                [*argv, *words],
                {**other, **call.own},
                call.hidden,
                timeout_s=timeout_s,
                memory=memory,
                reading=reading,
                # An include of an included file takes some relative names from where Compose runs.
                cwd=call.file.parent,
                stdin=instead,
                pass_fds=handles,
            )

    async def _run(
        self,
        words: Sequence[str],
        env: Mapping[str, str],
        secrets: Sequence[str],
        *,
        timeout_s: float | None = None,
        memory: int | None = None,
        reading: bool = False,
        cwd: Path = Path("/"),
        stdin: bytes = b"",
        pass_fds: Sequence[int] = (),
    ) -> process.Result:
        result = await process.run(
            [
                str(self._binary), "--host", self._docker_host,
                "--ansi", "never", "--progress", "quiet", *words,
            ],
            env={**env, **_NO_LOADERS},
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


def _without_files(words: Sequence[str]) -> list[str]:
    """Options of Compose without the files that it would read."""
    pairs = zip(words[::2], words[1::2], strict=True)
    return [word for option, value in pairs if option != "--file" for word in (option, value)]


def _build(call: Invocation) -> str:
    return "--build" if call.stack.policy.builds else "--no-build"

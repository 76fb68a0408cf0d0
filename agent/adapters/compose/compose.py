"""What the agent asks of Docker Compose, one project at a time.

Never ``-v``, ``-y``, ``-V`` or ``--remove-orphans``: what it may take for an orphan
can be a container that is kept, or that was there first.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
from msgspec import Struct, field
from msgspec.structs import replace

from agent.adapters import memory_file, process
from agent.adapters.compose import (
    confinement,
    finished_names,
    go_runtime,
    older_model,
    own_variables,
    seccomp,
)
from agent.adapters.compose.invocation import Invocation
from agent.adapters.compose.own_variables import OwnVariables
from agent.adapters.compose.program import MODEL_TIMEOUT_S, NO_LOADERS, Program
from agent.domain.compose import given
from agent.domain.errors import PermanentError, TransientError
from agent.domain.repository import compose_paths, interpolation
from agent.domain.repository.compose_paths import Variable

Model = Mapping[str, Any]
"""What ``docker compose config --format json`` prints, see :mod:`agent.domain.compose.given`."""

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


class Resolved(Struct, frozen=True):
    """``model`` is what the files say, with every ``$`` of a value doubled.

    ``unset`` are the variables that its files, env files included, take from nowhere. ``own`` are
    those of the agent's variables without which Compose cannot run the stack. ``private`` are files
    that the model names and that are still to be made.
    """

    model: Mapping[str, Any]
    unset: frozenset[str]
    own: Mapping[str, str] = field(default_factory=dict)
    private: Mapping[Path, bytes] = field(default_factory=dict)


class Compose:
    """The program at ``binary``, talking to the engine at ``docker_host``."""

    def __init__(
        self, binary: Path, docker_host: str, timeout_s: float, start: process.Run = process.run
    ) -> None:
        self._program = Program(binary, docker_host, timeout_s, start)
        self._another = partial(Compose, binary, docker_host, timeout_s)
        self._own = OwnVariables(docker_host)
        self._tried: list[tuple[str, str] | None] = []

    @property
    def binary(self) -> Path:
        """The program."""
        return self._program.binary

    async def hindrance(self) -> tuple[str, str] | None:
        """Why :meth:`seeing` does not hold this Compose back, and what to do; None: it does."""
        if not self._tried:
            self._tried.append(await confinement.hindrance(self._program.binary))
        return self._tried[0]

    @asynccontextmanager
    async def seeing(self, *readable: Path) -> AsyncIterator[Compose]:
        """The same, able to read only what is at or below these paths; see :meth:`hindrance`."""
        if await self.hindrance():
            yield self
            return
        async with confinement.confined(self._program.binary, readable) as run:
            yield await anyio.to_thread.run_sync(self._another, run)  # it looks at the disk

    async def resolve(self, call: Invocation) -> Resolved:
        """What ``call`` means once its files are read and combined; needs no engine.

        Nothing is judged here. Raises :class:`ClimbingError`, and :class:`CommitdError`, also when
        the stack needs variables of the agent's own (``~``, ``build:``) that it uses for something
        else.
        """
        found = await self._resolved(call)
        if not (names := given.seccomp(found.model)):
            return found
        contents = await anyio.to_thread.run_sync(
            seccomp.read, call.root, call.file.parent, names, call.stack.compose
        )
        places = {name: seccomp.called(call.profiles, text) for name, text in contents.items()}
        model = given.with_seccomp(found.model, {name: str(path) for name, path in places.items()})
        private = {places[name]: text for name, text in contents.items()}
        return replace(found, model=model, private=private)

    async def _resolved(self, call: Invocation) -> Resolved:
        clean = await self._judged(call)
        own, why = self._own.needed(
            clean.model, build=call.stack.policy.builds, tilde=bool(clean.own)
        )
        if own:
            found = await self._judged(replace(call, own=own))
            home = own.get("HOME", "")
            if next(interpolation.used(clean.model, found.model, own), None):
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
        found = await self._judged(replace(call, own={"HOME": home}))
        moved = interpolation.moved(model, found.model, home)
        if sources := [at for at in moved if at[-1] in {"source", "device"}]:
            raise PermanentError(
                f"{sources[0][1]}: HOME is not set, so that another directory would be mounted "
                "than one in the agent's home",
                where=await anyio.to_thread.run_sync(call.defined, ["HOME"]),
                hint="set HOME in an env file (HOME=/root, if the agent runs as root)",
            )

    async def passed(self, call: Invocation, model: Model) -> dict[str, str]:
        """The values that ``model``, which ``call`` resolves to, leaves to be looked up.

        Raises :class:`PermanentError` for one that nothing sets.
        """
        names = {**dict.fromkeys(_READ_BY_COMPOSE & call.names, ()), **given.variables(model)}
        if not names:
            return {}
        found = await self._config(call, _labels({name: f"${{{name}}}" for name in names}))
        if unset := sorted(names.keys() & found.unset):
            kind, key = names[unset[0]][:2]
            raise PermanentError(
                f"{kind}: {key}: nothing sets the variable {unset[0]}",
                where=call.stack.compose,
                hint="set it in an env file of the stack; that of an included file does not count",
            )
        return _labelled(found.model)

    async def hashes(self, call: Invocation, model: Model) -> dict[str, str]:
        """The config hash that ``up`` of ``model`` labels the containers of each service with."""
        if not model.get("services"):
            return {}
        result = await self._program.give(call, model, "config", "--hash", "*", reading=True)
        pairs = (line.split() for line in result.out.decode(errors="replace").splitlines())
        return {pair[0]: pair[1] for pair in pairs if len(pair) == len(("name", "hash"))}

    async def _judged(self, call: Invocation) -> Resolved:
        """What the stack's file resolves to, unless values lead names of files elsewhere."""
        if variables := call.stack.variables:
            with finished_names.asking(variables, call.root) as (question, handles):
                answer = await self._config(call, question, pass_fds=handles)
            names = finished_names.answered(answer.model, variables)
            if found := compose_paths.climbing(variables, names):
                raise ClimbingError(found)
        return await self._config(call)

    async def _config(
        self,
        call: Invocation,
        instead: bytes = b"",
        values: Sequence[bytes] = (),
        pass_fds: Sequence[int] = (),
    ) -> Resolved:
        """What the stack's file resolves to, or the text ``instead`` with more ``values``."""
        words = ("config", "--format", "json")
        result = await self._program.read(
            call, *words, instead=instead, values=values, pass_fds=pass_fds
        )
        try:
            model = given.printed(result.out)
        except ValueError:
            raise TransientError("Docker Compose printed no model") from None
        older_model.as_mappings(model)
        older_model.without_profiles(model)
        await older_model.merge_env_files(model, partial(self._with_values, call), call.root)
        said = result.err.decode(errors="replace")
        own = {"HOME": own_variables.home()} if _NO_HOME in result.err else {}
        return Resolved(model, frozenset(_UNSET.findall(said)), own)

    async def _with_values(
        self, call: Invocation, texts: Sequence[bytes], content: bytes
    ) -> dict[str, Any]:
        """What ``content`` resolves to where ``texts`` give values as well."""
        return dict((await self._config(call, content, texts)).model)

    async def up(self, call: Invocation, model: Model) -> None:
        """Create, recreate and start what differs, from images that are here."""
        await self._program.give(call, model, "up", "--detach", "--pull", "never", _build(call))

    async def create(self, call: Invocation, model: Model) -> None:
        """The first half of :meth:`up`: nothing is started yet."""
        await self._program.give(call, model, "up", "--no-start", "--pull", "never", _build(call))

    async def start(self, call: Invocation, model: Model, timeout_s: float) -> None:
        """The second half, in which services wait for each other.

        Raises :class:`StillWaitingError` after ``timeout_s``; what was started runs on.
        """
        words = ("up", "--detach", "--pull", "never", "--no-build")
        try:
            await self._program.give(call, model, *words, timeout_s=timeout_s)
        except process.OverdueError as err:
            raise StillWaitingError(err.message) from None

    async def recreate(
        self, call: Invocation, model: Model, service: str, *, start: bool = True
    ) -> None:
        """Replace the containers of one service by equal ones; their volumes go over to them.

        Without ``start`` they do not run yet.
        """
        await self._program.give(
            call, model, "up", "--detach" if start else "--no-start", "--pull", "never",
            "--no-build", "--force-recreate", "--no-deps", service,
        )  # fmt: skip

    async def read(
        self, *words: str, cwd: Path, stdin: bytes = b"", pass_fds: Sequence[int] = ()
    ) -> dict[str, Any]:
        """What ``config`` says of files that a person keeps, which ``words`` name.

        Raises :class:`CommitdError` without Compose's own words: they can quote a secret.
        """
        result = await process.run(
            [str(self._program.binary), "--ansi", "never", *words, "--format", "json"],
            # As far as anybody knows, what was there when that person ran Compose.
            env={**own_variables.of_a_person(), **NO_LOADERS},
            timeout_s=MODEL_TIMEOUT_S,
            cwd=cwd,
            stdin=stdin,
            pass_fds=pass_fds,
        )
        if result.code != 0:
            hint = "docker compose config says why"
            raise PermanentError("Compose cannot read its files", where=str(cwd), hint=hint)
        found: dict[str, Any] = json.loads(result.out)

        async def ask(texts: Sequence[bytes], content: bytes) -> dict[str, Any]:
            start = _without_files(words[: words.index("config")])
            with memory_file.several(texts) as files:
                more = [word for path in files.values() for word in ("--env-file", path)]
                last = ("--file", "-", "config")
                return await self.read(
                    *start, *more, *last, cwd=cwd, stdin=content, pass_fds=list(files)
                )

        older_model.as_mappings(found)
        if "--no-interpolate" not in words:
            await older_model.merge_env_files(found, ask)
        return found

    async def down(self, project: str) -> None:
        """Take a project down by its labels: containers and networks go, volumes stay."""
        # From "/", so that no file of anybody's is found; the labels tell Compose all it needs.
        await self._program.run(["--project-name", project, "down"], go_runtime.SETTINGS, ())


_READ_BY_COMPOSE = frozenset({"DOCKER_DEFAULT_PLATFORM"})
"""Variables that Compose reads from a stack's values as settings of its own."""


def _labels(texts: Mapping[str, str]) -> bytes:
    """A Compose file by which Compose puts values into ``texts``; see :func:`_labelled`."""
    return json.dumps({"services": {"asked": {"image": "none", "labels": dict(texts)}}}).encode()


def _labelled(model: Model) -> dict[str, str]:
    """The texts of :func:`_labels` in what it resolves to."""
    found = model["services"]["asked"]["labels"]
    return {key: str(value).replace("$$", "$") for key, value in found.items()}


def _without_files(words: Sequence[str]) -> list[str]:
    """Options of Compose without the files that it would read."""
    pairs = zip(words[::2], words[1::2], strict=True)
    return [word for option, value in pairs if option != "--file" for word in (option, value)]


def _build(call: Invocation) -> str:
    return "--build" if call.stack.policy.builds else "--no-build"

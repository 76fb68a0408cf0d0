"""Writing what runs on a host into a repository, and proving that nothing changes.

What that is, Compose projects of an engine or stacks of a Swarm, is :class:`Running`'s.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import anyio.to_thread
from msgspec import Struct, field

from agent.adapters.clone.clone import Clone
from agent.adapters.compose import locate
from agent.adapters.engine.engine import Engine
from agent.adapters.host import directories
from agent.control.adopt.adopted_secrets import AdoptedSecrets, Sealing
from agent.control.adopt.running import Running
from agent.domain import documents
from agent.domain.adopt.convert import Converted
from agent.domain.config import Config
from agent.domain.container import Container
from agent.domain.errors import CommitdError, ConfigError, did_you_mean
from agent.domain.recipients import rules as sops_rules
from agent.domain.repository import fleet_policy, layout
from agent.domain.repository.desired import DesiredState
from agent.domain.repository.layout import SECRET_SUFFIX
from agent.domain.repository.tree import PLAIN, TreeEntry, blob_id
from agent.domain.revision import Revision

PLAIN_SUFFIX = ".plain"
"""Of secrets that nobody could encrypt here. Git ignores them."""
IGNORED = f"*{SECRET_SUFFIX}{PLAIN_SUFFIX}"

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_SEALED = b"sops_mac=x\n"
"""Stands for a file that will be encrypted."""
_NOBODY = Revision(sha="0" * 40, author="", committed_at="", subject="")
_MARKS = (".git", "stacks", "host")
"""What is in a clone of a repository, or will be."""


class Taken(Struct, kw_only=True):
    """What became of one project.

    ``refused`` is why nothing was written; ``changes`` what its first deploy would do to what
    runs, None: nothing. ``plain`` are secrets that are still to be encrypted.
    """

    name: str
    files: list[str] = field(default_factory=list)
    pinned: dict[str, str] = field(default_factory=dict)
    secret: list[str] = field(default_factory=list)
    plain: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    refused: str | None = None
    changes: str | None = None


class AdoptResult(Struct, frozen=True):
    """What became of each project that was asked for.

    ``loose`` are running containers of no project, ``managed`` the projects that the agent runs
    already; ``rules`` is whether ``.sops.yaml`` was written, ``policy`` which other files were, and
    ``swarm`` that all this are stacks and services of a Swarm.
    """

    taken: list[Taken]
    loose: list[Container]
    managed: list[str]
    rules: bool = False
    policy: list[str] = field(default_factory=list)
    swarm: bool = False


class Draft(Struct, frozen=True):
    """A project that fits into the layout."""

    taken: Taken
    converted: Converted

    @property
    def files(self) -> dict[str, bytes]:
        """As they will be committed, with something in the place of each secret."""
        return {**self.converted.files, **dict.fromkeys(self.converted.secrets, _SEALED)}


async def adopt(
    config: Config, directory: Path, names: Sequence[str], recipients: tuple[str, ...]
) -> AdoptResult:
    """Take what is called so, or all that no agent runs, into the clone in ``directory``.

    Secrets are encrypted for ``recipients`` too. Raises :class:`CommitdError` for what is wrong
    with all of it.
    """
    await anyio.to_thread.run_sync(_refuse_other_places, directory, config)
    sealing = await anyio.to_thread.run_sync(Sealing.of, config, recipients)
    docker_host = directories.docker_host(config)
    program = await locate.find(docker_host, config.converge.timeout)
    async with Engine(docker_host) as engine:
        running: Running
        if config.docker.mode == "swarm":
            from agent.control.adopt.stacks import RunningStacks  # noqa: PLC0415  of no use to a host

            running = RunningStacks(program, engine)
        else:
            from agent.control.adopt.projects import RunningProjects  # noqa: PLC0415

            running = RunningProjects(program, engine, config.state_dir)
        takeover = Takeover(Clone(directory), config.host, running, sealing=sealing)
        return await takeover.run(names)


def _refuse_other_places(directory: Path, config: Config) -> None:
    """Only where there is a clone: a name that was mistyped makes no repository."""
    hint = f"commitd init {shlex.quote(str(directory))} --host {config.host} makes a new one"
    if directory.resolve().is_relative_to(config.state_dir):
        what, hint = "this is the agent's own", "take one of your own, from which you push"
    elif not directory.is_dir():
        what = "there is no such directory"
    elif not any((directory / mark).exists() for mark in _MARKS):
        what = f"there is neither {', '.join(_MARKS[:-1])} nor {_MARKS[-1]} in it"
    else:
        return
    raise ConfigError(
        f"DIR must be a clone of your repository: {what}", where=str(directory), hint=hint
    )


class Takeover:
    """For ``host``, into the clone."""

    def __init__(
        self, clone: Clone, host: str, running: Running, *, sealing: Sealing | None
    ) -> None:
        self._clone = clone
        self._host = host
        self._running = running
        self._sealing = sealing

    async def run(self, names: Sequence[str]) -> AdoptResult:
        """Take those called so, or all that no agent runs.

        Raises :class:`CommitdError` for what is wrong with all of it.
        """
        running = await self._running.find()
        for name in names:
            if name not in running.names:
                hint = did_you_mean(name, running.names, running.hint)
                raise ConfigError(f"no {running.kind} {name!r} runs here", hint=hint)
        ours = running.managed
        asked = [name for name in running.names if (name in names if names else name not in ours)]
        found = [await self._draft(name, managed=name in ours) for name in asked]
        drafts = {each.taken.name: each for each in found if isinstance(each, Draft)}
        policy = self._policy()
        await self._prove(drafts, {self._list: self._listing(drafts), **policy})
        rules = await self._write_all(
            [draft for draft in drafts.values() if draft.taken.refused is None], policy
        )
        taken = [each.taken if isinstance(each, Draft) else each for each in found]
        said = list(policy) if any(each.files for each in taken) else []
        return AdoptResult(taken, running.loose, ours, rules, said, self._running.swarm)

    async def _draft(self, name: str, *, managed: bool) -> Draft | Taken:
        taken = Taken(name=name)
        try:
            if managed:
                raise ConfigError(
                    "commitd runs it already, from Git", where=self._running.place(name)
                )
            if not _NAME.fullmatch(name):
                raise ConfigError("its name cannot be that of a stack")
            if self._clone.has(f"stacks/{name}"):
                raise ConfigError("it is there already", where=f"stacks/{name}")
            converted, pins = await self._running.convert(name)
        except CommitdError as err:
            taken.refused = str(err)
            return taken
        taken.pinned = dict(pins)
        taken.secret = list(converted.moved)
        taken.notes = list(converted.notes)
        return Draft(taken, converted)

    # --- the proof ---

    async def _prove(self, drafts: Mapping[str, Draft], around: Mapping[str, bytes]) -> None:
        """Read the result as the agent will, and ask whether all of it is there already."""
        contents = {**self._clone.around_stacks(self._host), **around}
        opened: dict[str, bytes] = {}
        for draft in drafts.values():
            contents |= draft.files
            opened |= {path: draft.converted.plaintext(path) for path in draft.converted.secrets}
        tree = {path: _entry(path, content) for path, content in contents.items()}
        desired: DesiredState = layout.read(tree, contents, _NOBODY, self._host)
        for name, fault in desired.broken.items():
            if name in drafts:
                drafts[name].taken.refused = str(fault)
        mine = [stack for stack in desired.stacks if stack.name in drafts]
        judged = await self._running.judge(mine, tree=tree, contents=contents, opened=opened)
        for name, found in judged.items():
            drafts[name].taken.refused = found.refused
            drafts[name].taken.changes = found.changes

    # --- what is written ---

    @property
    def _list(self) -> str:
        return f"host/{self._host}/stacks.yaml"

    def _policy(self) -> dict[str, bytes]:
        """The host's policy file, if that has to say that it is a Swarm, and does not yet.

        Raises :class:`CommitdError`.
        """
        path = fleet_policy.path_for(self._host)
        if not self._running.swarm:
            return {}
        found = {
            p: self._clone.read(p) for p in (fleet_policy.FLEET_PATH, path) if self._clone.has(p)
        }
        said = {p: fleet_policy.read(content, p).mode for p, content in found.items()}
        mode = said.get(path) or said.get(fleet_policy.FLEET_PATH)
        if said.get(path) == "host":
            raise ConfigError("says mode: host, and this is a Swarm", where=path)
        if mode == "swarm":
            return {}
        content = _ended(found.get(path, b"")) + b"mode: swarm\n"
        try:
            written = fleet_policy.read(content, path).mode
        except CommitdError:
            written = None
        if written != "swarm":
            raise ConfigError(
                "mode: swarm cannot be added to it", where=path, hint="add it yourself"
            )
        return {path: content}

    async def _write_all(self, drafts: Sequence[Draft], policy: Mapping[str, bytes]) -> bool:
        """All or nothing of each; whether the rules of ``.sops.yaml`` are others now."""
        if not drafts:
            return False
        listing = self._listing(draft.taken.name for draft in drafts)
        new = {path: content for draft in drafts for path, content in draft.files.items()}
        new[self._list] = listing
        secrets = AdoptedSecrets(self._clone, self._sealing, new)
        before = self._clone.read(sops_rules.PATH) if self._clone.has(sops_rules.PATH) else b""
        try:
            rules = await anyio.to_thread.run_sync(secrets.update_rules)
        except CommitdError as err:
            if not (self._sealing and self._sealing.asked):
                raise
            rules = False  # whom to encrypt for is said
            for draft in drafts:
                draft.taken.notes.append(f"{sops_rules.PATH}: its rules stay as they are: {err}")
        for draft in drafts:
            await self._write(draft, secrets)
        written = [draft.taken.name for draft in drafts if draft.taken.files]
        if written:
            for path, content in {self._list: self._listing(written), **policy}.items():
                await anyio.to_thread.run_sync(self._put, path, content)
        if rules and not written:
            self._clone.replace(sops_rules.PATH, before)
        elif rules and len(written) < len(drafts):
            AdoptedSecrets(self._clone, None, {}).update_rules()
        return rules and bool(written)

    async def _write(self, draft: Draft, secrets: AdoptedSecrets) -> None:
        taken, converted = draft.taken, draft.converted
        try:
            files = dict(converted.files)
            left = []
            for path in converted.secrets:
                content = await secrets.seal(path, converted.plaintext(path))
                if content is None:
                    left.append(path)
                else:
                    files[path] = content
            for path, content in files.items():
                await anyio.to_thread.run_sync(self._clone.create, path, content)
                taken.files.append(path)
            for path in left:
                plain = f"{path}{PLAIN_SUFFIX}"
                await anyio.to_thread.run_sync(self._put_plain, plain, converted.plaintext(path))
                taken.plain.append(plain)
        except CommitdError as err:  # half a stack would be in the way of the next try
            taken.refused = str(err)
            for path in (*taken.files, *taken.plain):
                await anyio.to_thread.run_sync(self._clone.discard, path)
            taken.files, taken.plain = [], []

    def _put_plain(self, path: str, plaintext: bytes) -> None:
        self._ignore()
        self._clone.create(path, plaintext, private=True)

    def _ignore(self) -> None:
        """Have Git ignore what is not encrypted, before it is there."""
        path = ".gitignore"
        if not self._clone.has(path):
            self._clone.create(path, f"{IGNORED}\n".encode())
            return
        content = self._clone.read(path)
        if IGNORED.encode() not in content.splitlines():
            self._clone.replace(path, _ended(content) + f"{IGNORED}\n".encode())

    def _listing(self, drafts: Iterable[str]) -> bytes:
        """The host's list with these stacks at its end. Raises :class:`ConfigError`."""
        path = self._list
        before = self._clone.read(path) if self._clone.has(path) else b""
        data = documents.load(before, path).data or []
        listed = data if isinstance(data, list) else None
        new = [name for name in drafts if listed is None or name not in listed]
        content = _ended(before) if listed else b""
        content += "".join(f"- {name}\n" for name in new).encode()
        try:
            whole = documents.load(content or b"[]", path).data
        except CommitdError:
            whole = None
        if listed is None or (whole or []) != [*listed, *new]:
            hint = "write it as lines of the form '- name'"
            raise ConfigError("stacks cannot be added to this list", where=path, hint=hint)
        return content or b"[]\n"

    def _put(self, path: str, content: bytes) -> None:
        if self._clone.has(path):
            self._clone.replace(path, content)
        else:
            self._clone.create(path, content)


def _ended(content: bytes) -> bytes:
    return content + b"\n" if content and not content.endswith(b"\n") else content


def _entry(path: str, content: bytes) -> TreeEntry:
    return TreeEntry(path, PLAIN, blob_id(content), len(content))

"""Writing the projects that run on a host into a repository, and proving that nothing changes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import anyio.to_thread
from msgspec import Struct, field

from agent.adapters.clone import running_projects
from agent.adapters.clone.clone import Clone
from agent.adapters.clone.running_projects import Project
from agent.adapters.compose import locate
from agent.adapters.compose.compose import Compose
from agent.adapters.engine.engine import Engine
from agent.adapters.host import directories
from agent.control.adopt.adopted_secrets import AdoptedSecrets, Sealing
from agent.control.adopt.managed import managed
from agent.control.release.adoption import Adopter
from agent.control.release.dry_run import MOUNTS, rehearse
from agent.domain import documents
from agent.domain.adopt import convert
from agent.domain.adopt.convert import Converted
from agent.domain.config import Config
from agent.domain.container import Container
from agent.domain.errors import CommitdError, ConfigError, did_you_mean
from agent.domain.recipients import rules as sops_rules
from agent.domain.repository import layout
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
    already; ``rules`` is whether ``.sops.yaml`` was written.
    """

    taken: list[Taken]
    loose: list[Container]
    managed: list[str]
    rules: bool = False


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
    """Take the projects called so, or all that no agent runs, into the clone in ``directory``.

    Secrets are encrypted for ``recipients`` too. Raises :class:`CommitdError` for what is wrong
    with all of it.
    """
    await anyio.to_thread.run_sync(_refuse_other_places, directory, config)
    sealing = await anyio.to_thread.run_sync(Sealing.of, config, recipients)
    docker_host = directories.docker_host(config)
    program = await locate.find(docker_host, config.converge.timeout)
    async with Engine(docker_host) as engine:
        takeover = Takeover(Clone(directory), config.host, program, engine, sealing=sealing)
        return await takeover.run(names, config.state_dir)


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
        self,
        clone: Clone,
        host: str,
        compose: Compose,
        engine: Engine,
        *,
        sealing: Sealing | None,
    ) -> None:
        self._clone = clone
        self._host = host
        self._compose = compose
        self._engine = engine
        self._sealing = sealing

    async def run(self, names: Sequence[str], state: Path) -> AdoptResult:
        """Take these projects, or all that the agent with the directory ``state`` does not run.

        Raises :class:`CommitdError` for what is wrong with all of it.
        """
        projects, loose = await running_projects.find(self._engine)
        known = [project.name for project in projects]
        for name in names:
            if name not in known:
                hint = did_you_mean(name, known, "docker compose ls lists them")
                raise ConfigError(f"no project {name!r} runs here", hint=hint)
        ours = await anyio.to_thread.run_sync(managed, projects, state)
        asked = [p for p in projects if (p.name in names if names else p.name not in ours)]
        found = [await self._draft(p, managed=p.name in ours) for p in asked]
        drafts = {each.taken.name: each for each in found if isinstance(each, Draft)}
        await self._prove(drafts, self._listing(drafts))
        rules = await self._write_all([d for d in drafts.values() if d.taken.refused is None])
        taken = [each.taken if isinstance(each, Draft) else each for each in found]
        return AdoptResult(taken, loose, ours, rules)

    async def _draft(self, project: Project, *, managed: bool) -> Draft | Taken:
        taken = Taken(name=project.name)
        try:
            if managed:
                raise ConfigError("commitd runs it already, from Git", where=str(project.directory))
            if not _NAME.fullmatch(project.name):
                raise ConfigError("its name cannot be that of a stack")
            if self._clone.has(f"stacks/{project.name}"):
                raise ConfigError("it is there already", where=f"stacks/{project.name}")
            origin = await running_projects.read(self._compose, self._engine, project)
            converted = convert.convert(origin)
        except CommitdError as err:
            taken.refused = str(err)
            return taken
        taken.pinned = dict(origin.pins)
        taken.secret = list(converted.moved)
        taken.notes = list(converted.notes)
        return Draft(taken, converted)

    # --- the proof ---

    async def _prove(self, drafts: Mapping[str, Draft], listing: bytes) -> None:
        """Read the result as the agent will, and ask whether all of it is there already."""
        contents = self._clone.around_stacks(self._host)
        contents[f"host/{self._host}/stacks.yaml"] = listing
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
        adopter = Adopter(self._compose, self._engine)
        found = await rehearse(
            self._compose, adopter, mine, tree=tree, contents=contents, opened=opened
        )
        for name, why in found.items():
            if why == MOUNTS:  # nothing that is mounted goes there: it would be an empty directory
                drafts[name].taken.refused = (
                    "it would mount a directory of the repository in the place of its own "
                    "(write its mounts as absolute paths)"
                )
            else:
                drafts[name].taken.changes = why

    # --- what is written ---

    async def _write_all(self, drafts: Sequence[Draft]) -> bool:
        """All or nothing of each; whether the rules of ``.sops.yaml`` are others now."""
        if not drafts:
            return False
        listing = self._listing(draft.taken.name for draft in drafts)
        new = {path: content for draft in drafts for path, content in draft.files.items()}
        new[f"host/{self._host}/stacks.yaml"] = listing
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
            await anyio.to_thread.run_sync(self._write_list, written)
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
        path = f"host/{self._host}/stacks.yaml"
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

    def _write_list(self, names: Iterable[str]) -> None:
        path = f"host/{self._host}/stacks.yaml"
        content = self._listing(names)
        if self._clone.has(path):
            self._clone.replace(path, content)
        else:
            self._clone.create(path, content)


def _ended(content: bytes) -> bytes:
    return content + b"\n" if content and not content.endswith(b"\n") else content


def _entry(path: str, content: bytes) -> TreeEntry:
    return TreeEntry(path, PLAIN, blob_id(content), len(content))

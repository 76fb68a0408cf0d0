"""Ending the agent's work on a host: no plaintext stays, and what runs goes on.

    what is there, and who mounts it ─▶ a yes ─▶ the service ends ─▶ plaintext goes ─▶ how to go on

What was stopped anywhere goes on when it is started again. Containers, networks, volumes and the
checkout are not touched; the keys and the journal stay.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import closing, suppress
from pathlib import Path

import anyio.to_thread
from msgspec import Struct

from agent.adapters.engine.containers import binds_of
from agent.adapters.engine.engine import Engine
from agent.adapters.git.repository import Repository
from agent.adapters.host import directories, lock
from agent.adapters.secrets.plaintext_store import PlaintextStore
from agent.adapters.state.journal import Journal, open_journal
from agent.control.operator.orders import note
from agent.domain.compose.host_mounts import within
from agent.domain.config import Config
from agent.domain.errors import CommitdError, HeldError, TransientError
from agent.domain.outcome import Reason
from agent.domain.repository.desired import Stack
from agent.domain.repository.layout import plaintext_path
from agent.domain.repository.tree import PLAINTEXT_PREFIX

_UNFINISHED = (".new.tmp", ".new", ".tmp")


class Mounted(Struct, frozen=True):
    """A container that sees a decrypted file: ``itself``, or with the directory ``source``."""

    container: str
    path: str
    itself: bool
    source: str


class Remains(Struct, frozen=True, kw_only=True):
    """Decrypted files, by their paths in the repository; ``mounted`` None: the engine is silent."""

    paths: tuple[str, ...]
    mounted: tuple[Mounted, ...] | None


class Leaving:
    """Of one host. Its methods raise :class:`CommitdError`."""

    def __init__(self, config: Config) -> None:
        """Nothing is read yet."""
        self._config = config
        self._checkout = config.state_dir / "repo"
        self._store = PlaintextStore.of(config, self._checkout, config.state_dir / "export")
        self._copies = config.runtime_dir / "secrets"
        self._own = [base / "plaintext" for base in (config.state_dir, config.runtime_dir)]

    async def survey(self) -> Remains:
        """What there is to remove, and which containers see it."""
        paths = await anyio.to_thread.run_sync(self._paths)
        try:
            mounted = tuple(await self._mounted(paths)) if paths else ()
        except CommitdError:
            mounted = None
        return Remains(paths=tuple(paths), mounted=mounted)

    def _paths(self) -> list[str]:
        """By the journal, and by what lies in the agent's own directories."""
        found = set()
        with suppress(CommitdError), closing(open_journal(self._config)) as journal:
            found |= {plaintext_path(path) for path in journal.plaintext()}
        places = (self._checkout, self._copies, *self._own)
        for base in places[1:]:
            found |= set(_files(base))
        return sorted(p for p in found if any(os.path.lexists(base / p) for base in places))

    async def _mounted(self, paths: list[str]) -> list[Mounted]:
        """All containers, running or not, and what they see."""
        tops, found = await anyio.to_thread.run_sync(self._tops), []
        async with Engine(directories.docker_host(self._config)) as engine:
            for container in await engine.containers():
                sources = binds_of(await engine.inspect(container.id) or {})
                for path in paths:
                    files = {f"{top}/{path}" for top in tops}
                    around = [s for s in sources if any(within(file, s) for file in files)]
                    if around:
                        itself = bool(files & sources)
                        found.append(Mounted(container.name, path, itself, max(around, key=len)))
        return found

    def _tops(self) -> set[str]:
        """Where containers find the copies, by any name."""
        tops = {str(self._checkout), str(self._copies)}
        return tops | {os.path.realpath(top) for top in tops}

    async def remove(
        self, agreed: frozenset[str], *, keep: frozenset[str], actor: str, ended: bool
    ) -> int:
        """Remove the decrypted files, but the copies of ``keep``; how many were there.

        The agent must have ended: raises :class:`HeldError` while one works, and where there are
        others than those ``agreed`` to. ``ended``: the service has just been stopped, which the
        journal records in any case.
        """
        if not await anyio.to_thread.run_sync(self._config.state_dir.is_dir):
            return 0
        if lock.running_agent(self._config):
            raise HeldError(
                "an agent works on this host, and would decrypt them again",
                hint="end it: it is no service, or a service of another name",
            )
        count = await anyio.to_thread.run_sync(self._remove, agreed, keep)
        if count or ended:
            with suppress(CommitdError), closing(self._journal()) as journal:
                await note(journal, self._config.host, Reason.DISMISSED, actor=actor)
        return count

    def strays(self, keep: frozenset[str]) -> list[str]:
        """Files in the checkout that are called as decrypted ones, and are in no record. Blocks."""
        return sorted({*_files(self._checkout)} - keep)

    def _journal(self) -> Journal:
        return open_journal(self._config, read_only=False)

    def _remove(self, agreed: frozenset[str], keep: frozenset[str]) -> int:
        with lock.only_agent(self._config):
            paths = self._paths()
            if more := sorted({*paths} - agreed):
                message = f"meanwhile there are more decrypted files ({', '.join(more)})"
                raise HeldError(f"{message}; none was removed", hint="commitd leave again")
            older = sum(len(names) for _, _, names in os.walk(self._store.older))
            try:
                for path in paths:
                    self._store.delete(path, with_copy=path not in keep)
                for base in (*self._own, self._store.older, *([] if keep else [self._copies])):
                    if base.exists():
                        shutil.rmtree(base)
            except OSError as err:
                message = f"not all of the plaintext is gone: {err.strerror}"
                where = str(err.filename or self._config.state_dir)
                raise TransientError(message, where=where) from None
            self._forget({*paths} - keep)
        return len([path for path in paths if path not in keep]) + older

    def _forget(self, paths: Collection[str]) -> None:
        """An agent that is started again decrypts them anew."""
        with suppress(CommitdError), closing(self._journal()) as journal:
            for path in journal.plaintext():
                if plaintext_path(path) in paths:
                    journal.forget_plaintext(path)

    def rolled_back(self) -> dict[str, str]:
        """Stacks that run as of an older commit, and that commit: their own files are of it.

        Blocks.
        """
        with suppress(CommitdError), closing(open_journal(self._config)) as journal:
            return {name: each.revision for name, each in sorted(journal.rollbacks().items())}
        return {}

    async def stacks(self) -> tuple[Stack, ...] | None:
        """What the applied commit declares here; None where that cannot be read any more."""
        repository = Repository.to_read(self._config)
        try:
            journal = await anyio.to_thread.run_sync(open_journal, self._config)
            with closing(journal):
                declared = journal.get("declared")
            if declared is None:
                return ()
            desired, _ = await repository.declared(declared["revision"]["sha"], self._config.host)
        except CommitdError:
            return None
        finally:
            await repository.end()
        return desired.stacks


def _files(base: Path) -> Iterator[str]:
    """Decrypted files below ``base``, finished or not, by their paths in it."""
    for directory, _, names in os.walk(base):
        for name in names:
            for end in _UNFINISHED:
                name = name.removesuffix(end)  # noqa: PLW2901
            if name.startswith(PLAINTEXT_PREFIX):
                yield str((Path(directory) / name).relative_to(base))

"""Keep the plaintext of the secrets that this host needs, and only of those, up to date.

    refresh, in each cycle: what is declared needs
      ├▶ a version that is in place ──────────────▶ nothing
      └▶ another ─┬▶ which failed a moment ago ───▶ its stacks are blocked
                  └▶ decrypted ─┬▶ not usable ────▶ its stacks are blocked; what is in place stays
                                └▶ written between two marks in the journal
    then tidy: what neither is declared nor runs is deleted
    lead, in a Swarm: a manager that leads no more deletes all of it

Before a file is written the journal has it with no version, and after it with the new one. An agent
that is killed between the two decrypts it again, and deletes it if nobody needs it any more.

A stack that was rolled back may share env files with others, which have the newer version in place.
``invocation`` gives it its own: plain ones as copies beside the checkout, secret ones decrypted in
memory.

What a container can write is never read to be used: env files are those of the export, plaintext
is that of the private store.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path

import anyio
import anyio.to_thread
from msgspec.structs import replace

from agent.adapters.compose.invocation import Invocation
from agent.adapters.secrets.plaintext_store import Owner, PlaintextStore
from agent.adapters.secrets.sops import Decryptor, EncryptedFile, Opened
from agent.adapters.state.async_journal import AsyncJournal
from agent.control.secrets import wanted
from agent.control.secrets.failures import Failures
from agent.control.secrets.wanted import Wanted
from agent.domain.errors import CommitdError, ConfigError, PermanentError, TransientError
from agent.domain.outcome import Reason
from agent.domain.repository import plaintext_faults
from agent.domain.repository.desired import DesiredState, EnvFile, Stack
from agent.domain.repository.layout import plaintext_path
from agent.domain.repository.tree import blob_id

log = logging.getLogger("commitd.secrets")

Locked = dict[str, tuple[Reason, str]]
"""Stacks that must not be deployed, with the reason and its detail."""


_LED = "led_with_plaintext"
"""Key of the journal: whether this manager of a Swarm may have plaintext from when it led."""


class SecretKeeper:
    """Decrypts what changed or is missing into ``store``; deletes what nobody needs any more.

    What failed is tried again later and later, but at once when it or the key has changed.
    """

    def __init__(
        self,
        store: PlaintextStore,
        journal: AsyncJournal,
        decryptor: Decryptor | None,
        read_key: Callable[[], bytes],
        contents: Callable[[Mapping[str, str]], Awaitable[dict[str, bytes]]],
    ) -> None:
        self._store = store
        self._journal = journal
        self._decryptor = decryptor
        self._read_key = read_key
        self._contents = contents
        self._failures = Failures()
        self._copies = store.older

    async def refresh(self, desired: DesiredState, kept: frozenset[str]) -> Locked:
        """Bring the plaintext in line with ``desired``; which stacks must wait, and why.

        ``kept`` are stacks that are still up although they are not readable or not declared:
        their plaintext stays.
        """
        needed = wanted.needed(desired)
        have = await self._journal.plaintext()
        stale = await anyio.to_thread.run_sync(self._on_disk, desired, needed, have)
        self._failures.forget_all_but(stale)
        failures = await self._decrypt(stale) if stale else {}
        await self._tidy(desired, kept, await self._journal.plaintext() if stale else have)
        said = {
            stack.name: dict.fromkeys(failures[path] for path in stack.secrets if path in failures)
            for stack in desired.stacks
        }
        return {name: (Reason.SECRET, "; ".join(why)) for name, why in said.items() if why}

    def _on_disk(
        self, desired: DesiredState, needed: Mapping[str, Wanted], have: Mapping[str, str]
    ) -> dict[str, Wanted]:
        """What is stale there; copies that nobody needs go, in the same trip to a thread."""
        self._drop_copies(desired)
        return self._stale(needed, have)

    def _stale(self, needed: Mapping[str, Wanted], have: Mapping[str, str]) -> dict[str, Wanted]:
        return {
            path: each
            for path, each in needed.items()
            if have.get(path) != each.oid
            or not self._store.present(plaintext_path(path), each.owner)
        }

    async def _decrypt(self, stale: Mapping[str, Wanted]) -> dict[str, str]:
        """Decrypt what is ``stale``; the reason for each that failed."""
        if self._decryptor is None:
            message = "the host's configuration has no secrets: section"
            return dict.fromkeys(stale, message)
        try:
            key = await anyio.to_thread.run_sync(self._read_key)
        except CommitdError as err:
            return dict.fromkeys(stale, str(err))
        digest = hashlib.sha256(key).digest()
        due = {
            path: w for path, w in stale.items() if not self._failures.waits(path, w.oid, digest)
        }
        for path, problem in (await self._try(due, self._decryptor, key)).items():
            self._failures.remember(path, due[path].oid, digest, problem)
        return self._failures.messages

    async def _try(
        self, due: Mapping[str, Wanted], decryptor: Decryptor, key: bytes
    ) -> dict[str, str | None]:
        """Decrypt the Git objects ``due`` by path; the problem of each, or None."""
        if not due:
            return {}
        try:
            contents = await self._contents({path: each.oid for path, each in due.items()})
            opened = await anyio.to_thread.run_sync(wanted.no_secrets, contents)
            asked = [EncryptedFile(path, contents[path]) for path in due if path not in opened]
            results = await decryptor.decrypt(asked, key) if asked else []
            opened |= {file.path: each for file, each in zip(asked, results, strict=True)}
            problems = await self._keep(due, opened)
        except CommitdError as err:
            return dict.fromkeys(due, str(err))
        for path, problem in problems.items():
            if not problem:  # which the hold of its stack, or the rollback that needs it, says
                log.info("decrypted %s", path)
        return problems

    async def _keep(
        self, due: Mapping[str, Wanted], opened: Mapping[str, Opened]
    ) -> dict[str, str | None]:
        """Write what is usable; the problem of each, or None."""
        problems = {path: wanted.unusable(path, due[path], opened[path]) for path in due}
        before = await self._journal.plaintext()
        # Cut short from here on, it is unknown what is in place: it is decrypted again, and what
        # nobody needs any more is deleted all the same.
        usable = {
            path: o for path, o in opened.items() if isinstance(o, bytes) and not problems[path]
        }
        await self._journal.keep_plaintext(dict.fromkeys(usable, ""))
        for path, content in usable.items():
            if due[path].variables and (said := plaintext_faults.odd(path, content)):
                log.warning(said)
            problems[path] = await anyio.to_thread.run_sync(
                self._write, path, content, due[path].owner
            )
        await self._journal.keep_plaintext(
            {path: before.get(path, "") if problems[path] else due[path].oid for path in usable}
        )
        return problems

    def _write(self, path: str, content: bytes, owner: Owner | None) -> str | None:
        try:
            self._store.write(plaintext_path(path), content, owner)
        except PermanentError as err:
            return f"{path}: {err}"
        except OSError as err:
            return f"{path}: the plaintext cannot be written: {err.strerror}"
        return None

    async def tidy(self, desired: DesiredState, kept: frozenset[str]) -> None:
        """Delete the plaintext that neither ``desired`` nor what runs needs; ``kept`` as above."""
        await self._tidy(desired, kept, await self._journal.plaintext())

    async def _tidy(
        self, desired: DesiredState, kept: frozenset[str], have: Mapping[str, str]
    ) -> None:
        needed = {path for stack in desired.stacks for path in stack.secrets}
        left = have.keys() - needed
        if not left:
            return
        releases = await self._journal.releases()
        # Also of stacks whose next release is not up yet: what runs may have to be started again.
        up = {path for release in releases.values() for path, _ in release.inputs}
        stacks = tuple(f"stacks/{name}/" for name in kept)
        await self._delete(path for path in left - up if not path.startswith(stacks))

    async def lead(self, *, leads: bool) -> None:
        """In a Swarm, at the beginning of each cycle: whether this manager is the one that deploys.

        What it decrypted as the leader is deleted once it leads no more. What it had before, as a
        plain host, may be mounted yet, and stays.
        """
        if leads == bool(await self._journal.get(_LED)):
            return
        if not leads:
            await self._delete(await self._journal.plaintext())
            if await self._journal.plaintext():
                return  # tried again in the next cycle
        await self._journal.put(_LED, leads)

    async def _delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            try:
                await anyio.to_thread.run_sync(self._store.delete, plaintext_path(path))
            except OSError as err:
                log.warning("the plaintext of %s cannot be deleted: %s", path, err.strerror)
                continue
            with anyio.CancelScope(shield=True):
                await self._journal.forget_plaintext(path)
            log.info("deleted the plaintext of %s", path)

    async def put(self, stack: Stack) -> str | None:
        """Have the plaintext of the stack's own secrets in place; the problem, if there is one.

        Those that it shares with others are tried as well, and nothing is kept of them.
        """
        have = await self._journal.plaintext()
        own = {path: each for path, each in wanted.of_stack(stack).items() if stack.owns(path)}
        stale = await anyio.to_thread.run_sync(self._stale, own, have)
        failures = await self._decrypt(stale) if stale else {}
        if locked := [failures[path] for path in stale if path in failures]:
            return locked[0]
        try:
            await self._opened(stack)
        except CommitdError as err:
            return str(err)
        return None

    async def hidden(self, stack: Stack) -> tuple[str, ...] | None:
        """What no message on the stack may show; None: not all of it is in place as declared."""
        have = await self._journal.plaintext()
        if any(have.get(path) != oid for path, oid in stack.secrets.items()):
            return None
        return await anyio.to_thread.run_sync(self._store.hidden, stack.secrets)

    def link(self, path: str) -> str | None:
        """Where the agent's own link at ``path`` in the checkout leads; None: there is none."""
        return self._store.link(path)

    async def invocation(self, stack: Stack) -> Invocation:
        """All that Compose must be told to run ``stack``. Raises :class:`CommitdError`.

        Of a stack that was rolled back, env files which it shares with others are as they were:
        plain ones from a copy, secret ones decrypted in memory.
        """
        plain = [file for file in stack.environment if not file.secret]
        outdated = await anyio.to_thread.run_sync(lambda: [*filter(self._outdated, plain)])
        contents = await self._contents({file.path: file.oid for file in outdated})
        opened = await self._opened(stack)
        salt = await self._journal.salt()
        return await anyio.to_thread.run_sync(self._invocation, stack, contents, opened, salt)

    async def _opened(self, stack: Stack) -> dict[str, bytes]:
        """Secrets of which another version is in place, for others; raises the first problem."""
        have = await self._journal.plaintext()
        secret = [file for file in stack.environment if file.secret]
        older = {file.path: file.oid for file in secret if have.get(file.path) != file.oid}
        if not older or self._decryptor is None:
            return {}
        contents = await self._contents(older)
        key = await anyio.to_thread.run_sync(self._read_key)
        due = [EncryptedFile(path, contents[path]) for path in older]
        opened: dict[str, bytes] = {}
        for path, result in zip(older, await self._decryptor.decrypt(due, key), strict=True):
            if isinstance(result, CommitdError):
                raise result
            opened[path] = result
        return opened

    def _outdated(self, file: EnvFile) -> bool:
        """Whether what is in place is not the version that is asked for."""
        try:
            content = (self._store.export / file.path).read_bytes()
        except OSError:
            return True
        return blob_id(content) != file.oid

    def _invocation(
        self, stack: Stack, contents: Mapping[str, bytes], opened: dict[str, bytes], salt: str
    ) -> Invocation:
        path = ""
        copies: dict[str, Path] = {}
        try:
            for path in stack.secrets.keys() - opened.keys():
                opened[path] = self._store.read(plaintext_path(path))
            for file in stack.environment:
                if (path := file.path) in contents:
                    copies[path] = self._copy(file, contents[path])
        except OSError as err:  # no fault of what is declared
            raise TransientError(f"cannot be read: {err.strerror}", where=path) from None
        call = Invocation.of(stack, self._store.export, opened, elsewhere=copies, salt=salt)
        call = replace(call, checkout=self._store.checkout, profiles=self._store.profiles)
        for path, raw in sorted(stack.env_files):
            plaintext_faults.refuse_in_env_file(path, opened.get(path, b""), raw=raw)
            if said := plaintext_faults.changed(path, opened.get(path, b""), raw=raw):
                log.warning("%s: %s", stack.name, said)
        return call

    def _copy(self, file: EnvFile, content: bytes) -> Path:
        """An older version of an env file, beside the checkout."""
        self._copies.mkdir(mode=0o700, exist_ok=True)
        path = self._copies / f"{file.oid}.env"
        # After a power cut the file may be there, and empty.
        if not path.exists() or path.read_bytes() != content:
            temporary = path.with_suffix(f".{secrets.token_hex(4)}")
            temporary.write_bytes(content)
            temporary.rename(path)
        return path

    def _drop_copies(self, desired: DesiredState) -> None:
        """What no rollback needs any more; who is missed here makes it anew."""
        back = [stack for stack in desired.stacks if stack.name in desired.rolled_back]
        kept = {f"{file.oid}.env" for stack in back for file in stack.environment}
        for path in self._copies.glob("*"):
            if path.name not in kept:
                path.unlink(missing_ok=True)


def no_key() -> bytes:
    """Stands in for the key where none is configured."""
    raise ConfigError("the host's configuration has no secrets: section")

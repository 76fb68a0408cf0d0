"""Keeping the plaintext of the secrets that this host needs, and only of those, up to date."""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from agent.adapters.compose import Invocation
from agent.adapters.journal import Journal
from agent.adapters.plaintext import PlaintextStore
from agent.adapters.sops import Decryptor, Sealed
from agent.domain import dotenv
from agent.domain.errors import CommitdError, ConfigError, PermanentError
from agent.domain.layout import plaintext_path
from agent.domain.model import DesiredState, EnvFile, Reason, Stack

log = logging.getLogger("commitd.secrets")

Locked = dict[str, tuple[Reason, str]]
"""Stacks that must not be deployed, with the reason and its detail."""


FIRST_BACKOFF_S = 5.0
LONGEST_BACKOFF_S = 300.0


@dataclass(frozen=True, slots=True)
class _Failure:
    """What came of one ciphertext under one key, how often in a row, and when to try again."""

    oid: str
    key_digest: bytes
    message: str
    count: int
    next_at: float


class SecretKeeper:
    """Decrypts what changed or is missing; deletes what nobody needs any more.

    What failed is tried again later and later, but at once when it or the key has changed.
    """

    def __init__(
        self,
        root: Path,
        journal: Journal,
        decryptor: Decryptor | None,
        read_key: Callable[[], bytes],
        contents: Callable[[Mapping[str, str]], Awaitable[dict[str, bytes]]],
    ) -> None:
        self._root = root
        self._store = PlaintextStore(root)
        self._journal = journal
        self._decryptor = decryptor
        self._read_key = read_key
        self._contents = contents
        self._failures: dict[str, _Failure] = {}
        self._copies = root.with_name("older")

    async def refresh(self, desired: DesiredState, kept: frozenset[str]) -> Locked:
        """Bring the plaintext in line with ``desired``; which stacks must wait, and why.

        ``kept`` are stacks that are still up although they are not readable or not declared:
        their plaintext stays.
        """
        needed = {
            file.path: file.oid
            for stack in desired.stacks
            for file in stack.environment
            # What a stack that was rolled back shares with others stays as it is for those.
            if file.secret and (stack.name not in desired.rolled_back or _own(stack, file))
        }
        have = self._journal.plaintext()
        stale = await anyio.to_thread.run_sync(
            lambda: [
                path
                for path, oid in needed.items()
                if have.get(path) != oid or not self._store.exists(plaintext_path(path))
            ]
        )
        self._failures = {path: self._failures[path] for path in stale if path in self._failures}
        failures = await self._decrypt(stale, needed) if stale else {}
        named = {file.path for stack in desired.stacks for file in stack.environment}
        await self._forget(have, {*needed, *named}, kept)
        await anyio.to_thread.run_sync(self._drop_copies, desired)
        return {
            stack.name: (Reason.SECRET, failures[file.path])
            for stack in desired.stacks
            for file in stack.environment
            if file.path in failures
        }

    async def _decrypt(self, paths: Sequence[str], oids: Mapping[str, str]) -> dict[str, str]:
        """Decrypt ``paths``; the reason for each that failed."""
        if self._decryptor is None:
            message = "the host's configuration has no secrets: section"
            return dict.fromkeys(paths, message)
        try:
            key = await anyio.to_thread.run_sync(self._read_key)
        except CommitdError as err:
            log.warning("secrets cannot be decrypted: %s", err)
            return dict.fromkeys(paths, str(err))
        digest = hashlib.sha256(key).digest()
        due = {path: oids[path] for path in paths if not self._waits(path, oids[path], digest)}
        for path, problem in (await self._try(due, self._decryptor, key)).items():
            self._remember(path, due[path], digest, problem)
        return {path: failure.message for path, failure in self._failures.items()}

    async def _try(
        self, due: Mapping[str, str], decryptor: Decryptor, key: bytes
    ) -> dict[str, str | None]:
        """Decrypt the Git objects ``due`` by path; the problem of each, or None."""
        if not due:
            return {}
        try:
            contents = await self._contents(due)
            results = await decryptor.decrypt([Sealed(p, contents[p]) for p in due], key)
        except CommitdError as err:
            log.warning("secrets cannot be decrypted: %s", err)
            return dict.fromkeys(due, str(err))
        problems: dict[str, str | None] = {}
        for path, result in zip(due, results, strict=True):
            if isinstance(result, CommitdError):
                problems[path] = str(result)
            else:
                problems[path] = await anyio.to_thread.run_sync(self._keep, path, due[path], result)
            if problems[path]:
                log.warning("%s is not decrypted: %s", path, problems[path])
        return problems

    def _waits(self, path: str, oid: str, key_digest: bytes) -> bool:
        """Whether this very thing failed a short while ago."""
        failure = self._failures.get(path)
        if failure and (failure.oid, failure.key_digest) != (oid, key_digest):
            del self._failures[path]
            return False
        return failure is not None and time.monotonic() < failure.next_at

    def _remember(self, path: str, oid: str, key_digest: bytes, problem: str | None) -> None:
        before = self._failures.pop(path, None)
        if problem:
            count = before.count + 1 if before else 1
            wait_s = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(count - 1, 10))
            next_at = time.monotonic() + wait_s
            self._failures[path] = _Failure(oid, key_digest, problem, count, next_at)

    def _keep(self, path: str, oid: str, plaintext: bytes) -> str | None:
        """Write one plaintext if it is usable; the problem otherwise."""
        try:
            for key in dotenv.decrypted_values(plaintext):
                if problem := dotenv.refused(key, secret=True):
                    return f"{path}: {problem}"
            self._store.write(plaintext_path(path), plaintext)
        except (ValueError, PermanentError) as err:
            return f"{path}: {err}"
        except OSError as err:
            return f"{path}: the plaintext cannot be written: {err.strerror}"
        self._journal.keep_plaintext(path, oid)
        log.info("decrypted %s", path)
        return None

    async def _forget(
        self, have: Mapping[str, str], needed: Collection[str], kept: frozenset[str]
    ) -> None:
        for path in have.keys() - set(needed):
            place, name = path.split("/")[:2]
            if place == "stacks" and name in kept:
                continue
            try:
                await anyio.to_thread.run_sync(self._store.delete, plaintext_path(path))
            except OSError as err:
                log.warning("the plaintext of %s cannot be deleted: %s", path, err.strerror)
                continue
            self._journal.forget_plaintext(path)
            log.info("deleted the plaintext of %s", path)

    async def put(self, stack: Stack) -> str | None:
        """Have the plaintext of the stack's own secrets in place; the problem, if there is one.

        Those that it shares with others are tried as well, and nothing is kept of them.
        """
        have = self._journal.plaintext()
        own = {f.path: f.oid for f in stack.environment if f.secret and _own(stack, f)}
        stale = [path for path, oid in own.items() if have.get(path) != oid]
        failures = await self._decrypt(stale, own) if stale else {}
        if locked := [failures[path] for path in stale if path in failures]:
            return locked[0]
        try:
            await self._opened(stack)
        except CommitdError as err:
            return str(err)
        return None

    async def invocation(self, stack: Stack) -> Invocation:
        """All that Compose must be told to run ``stack``. Raises :class:`CommitdError`.

        Of a stack that was rolled back, env files which it shares with others are as they were:
        plain ones from a copy, secret ones decrypted in memory.
        """
        older = {f.path: f.oid for f in stack.environment if not f.secret and self._outdated(f)}
        contents = await self._contents(older) if older else {}
        opened = await self._opened(stack)
        return await anyio.to_thread.run_sync(self._invocation, stack, contents, opened)

    async def _opened(self, stack: Stack) -> dict[str, bytes]:
        """Secrets of which another version is in place, for others; raises the first problem."""
        older = {f.path: f.oid for f in stack.environment if f.secret and self._outdated(f)}
        if not older or self._decryptor is None:
            return {}
        contents = await self._contents(older)
        key = await anyio.to_thread.run_sync(self._read_key)
        sealed = [Sealed(path, contents[path]) for path in older]
        opened: dict[str, bytes] = {}
        for path, result in zip(older, await self._decryptor.decrypt(sealed, key), strict=True):
            if isinstance(result, CommitdError):
                raise result
            opened[path] = result
        return opened

    def _outdated(self, file: EnvFile) -> bool:
        """Whether what is in place is not the version that is asked for."""
        if file.secret:
            return self._journal.plaintext().get(file.path) != file.oid
        try:
            content = (self._root / file.path).read_bytes()
        except OSError:
            return True
        blob = b"blob %d\0" % len(content) + content
        return hashlib.sha1(blob, usedforsecurity=False).hexdigest() != file.oid

    def _invocation(
        self, stack: Stack, contents: Mapping[str, bytes], opened: Mapping[str, bytes]
    ) -> Invocation:
        values: list[dotenv.Values] = []
        plain: list[Path] = []
        for file in stack.environment:
            try:
                if file.secret:
                    content = opened.get(file.path)
                    if content is None:
                        content = self._store.read(plaintext_path(file.path))
                    secret = dotenv.decrypted_values(content)
                    values.append(dotenv.Values(file.path, secret=secret))
                else:
                    plain.append(self._root / file.path)
                    if file.path in contents:
                        plain[-1] = self._copy(file, contents[file.path])
                    keys = dotenv.keys(plain[-1].read_text())
                    values.append(dotenv.Values(file.path, frozenset(key for key, _ in keys)))
            except (OSError, ValueError) as err:
                reason = err.strerror if isinstance(err, OSError) else str(err)
                raise PermanentError(f"cannot be read: {reason}", where=file.path) from None
        return Invocation(
            project=stack.name,
            file=self._root / stack.compose,
            env_files=tuple(plain),
            secrets=dotenv.secret_environment(values),
            root=self._root,
            build=stack.build,
            pins=stack.pins,
            images=stack.images,
            variables=stack.variables,
        )

    def _copy(self, file: EnvFile, content: bytes) -> Path:
        """An older version of an env file, beside the checkout."""
        self._copies.mkdir(mode=0o700, exist_ok=True)
        path = self._copies / f"{file.oid}.env"
        if not path.exists():
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


def _own(stack: Stack, file: EnvFile) -> bool:
    return file.path.startswith(f"stacks/{stack.name}/")


def no_key() -> bytes:
    """Stands in for the key where none is configured."""
    raise ConfigError("the host's configuration has no secrets: section")

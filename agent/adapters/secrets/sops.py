"""SOPS, as a pinned container image or a pinned binary: ciphertext in, plaintext or a reason out.

What SOPS prints when it fails can hold pieces of the secret, so nobody ever sees it: only its exit
code is translated.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import anyio
import anyio.to_thread
from msgspec import Struct

from agent.adapters import memory_file, process
from agent.adapters.engine import images
from agent.adapters.engine.docker_config import DockerConfig
from agent.adapters.engine.engine import Engine
from agent.adapters.engine.helper_container import run_helper
from agent.adapters.tasks import task_group
from agent.domain.config import Sops
from agent.domain.errors import CommitdError, ConfigError, PermanentError, TransientError
from agent.domain.repository import encryption_faults, secret_files
from agent.domain.sops import metadata, unreadable

TIMEOUT_S = 60.0
BATCH_TIMEOUT_S = 120.0
"""What all files together may take; those that were not reached are tried in a later cycle."""
_PARALLEL = os.cpu_count() or 1
_MOST_IN_CONTAINER = 4
_GO = {"GOMAXPROCS": "1", "GOGC": "off", "GOMEMLIMIT": "64MiB"}
"""A third of what SOPS takes for a small file is Go's garbage collection."""

NOT_ENCRYPTED = "it is not a SOPS file: its metadata is missing"
"""What a SOPS that works says of a file that is none."""
_MEANING = {
    1: NOT_ENCRYPTED,
    25: "a key name or a value was changed after encryption",
    51: "it was changed after encryption: the checksum does not match",
}
_HINT = {
    1: "encrypt it: sops encrypt -i FILE",
    25: "edit secrets only with sops",
    51: "edit secrets only with sops",
}
_CHANGED, _NO_KEY = 25, 128
_NO_PROGRAM = 127
"""What a shell says of a program that is not there."""
_NO_SHELL = re.compile(r'exec: \\?"sh\\?": executable file not found')
_NEEDS = "the image needs sh, base64 and sops; the official ones have them, also -alpine"


class EncryptedFile(Struct, frozen=True):
    """An encrypted file, by its path in the repository, which says what format it has."""

    path: str
    ciphertext: bytes

    @property
    def kind(self) -> str:
        """What SOPS calls its format."""
        return secret_files.sops_type(self.path)


Opened = bytes | CommitdError
"""The plaintext of one file, or why there is none."""


class Decryptor(Protocol):
    """Either way of running SOPS."""

    async def decrypt(self, files: Sequence[EncryptedFile], key: bytes) -> list[Opened]:
        """Plaintext or the reason for each of ``files``, in order.

        Raises :class:`TransientError` or :class:`ConfigError` when SOPS itself cannot run.
        """


class BinarySops(Struct, frozen=True):
    """A local program with a known SHA-256."""

    binary: Path
    sha256: str

    async def decrypt(self, files: Sequence[EncryptedFile], key: bytes) -> list[Opened]:
        """See :class:`Decryptor`; as many at a time as there are cores."""
        await anyio.to_thread.run_sync(self.verify)
        # No path, no argument, no variable: only the children have the key.
        with memory_file.holding(key) as handle:
            return await _each(files, lambda file: self._decrypt_one(file, key, handle))

    async def _decrypt_one(self, file: EncryptedFile, key: bytes, handle: int) -> Opened:
        result = await process.run(
            [
                str(self.binary),
                "decrypt",
                "--input-type",
                file.kind,
                "--output-type",
                file.kind,
            ],
            env={
                "PATH": os.defpath,
                "HOME": "/nonexistent",
                "SOPS_AGE_KEY_FILE": memory_file.path(handle),
                **_GO,
            },
            stdin=file.ciphertext,
            timeout_s=TIMEOUT_S,
            pass_fds=(handle,),
        )
        return result.out if result.code == 0 else _failure(file, result.code, key)

    def verify(self) -> None:
        """Look whether the binary is the pinned one. Blocks; raises :class:`ConfigError`."""
        try:
            with self.binary.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as err:
            raise ConfigError(
                f"the sops binary cannot be read: {err.strerror}", where=str(self.binary)
            ) from None
        if found != self.sha256:
            message = f"the sops binary is not the pinned one: its SHA-256 is {found}"
            hint = "check where it came from before changing secrets.sops.sha256"
            raise ConfigError(message, where=str(self.binary), hint=hint)


_SCRIPT = """
umask 077
for program in base64 sops; do command -v $program >/dev/null || exit 127; done
one() {
  printf %s "$3" | base64 -d >/tmp/in.$1
  SOPS_AGE_KEY_FILE=/tmp/key sops decrypt \
    --input-type "$2" --output-type "$2" /tmp/in.$1 >/tmp/out.$1 2>/dev/null
  echo "$?" >/tmp/code.$1
}
read -r count; read -r at_once; read -r key
printf '%s\\n' $key >/tmp/key || exit
done=0
while [ "$done" -lt "$count" ]; do
  group=0
  while [ "$group" -lt "$at_once" ] && [ $((done + group)) -lt "$count" ]; do
    read -r kind file
    one "$group" "$kind" "$file" </dev/null &
    group=$((group + 1))
  done
  wait
  n=0
  while [ "$n" -lt "$group" ]; do
    code=; read -r code </tmp/code.$n; printf '%s ' "$code"; base64 -w 0 /tmp/out.$n; echo
    n=$((n + 1))
  done
  done=$((done + group))
done
"""
"""Reads a count, how many to decrypt at once, the identities in one line, and the files: a line of
base64 each, after what SOPS calls its format. Answers a line for each: code, base64.

The whole batch needs one container. Everything passes through the attached pipes and a tmpfs of
its own, where the identities are a file of mode 0600: SOPS reads them once for each recipient. The
shell's ``printf`` is a builtin, so nothing shows in the arguments of any process.
"""


class ContainerSops(Struct, frozen=True):
    """A container image pinned by digest, with ``sh``, ``base64`` and ``sops`` in it."""

    image: str
    engine: Engine

    async def decrypt(self, files: Sequence[EncryptedFile], key: bytes) -> list[Opened]:
        """See :class:`Decryptor`; one container for the whole batch, or else one for each file."""
        if not await images.present(self.engine, self.image):
            await images.pull(self.engine, self.image, DockerConfig(), lambda _: None)
        try:
            return await self._decrypt_batch(files, key)
        except CommitdError as err:
            if len(files) == 1 or isinstance(err, ConfigError):
                raise

        async def alone(file: EncryptedFile) -> Opened:
            return (await self._decrypt_batch([file], key))[0]

        return await _each(files, alone)

    async def _decrypt_batch(self, files: Sequence[EncryptedFile], key: bytes) -> list[Opened]:
        at_once = min(2 * _PARALLEL, _MOST_IN_CONTAINER)
        identities = b" ".join(
            line for line in map(bytes.strip, key.splitlines()) if line[:1] != b"#"
        )
        lines = [b"%d" % len(files), b"%d" % at_once, identities]
        lines += [f"{file.kind} ".encode() + base64.b64encode(file.ciphertext) for file in files]
        try:
            code, out = await run_helper(
                self.engine,
                self.image,
                ["sh", "-c", _SCRIPT],
                stdin=b"\n".join(lines) + b"\n",
                env=_GO,
                timeout_s=TIMEOUT_S + len(files),
            )
        except CommitdError as err:
            if not _NO_SHELL.search(err.message):
                raise
            code, out = _NO_PROGRAM, b""
        if code == _NO_PROGRAM:
            raise ConfigError(
                "secrets.sops.image: sh, base64 or sops is not in it", where=self.image, hint=_NEEDS
            )
        answers = out.splitlines()
        if code != 0 or len(answers) != len(files):
            raise TransientError(
                f"the SOPS container ended with {code} after {len(answers)} of {len(files)} files",
                where=self.image,
                hint=_NEEDS,
            )
        return [_answer(file, line, key) for file, line in zip(files, answers, strict=True)]


async def _each(
    files: Sequence[EncryptedFile], decrypt: Callable[[EncryptedFile], Awaitable[Opened]]
) -> list[Opened]:
    """``decrypt`` for each of ``files``, in order; one that fails or hangs stops no other."""
    results: list[Opened] = [
        TransientError("sops did not get to it in time", where=file.path) for file in files
    ]
    limiter = anyio.CapacityLimiter(_PARALLEL)

    async def one(index: int, file: EncryptedFile) -> None:
        async with limiter:
            try:
                results[index] = await decrypt(file)
            except CommitdError as err:
                results[index] = type(err)(err.message, where=file.path, hint=err.hint)

    with anyio.move_on_after(BATCH_TIMEOUT_S):
        async with task_group() as group:
            for index, file in enumerate(files):
                group.start_soon(one, index, file)
    return results


def _answer(file: EncryptedFile, line: bytes, key: bytes) -> Opened:
    code, _, encoded = line.partition(b" ")
    try:
        if int(code) != 0:
            return _failure(file, int(code), key)
        return base64.b64decode(encoded, validate=True)
    except ValueError:  # of either
        return PermanentError("the SOPS container garbled it", where=file.path)


def _failure(file: EncryptedFile, code: int, key: bytes) -> PermanentError:
    if code == _NO_KEY:
        from agent.adapters.secrets import age_key  # noqa: PLC0415  its library is needed nowhere else

        own, others = age_key.recipients(key), age_key.has_others(key)
        return unreadable.refusal(file.ciphertext, file.path, own, others=others)
    with suppress(PermanentError):
        read = metadata.read(file.ciphertext, file.path)
        if code == _CHANGED and read and read.plain:
            return encryption_faults.in_the_clear(read, file.path)[0]
    return PermanentError(
        _MEANING.get(code, f"sops ended with {code}"), where=file.path, hint=_HINT.get(code)
    )


def decryptor(sops: Sops, engine: Engine) -> Decryptor:
    """The way of running SOPS that the configuration names."""
    if sops.image is not None:
        return ContainerSops(sops.image, engine)
    if sops.binary is None or sops.sha256 is None:
        raise ConfigError("secrets.sops names neither an image nor a binary")
    return BinarySops(sops.binary, sops.sha256)

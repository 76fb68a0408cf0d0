"""Secrets that did not decrypt: tried again later and later, at once when something has changed."""

from __future__ import annotations

import time
from collections.abc import Collection

from msgspec import Struct

from agent.control.retry import BACKOFF


class _Failure(Struct, frozen=True, kw_only=True):
    """What came of one ciphertext under one key, how often in a row, and when to try again."""

    oid: str
    key_digest: bytes
    message: str
    count: int
    next_at: float


class Failures:
    """By the path of the secret file."""

    def __init__(self) -> None:
        self._failures: dict[str, _Failure] = {}

    @property
    def messages(self) -> dict[str, str]:
        """Why each of them failed the last time."""
        return {path: failure.message for path, failure in self._failures.items()}

    def forget_all_but(self, paths: Collection[str]) -> None:
        """The others are decrypted, or nobody needs them."""
        self._failures = {path: each for path, each in self._failures.items() if path in paths}

    def waits(self, path: str, oid: str, key_digest: bytes) -> bool:
        """Whether this very thing failed a short while ago."""
        failure = self._failures.get(path)
        if failure and (failure.oid, failure.key_digest) != (oid, key_digest):
            del self._failures[path]
            return False
        return failure is not None and time.monotonic() < failure.next_at

    def remember(self, path: str, oid: str, key_digest: bytes, problem: str | None) -> None:
        """What came of a try; None: it succeeded."""
        before = self._failures.pop(path, None)
        if problem:
            count = before.count + 1 if before else 1
            next_at = time.monotonic() + BACKOFF.wait_s(count)
            self._failures[path] = _Failure(
                oid=oid, key_digest=key_digest, message=problem, count=count, next_at=next_at
            )

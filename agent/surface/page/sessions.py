"""Who has shown the token to the page, and how often somebody may try. All of it in memory.

A browser gets a random word in its place, which ends after a day, with the agent, or with the
configuration that it was begun under. Of these words only digests are kept.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
import time
from collections import deque
from collections.abc import Callable

LASTS_S = 24 * 3600
_MOST = 256
"""Sessions at once; a new one ends the oldest."""

WITHIN_S = 60.0
OF_ONE = 5
"""Wrong tokens from one address within that time."""
OF_ALL = 60
"""The same from all of them: a token is guessed from many addresses no sooner."""

Clock = Callable[[], float]


class Sessions:
    """Those that have begun."""

    def __init__(self, now: Clock = time.monotonic) -> None:
        self._now = now
        self._ends: dict[bytes, float] = {}

    def begin(self) -> str:
        """The word of a new one."""
        self._forget()
        while len(self._ends) >= _MOST:
            self._ends.pop(next(iter(self._ends)))
        word = secrets.token_urlsafe(32)
        self._ends[_digest(word)] = self._now() + LASTS_S
        return word

    def holds(self, word: str) -> bool:
        """Whether it is the word of a session that has not ended."""
        return self._ends.get(_digest(word), 0.0) > self._now()

    def end(self, word: str) -> None:
        """From now on it is nobody's."""
        self._ends.pop(_digest(word), None)

    def _forget(self) -> None:
        now = self._now()
        self._ends = {digest: end for digest, end in self._ends.items() if end > now}


class Tries:
    """Wrong tokens of the last minute."""

    def __init__(self, now: Clock = time.monotonic) -> None:
        self._now = now
        self._failed: deque[tuple[float, str]] = deque(maxlen=OF_ALL)

    def wait_s(self, address: str) -> float:
        """Seconds until this address may try again; 0: it may."""
        now = self._now()
        while self._failed and self._failed[0][0] <= now - WITHIN_S:
            self._failed.popleft()
        place = _place(address)
        mine = [at for at, whose in self._failed if whose == place]
        over = [mine[-OF_ONE]] if len(mine) >= OF_ONE else []
        if len(self._failed) >= OF_ALL:
            over.append(self._failed[0][0])
        return max((at + WITHIN_S - now for at in over), default=0.0)

    def failed(self, address: str) -> None:
        """It was a wrong one."""
        self._failed.append((self._now(), _place(address)))


def _digest(word: str) -> bytes:
    return hashlib.sha256(word.encode(errors="surrogateescape")).digest()


def _place(address: str) -> str:
    """Whose address it is: of IPv6 a network of 64 bits, all of which anybody may have."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
    return str(found)

"""Versions of the agent that are installed beside each other, as ``packaging/lib`` keeps them.

    /var/lib/commitd-agent/versions/0.3.0, 0.4.0   a tree each, with a Python of its own
                          /current, previous       links to them
                          /trial, bad, fell-back   see packaging/lib/start

An agent that does not run from such a tree, as one of ``make install``, has nothing beside it.
All functions block; those that write there wait for `start` and `activate`, seconds at most, and
raise OSError.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import Struct

LIB = Path("/usr/lib/commitd/lib")
"""Where the package has the scripts."""
_STARTS_S = 30.0
_LOCKED_S = 10.0
"""How long another one may be at the same files; less than the watchdog allows."""


class FellBack(Struct, frozen=True, kw_only=True):
    """That a version was given up; ``at`` is ISO 8601."""

    given_up: str
    now: str
    at: str
    why: str


class BadVersion(Struct, frozen=True, kw_only=True):
    """A version that was given up, ``sha256`` of its package if a commit named it."""

    version: str
    sha256: str | None
    at: str
    why: str


class OpenTrial(Struct, frozen=True, kw_only=True):
    """A trial that goes on; ``copy`` is the journal of the previous version, ``ready`` when the
    candidate was last ready to work (ISO 8601; ``yes`` by an older version; None: it was not yet).
    """

    candidate: str
    previous: str
    copy: Path | None = None
    ready: str | None = None


class Programs:
    """The versions below ``home``, of which ``version`` runs this."""

    def __init__(self, home: Path, version: str) -> None:
        self.home = home
        self.version = version

    @property
    def current(self) -> str | None:
        """The version that is started next."""
        return self._linked("current")

    @property
    def previous(self) -> str | None:
        """The one beside it."""
        found = self._linked("previous")
        return found if found != self.current else None

    def trial(self) -> OpenTrial | None:
        """The open trial of the current version, if there is one."""
        found = self._fields("trial")
        candidate, previous = found.get("candidate"), found.get("previous")
        if not (candidate and previous) or candidate != self.current:
            return None
        copy = found.get("journal")
        return OpenTrial(
            candidate=candidate,
            previous=previous,
            copy=Path(copy) if copy else None,
            ready=found.get("ready"),
        )

    def note(self, name: str, value: str) -> None:
        """Write a fact into the trial of this version: ``ready``, ``failed``, ``journal``.

        Raises OSError, also where it is on trial no more.
        """
        with self._locked():
            found = self.trial()
            if found is None or found.candidate != self.version:
                raise FileNotFoundError(f"{self.version} is on trial no more")
            lines = [each for each in self._lines("trial") if each.partition(" ")[0] != name]
            self._write("trial", [*lines, f"{name} {_one_line(value)}"])

    def not_counted(self) -> None:
        """Take the start of this version off those of its trial. Raises OSError."""
        found = self.trial()
        starts = self._fields("trial").get("starts", "")
        if found and found.candidate == self.version and starts.isdecimal() and int(starts):
            self.note("starts", str(int(starts) - 1))

    def accept(self) -> bool:
        """End the trial: the candidate stays. Raises OSError.

        Not where this version is on trial no more, because a person has gone back from it.
        """
        with self._locked():
            found = self.trial()
            if found is None or found.candidate != self.version:
                return False
            (self.home / "trial").unlink(missing_ok=True)
            if self._fields("fell-back").get("to") != self.version:
                # Left by a fall back that was interrupted.
                (self.home / "fell-back").unlink(missing_ok=True)
            bad = self._bad_lines()
            left = [each for each in bad if each.partition(" ")[0] != self.version]
            if left != bad:
                self._write("bad", left)
            self._sync()
        return True

    def fell_back(self) -> FellBack | None:
        """That this version runs again, as another one was given up; None once that is recorded."""
        found = self._fields("fell-back")
        if found.get("to") != self.version or "from" not in found:
            return None
        return FellBack(
            given_up=found["from"],
            now=self.version,
            at=found.get("at", ""),
            why=found.get("why", ""),
        )

    def forget_return(self) -> None:
        """The fall back is recorded in the journal."""
        with suppress(OSError):
            (self.home / "fell-back").unlink(missing_ok=True)

    def bad(self) -> list[BadVersion]:
        """Versions that were given up, the newest last."""
        found = []
        for line in self._bad_lines():
            words = line.split(" ", 3)
            if len(words) == 4:  # noqa: PLR2004  as `start` writes them
                version, sha256, at, why = words
                known = None if sha256 == "-" else sha256
                found.append(BadVersion(version=version, sha256=known, at=at, why=why))
        return found

    def given_up(self, version: str) -> BadVersion | None:
        """How that version was given up here, the last time; None if it was not."""
        found = [each for each in self.bad() if each.version == version]
        return found[-1] if found else None

    def go_back(self, at: str, why: str) -> str:
        """Make the previous version current, in the order of `start`; which it is.

        Raises OSError, and LookupError where there is none, or just one that was given up.
        """
        with self._locked():
            previous, current = self.previous, self.current
            if previous is None or current is None:
                raise LookupError("there is no previous version")
            if self.given_up(previous):
                raise LookupError(f"{previous} was given up")
            why = _one_line(why)
            lines = [f"from {current}", f"to {previous}", f"at {at}", f"why {why}"]
            self._write(
                "bad", [*self._bad_lines(), f"{current} {self._sum_of(current)} {at} {why}"]
            )
            self._write("fell-back", lines)
            self._point("previous", current)
            self._point("current", previous)
            (self.home / "trial").unlink(missing_ok=True)
            self._sync()
        return previous

    def runs(self, version: str) -> bool:
        """Whether that version can be started on this host."""
        python = self.home / "versions" / version / "bin" / "python3"
        try:
            subprocess.run(
                [python, "-I", "-m", "agent", "--version"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_STARTS_S,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return False
        return True

    def _sum_of(self, version: str) -> str:
        """Of the package that a commit named, as ``activate`` has it in the tree; else ``-``."""
        return (self._lines(f"versions/{version}/SHA256") or ["-"])[0]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """While ``start`` and ``activate`` keep off; raises TimeoutError, an OSError."""
        until = time.monotonic() + _LOCKED_S
        handle = os.open(self.home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            while True:
                with suppress(BlockingIOError):
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                if time.monotonic() > until:
                    raise TimeoutError(f"{self.home} is locked by another program")
                time.sleep(0.05)
            yield
        finally:
            os.close(handle)

    def _linked(self, link: str) -> str | None:
        with suppress(OSError):
            target = self.home / (self.home / link).readlink()
            if target.is_dir():
                return target.name
        return None

    def _point(self, link: str, version: str) -> None:
        new = self.home / f".{link}"
        new.unlink(missing_ok=True)
        new.symlink_to(f"versions/{version}")
        new.rename(self.home / link)

    def _fields(self, name: str) -> dict[str, str]:
        return {
            key: value
            for line in self._lines(name)
            for key, _, value in [line.partition(" ")]
            if value
        }

    def _bad_lines(self) -> list[str]:
        return self._lines("bad")

    def _lines(self, name: str) -> list[str]:
        with suppress(OSError):
            return (self.home / name).read_text(errors="replace").splitlines()
        return []

    def _write(self, name: str, lines: list[str]) -> None:
        new = self.home / f".{name}"
        with new.open("w") as file:
            file.write("".join(f"{line}\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())
        new.chmod(0o644)
        new.rename(self.home / name)

    def _sync(self) -> None:
        handle = os.open(self.home, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def here(prefix: str = sys.prefix) -> Programs | None:
    """The versions beside the one that runs this; None where there cannot be others."""
    tree = Path(prefix)
    if tree.parent.name != "versions" or not (tree / "VERSION").exists():
        return None
    return Programs(tree.parent.parent, tree.name)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]

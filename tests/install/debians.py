"""The Debians of hosts: each with its own Docker engine, as `apt-get install` has left it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.sandbox import rootfs

if TYPE_CHECKING:
    from pathlib import Path

_EVERYWHERE = ("ca-certificates", "docker.io", "iproute2", "iptables")


@dataclass(frozen=True)
class Debian:
    """One release; `compose`: it has a Compose that is new enough, and it is installed."""

    suite: str
    more: tuple[str, ...]
    compose: bool

    @property
    def _packages(self) -> tuple[str, ...]:
        return (*rootfs.PACKAGES, *_EVERYWHERE, *self.more)

    def provide(self, tools: Path | None) -> Path:
        """Its root directory; the first call fetches about 200 MB."""
        return rootfs.provide(tools, self.suite, self._packages)

    @property
    def root(self) -> Path:
        """The same inside of a world."""
        return rootfs.find(self.suite, self._packages)


ALL = (
    Debian("bookworm", (), compose=False),  # its docker-compose is of version 1
    Debian("trixie", ("docker-cli", "docker-compose"), compose=True),
)

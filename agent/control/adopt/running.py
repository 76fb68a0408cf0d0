"""What runs on a host and could be taken: Compose projects, or stacks of a Swarm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from agent.domain.adopt.convert import Converted
from agent.domain.container import Container
from agent.domain.repository.desired import Stack
from agent.domain.repository.tree import Tree


class Found(Struct, frozen=True, kw_only=True):
    """``managed`` of the ``names`` are run by an agent; ``loose`` is what belongs to none.

    ``kind`` is what they are called, ``hint`` what lists them.
    """

    names: Sequence[str]
    loose: list[Container]
    managed: list[str]
    kind: str
    hint: str


class Judged(Struct, frozen=True, kw_only=True):
    """Why one cannot be taken, or what its first deploy would change of what runs; None: not."""

    refused: str | None = None
    changes: str | None = None


class Running(Protocol):
    """Looks, and changes nothing."""

    swarm: bool

    async def find(self) -> Found:
        """All that there is. Raises :class:`CommitdError`."""

    def place(self, name: str) -> str:
        """Where the one called so is, for messages."""

    async def convert(self, name: str) -> tuple[Converted, Mapping[str, str]]:
        """Its files, and the images that are pinned in them, from and to.

        Raises :class:`CommitdError` for what does not fit into the layout.
        """

    async def judge(
        self,
        stacks: Iterable[Stack],
        *,
        tree: Tree,
        contents: Mapping[str, bytes],
        opened: Mapping[str, bytes],
    ) -> dict[str, Judged]:
        """What the files say, compared with what runs; ``opened`` are the secrets in plain."""

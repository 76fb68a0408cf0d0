"""One stack as Compose is told about it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from agent.domain.compose import inline_configs
from agent.domain.repository.compose_paths import Variable
from agent.domain.repository.desired import Stack
from agent.domain.repository.image_refs_yaml import Mention


@dataclass(frozen=True, slots=True)
class Invocation:
    """Absolute paths, the secret variables, and the policy that the stack was read under.

    ``root`` is the repository's; ``build`` is whether policy lets Compose build images, ``pins``
    what of images without a digest; ``images`` is where the files name those, by service, and
    ``variables`` what they name with a variable in it. ``hidden`` must not show in any message:
    what is given, and the values of all ``secrets``. ``salt`` is the host's own, for digests.
    ``own`` are the agent's variables that Compose cannot do without for this stack.
    """

    project: str
    file: Path
    env_files: tuple[Path, ...]
    secrets: Mapping[str, str]
    root: Path
    build: bool = False
    pins: str = "require"
    images: Mapping[str, Mention] = field(default_factory=dict)
    variables: tuple[Variable, ...] = ()
    hidden: tuple[str, ...] = ()
    salt: str = ""
    own: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        hidden = dict.fromkeys((*self.secrets.values(), *self.hidden))
        object.__setattr__(self, "hidden", tuple(hidden))

    @classmethod
    def of(
        cls,
        stack: Stack,
        root: Path,
        env_files: Iterable[Path],
        secrets: Mapping[str, str],
        *,
        hidden: tuple[str, ...] = (),
        salt: str = "",
    ) -> Self:
        """``stack`` with its files below ``root``, by the policy that it was read under."""
        return cls(
            project=stack.name,
            file=root / stack.compose,
            env_files=tuple(env_files),
            secrets=secrets,
            root=root,
            build=stack.build,
            pins=stack.pins,
            images=stack.images,
            variables=stack.variables,
            hidden=hidden,
            salt=salt,
        )

    def __repr__(self) -> str:
        return f"Invocation({self.project!r})"

    def defined(self, names: Iterable[str]) -> str:
        """``file:line`` where a value or the stack's own file first has one of ``names``. Blocks.

        Without a line where none of these files does.
        """
        wanted = re.compile(rf"(?:\$\{{?|^\s*(?:export\s+)?)(?:{'|'.join(names)})(?!\w)", re.ASCII)
        for path in (*self.env_files, self.file):
            lines = path.read_text(errors="replace").split("\n")
            if found := next((i for i, line in enumerate(lines, 1) if wanted.search(line)), 0):
                return f"{self._shown(path)}:{found}"
        return self._shown(self.file)

    def _shown(self, path: Path) -> str:
        """The path in the repository; a copy of an older file is somewhere else."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else path.name

    def value(self, name: str) -> str:
        """What the variable depends on: a secret's value, or lines of plain files. Blocks."""
        if name in self.secrets:
            return self.secrets[name]
        return "\n".join(inline_configs.passage(path.read_text(), name) for path in self.env_files)

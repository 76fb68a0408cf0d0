"""The files, variables and project name with which Compose is run for one stack.

There are two trees. What decides is read below ``root``, where no container can write; what is
mounted comes from the ``checkout``, which is the same commit and can have been changed since.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from msgspec import Struct, field
from msgspec.structs import force_setattr

from agent.domain.compose import inline_configs
from agent.domain.errors import PermanentError, TransientError
from agent.domain.repository import dotenv, secret_files
from agent.domain.repository.desired import Stack

_ROOT = Path()


class Invocation(Struct, frozen=True, kw_only=True):
    """``stack`` with its files below ``root``, an absolute path, and the variables of its secrets.

    ``checkout`` is what its containers mount from, ``root`` itself unless it is given. ``hidden``
    must not show in any message: what is given, and the values of all ``secrets``. ``salt`` is the
    host's own, for digests. ``own`` are the agent's variables that Compose cannot do without for
    this stack, ``passed`` those that configs and secrets are made of; ``names`` are all that its
    files of values set. ``private`` are files of the agent's own that Compose reads, below
    ``profiles``.
    """

    stack: Stack
    root: Path
    env_files: tuple[Path, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()
    salt: str = ""
    own: Mapping[str, str] = field(default_factory=dict)
    passed: Mapping[str, str] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    profiles: Path = Path("/run/commitd/seccomp")
    private: Mapping[Path, bytes] = field(default_factory=dict)
    checkout: Path = _ROOT

    def __post_init__(self) -> None:
        hidden = dict.fromkeys((*self.secrets.values(), *self.hidden))
        force_setattr(self, "hidden", tuple(hidden))
        if self.checkout is _ROOT:
            force_setattr(self, "checkout", self.root)

    @classmethod
    def of(
        cls,
        stack: Stack,
        root: Path,
        plaintext: Mapping[str, bytes],
        *,
        elsewhere: Mapping[str, Path] | None = None,
        salt: str = "",
    ) -> Self:
        """The same, from the files themselves. Blocks.

        ``plaintext`` are the stack's decrypted files by their paths in Git, those that are no
        env files too; ``elsewhere`` are plain env files that are not at their place below ``root``.
        Raises :class:`PermanentError`, and :class:`TransientError` for a file that cannot be read.
        """
        places = {file.path: root / file.path for file in stack.environment if not file.secret}
        places |= elsewhere or {}
        values: list[dotenv.EnvValues] = []
        for file in stack.environment:
            try:
                if file.secret:
                    pairs = dotenv.decrypted_values(plaintext[file.path])
                    values.append(dotenv.EnvValues(secret=pairs))
                else:
                    keys = dotenv.keys(places[file.path].read_text())
                    values.append(dotenv.EnvValues(frozenset(key for key, _ in keys)))
            except KeyError:
                raise PermanentError("is not decrypted here", where=file.path) from None
            except OSError as err:  # no fault of what is declared
                message = f"cannot be read: {err.strerror}"
                raise TransientError(message, where=file.path) from None
            except ValueError as err:
                raise PermanentError(f"cannot be read: {err}", where=file.path) from None
        return cls(
            stack=stack,
            root=root,
            env_files=tuple(places.values()),
            secrets=dotenv.secret_environment(values),
            hidden=secret_files.hidden(plaintext),
            salt=salt,
            names=frozenset(
                key for each in values for key in (*each.plain_keys, *(each.secret or ()))
            ),
        )

    def __repr__(self) -> str:
        return f"Invocation({self.stack.name!r})"

    @property
    def file(self) -> Path:
        """The stack's own Compose file."""
        return self.root / self.stack.compose

    @property
    def directory(self) -> Path:
        """What Compose calls the project's directory, in the checkout."""
        return (self.checkout / self.stack.compose).parent

    def defined(self, names: Iterable[str]) -> str:
        """``file:line`` where a value or the stack's own file first has one of ``names``. Blocks.

        Without a line where none of these files does.
        """
        before = r"(?:\$\{?|\benvironment:\s*[\"']?|^\s*(?:export\s+)?)"
        wanted = re.compile(rf"{before}(?:{'|'.join(names)})(?!\w)", re.ASCII)
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

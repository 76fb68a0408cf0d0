"""Whose values Compose puts in the place of ``${NAME}``: those of Git, and nobody else's.

What a process has in its environment beats every env file in Compose, so the agent gives Compose
an environment that holds none of its own variables:

    plain env files ───────────────────── --env-file ─────────▶ ┐
    secret values ─────────────────────── environment ────────▶ ├ ${NAME}
    secret values of names that steer programs ── an env file ─▶ ┘ (in memory)

The engine's address is an argument of Compose. A few stacks need more of the agent's environment:
``~`` in a path needs ``HOME``, ``build:`` needs what programs need. They get it if their model is
the same with it (:func:`moved`).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any

from agent.domain.repository.tree import YAML_SUFFIXES

_COMPOSE_OWN = "COMPOSE_"
_DIRECTORY = "PWD"
_STEERING = re.compile(
    r"(?:(?:DOCKER|BUILDKIT|BUILDX|LD|OTEL)_\w+|PATH|HOME|TMPDIR|NO_COLOR"
    r"|GO(?:GC|DEBUG|MAXPROCS|MEMLIMIT|TRACEBACK|RACE|COVERDIR)|SSL_CERT_(?:FILE|DIR)"
    r"|(?:HTTPS?|ALL|NO)_PROXY|(?:https?|all|no)_proxy)",
    re.ASCII,
)
_YAML_ESCAPE = re.compile(rb"\\[xuU\r\n]")
_ENV_ESCAPE = re.compile(rb"\\0\d")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_ESCAPED = {"\\": "\\\\", '"': '\\"', "$": "$$"}

Path = tuple[str | int, ...]


def refused(key: str) -> str | None:
    """Why ``key`` may not stand in an env file, plain or secret; None: it may.

    Compose takes ``COMPOSE_*`` from any env file as its own settings, and sets ``PWD`` itself.
    """
    if key.startswith(_COMPOSE_OWN):
        return f"{key} would change how Compose itself works"
    if key == _DIRECTORY:
        return f"Compose sets {key} itself, to the directory of the stack"
    return None


def steers(name: str) -> bool:
    """Whether a program takes the variable for a setting of its own if it is in its environment."""
    return _STEERING.fullmatch(name) is not None


def env_file(values: Mapping[str, str]) -> bytes:
    """An env file from which Compose reads exactly ``values``, whose names :func:`steers` knows.

    No value has a line break. Nothing in double quotes is left to expand.
    """
    lines = (
        f'{name}="{"".join(_ESCAPED.get(char, char) for char in value)}"\n'
        for name, value in values.items()
    )
    return "".join(lines).encode()


def used(
    clean: Mapping[str, Any], own: Mapping[str, Any], names: Mapping[str, str]
) -> Iterator[Path]:
    """Where a stack takes one of ``names``, variables of the agent's, for a value.

    ``clean`` was resolved without them and ``own`` with them. A secret or config that is taken from
    the environment looks the same in both.
    """
    for kind in ("configs", "secrets"):
        for key, value in (own.get(kind) or {}).items():
            if (value or {}).get("environment") in names:
                yield (kind, key, "environment")
    yield from moved(clean, own, names.get("HOME", ""))


def moved(clean: Any, own: Any, home: str, at: Path = ()) -> Iterator[Path]:
    """Where ``own``, a model resolved with variables of the agent's, differs from ``clean``.

    ``clean`` was resolved without. That ``~`` stands for ``home`` in it is no difference.
    """
    if isinstance(clean, Mapping) and isinstance(own, Mapping):
        for key in sorted({*clean, *own}):
            yield from moved(clean.get(key), own.get(key), home, (*at, key))
    elif isinstance(clean, list) and isinstance(own, list) and len(clean) == len(own):
        for i, (before, after) in enumerate(zip(clean, own, strict=True)):
            yield from moved(before, after, home, (*at, i))
    elif clean != own and not _expanded(clean, own, home):
        yield at


def _expanded(clean: Any, own: Any, home: str) -> bool:
    """Whether only the ``~`` in a path became ``home``; Compose had put it behind a directory."""
    if not (isinstance(clean, str) and isinstance(own, str)):
        return False
    ends = (clean[found.end() :] for found in re.finditer("/~", clean))
    return any(own == posixpath.normpath(f"{home}/{end}") for end in ends)


def hides_names(path: str, text: bytes) -> bool:
    """Whether a variable's name may be written in the file in other letters than its own."""
    escape = _YAML_ESCAPE if path.endswith(YAML_SUFFIXES) else _ENV_ESCAPE
    return text.startswith(_UTF_16) or escape.search(text) is not None

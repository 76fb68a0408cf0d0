"""Where a build takes files from, by the keys of ``build:`` in a model."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from agent.domain.repository.compose_paths import NO_CONTEXT


def read(build: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each key with a path or URL; Compose has made those absolute that it knows as paths."""
    context = str(build.get("context", "."))
    yield "context", context
    if file := build.get("dockerfile"):
        yield "dockerfile", posixpath.join(context, str(file))
    for value in (build.get("additional_contexts") or {}).values():
        if not str(value).startswith(NO_CONTEXT):
            yield "additional_contexts", str(value)
    for value in _texts(build.get("ssh")):
        _, sign, paths = value.partition("=")
        yield from (("ssh", path) for path in (paths.split(",") if sign else ()))


def local_caches(build: Mapping[str, Any]) -> Iterator[str]:
    """The keys under which it reads or writes a cache in a directory of the host."""
    for key in ("cache_from", "cache_to"):
        if any("type=local" in value.replace(" ", "") for value in _texts(build.get(key))):
            yield key


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [f"{key}={path}" if path else str(key) for key, path in value.items()]
    return [str(each) for each in value] if isinstance(value, list) else []

"""What names of files become once Compose has put values into them, before it opens such a file.

Compose is asked with a document of nothing but these names, each a label of a service. What stands
in an included file is finished with other values than what stands in the stack's own, so that the
document includes further ones, in memory, in just the way in which the files include each other:

    names in the stack's own file ◀── its values
      └─ names in what it includes ◀── the same, else those of the env files of the include
           └─ …
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from agent.adapters import memory_file
from agent.domain.repository.compose_paths import Scope, Variable

_SERVICE = "names-"


@contextmanager
def asking(variables: Sequence[Variable], root: Path) -> Iterator[tuple[bytes, list[int]]]:
    """The document for the repository at ``root``, and the descriptors that Compose needs for it.

    Raises :class:`TransientError`.
    """
    with ExitStack() as stack:
        handles: list[int] = []

        def document(scope: Scope) -> bytes:
            deeper = {v.scope[: len(scope) + 1] for v in variables if _below(v.scope, scope)}
            entries = []
            for each in sorted(deeper):
                handles.append(stack.enter_context(memory_file.holding(document(each))))
                env_files = [str(root / path) for path in each[-1]]
                where = memory_file.path(handles[-1])
                entry = {"path": where, "project_directory": str(root), "env_file": env_files}
                entries.append(entry)
            labels = {str(i): v.name for i, v in enumerate(variables) if v.scope == scope}
            service = {"image": "none", "labels": labels}
            # Another number for each document: between two of them one descriptor is added.
            name = f"{_SERVICE}{len(handles)}"
            return json.dumps({"services": {name: service}, "include": entries}).encode()

        yield document(()), handles


def answered(model: Mapping[str, Any], variables: Sequence[Variable]) -> list[str]:
    """The finished name of each of ``variables``, from what the document resolves to."""
    labels: dict[str, str] = {}
    for service in model["services"].values():
        labels |= service.get("labels") or {}
    return [labels[str(i)].replace("$$", "$") for i in range(len(variables))]


def _below(scope: Scope, outer: Scope) -> bool:
    return len(scope) > len(outer) and scope[: len(outer)] == outer

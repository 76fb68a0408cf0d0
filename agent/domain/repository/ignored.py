"""What looks as if it had an effect on a stack, and has none.

The agent names one Compose file and the project's name to Compose. An override file beside it is
then not read, and ``name:`` in it does not count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from agent.domain.documents import Document
from agent.domain.finding import Fault
from agent.domain.repository.desired import Stack
from agent.domain.repository.tree import Snapshot

OVERRIDES = (
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yaml",
    "docker-compose.override.yml",
)
OVERRIDE, NAME = "override", "name"
"""Rules of ``commitd check``."""


def notes(
    files: Snapshot, stack: str, document: Document, used: Collection[str]
) -> Iterator[Fault]:
    """Of the stack with this Compose file; ``used`` are all Compose files that it reads."""
    for name in OVERRIDES:
        path = f"stacks/{stack}/{name}"
        if path in files.tree and path not in used:
            main = document.name.rpartition("/")[2]
            yield Fault(
                "the file is not used: Compose is given no override file",
                path,
                f"merge it into {main}; or keep both under other names, with "
                f"include: [{{path: [first.yaml, second.yaml]}}] in {main}",
                OVERRIDE,
            )
    if called := other_name(stack, document):
        yield Fault(
            f"name: {called} does not count: the stack is called {stack}, and so are its volumes "
            "and networks",
            f"{document.name}:{document.line(('name',))}",
            f"take name: out; to go on with the data of {called}, call the directory {called}, or "
            f"give each volume its name: {called}_…",
            NAME,
        )


def other_name(stack: str, document: Document) -> str | None:
    """What the file calls the project, if that is not what the stack is called."""
    name = document.data.get("name")
    text = str(name) if name is not None else stack
    return text if text not in {stack, "${COMPOSE_PROJECT_NAME}"} else None


def left_behind(stack: Stack, volumes: Collection[str]) -> str | None:
    """That the data is under the other name, before the stack begins anew without it.

    ``volumes`` are those that Compose made for the project that its file names.
    """
    if not stack.called or not volumes:
        return None
    return (
        f"there are volumes of {stack.called}, which {stack.name} does not use: "
        f"{', '.join(sorted(volumes))}"
    )

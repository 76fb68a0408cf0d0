"""How the stacks of a host are worked on with plain Compose, once the agent has left it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

from agent.domain.repository.desired import Stack
from agent.domain.repository.layout import plaintext_path


def by_name(stacks: Iterable[Stack]) -> Iterator[str]:
    """Commands that need no file: one line for each stack."""
    for stack in stacks:
        yield f"docker compose -p {shlex.quote(stack.name)} ps    # or logs, stop, start, restart"


def decrypting(stacks: Iterable[Stack]) -> Iterator[str]:
    """Commands that decrypt what the stacks read, beside the encrypted files."""
    owners = {path: stack.owner(path) for stack in stacks for path in stack.secrets}
    for path, owner in sorted(owners.items()):
        plain = shlex.quote(plaintext_path(path))
        then = f" && chown {owner[0]}:{owner[1]} {plain}" if owner else ""
        yield f"sops decrypt {shlex.quote(path)} > {plain}{then}"


def applying(stacks: Iterable[Stack]) -> Iterator[str]:
    """The command for each stack that applies its files, from the top of the checkout."""
    for stack in stacks:
        directory = stack.compose.rpartition("/")[0]
        words = ["-p", stack.name, "--project-directory", directory, "-f", stack.compose]
        for file in stack.environment:
            words += ["--env-file", plaintext_path(file.path) if file.secret else file.path]
        yield f"docker compose {shlex.join(words)} up -d"

"""Secret files: which they are, which a stack needs, and what in them nobody may see."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

import yaml
from msgspec.structs import replace

from agent.domain import documents
from agent.domain.errors import PermanentError, did_you_mean
from agent.domain.finding import Fault
from agent.domain.repository import dotenv, stack_settings
from agent.domain.repository.desired import Stack
from agent.domain.repository.tree import PLAINTEXT_PREFIX, Snapshot

_NAME = re.compile(r"[^/]*\.secret\.[A-Za-z0-9_+-]+")
_TYPES = {"env": "dotenv", "yaml": "yaml", "yml": "yaml", "json": "json", "ini": "ini"}
_SHOWN_OF = 64 * 1024
"""Bytes up to which a file of any other format is searched for, line by line."""
_NO_VALUES = frozenset({"", "~", "null", "true", "false"})


def is_secret(path: str) -> bool:
    """Whether the file is called ``NAME.secret.EXT``. The plaintext beside it is not."""
    name = path.rpartition("/")[2]
    return bool(_NAME.fullmatch(name)) and not name.startswith(PLAINTEXT_PREFIX)


def sops_type(path: str) -> str:
    """What SOPS calls the format: by the last part of the name, as its own command line does."""
    return _TYPES.get(path.rpartition(".")[2], "binary")


def with_secrets(
    stack: Stack, files: Snapshot, named: Collection[str], host: str
) -> tuple[Stack, list[Fault]]:
    """``stack`` with all its secrets that are files, and all that is wrong with them.

    Of other stacks and other hosts only those in ``named`` are decrypted here, not all that lies
    in a directory which the stack names.
    """
    own = f"stacks/{stack.name}/"
    ours = ("global/", f"host/{host}/", own)
    values = {file.path for file in stack.environment}
    found = {
        path: oid
        for path, oid in stack.inputs
        if is_secret(path)
        and path not in values
        and (path in named or path.startswith(ours) or not path.startswith(("stacks/", "host/")))
    }
    faults: list[Fault] = []
    for path in found:
        if not files.regular(path):
            message = "the secret is not a regular file"
            faults.append(Fault(message, path, "commit the file itself"))
        elif files.tree[path].size > documents.MAX_BYTES:
            message = f"the secret is longer than the limit of {documents.MAX_BYTES:,} bytes"
            faults.append(Fault(message, path, "keep data out of the repository"))
    secrets = [p.removeprefix(own) for p in (*values, *found) if p.startswith(own) and is_secret(p)]
    for name in stack.settings.secret_owner:
        if name != stack_settings.ALL and name not in secrets:
            line = files.document(stack.compose).line((stack_settings.KEY, "secret_owner", name))
            message = f"secret_owner: the stack has no secret {name!r}"
            hint = did_you_mean(name, secrets, "name it relative to the Compose file")
            faults.append(Fault(message, f"{stack.compose}:{line}", hint, "settings"))
    return replace(stack, sealed=tuple(found.items())), faults


def words(path: str, plaintext: bytes) -> list[str]:
    """What of a secret file must not show in any text: values as they stand there, not their names.

    What cannot be a name is a part of a value in several lines.
    Of a file that holds neither variables nor YAML nor JSON all lines, or none if it is long.
    """
    try:
        if path.endswith(".env"):
            pairs = dotenv.decrypted_values(plaintext)
            return [*pairs.values(), *(key for key in pairs if dotenv.shown(key) != key)]
        if sops_type(path) in {"yaml", "json"}:
            # As they are written: a number that is read and written again may be another text.
            _, root = documents.compose(plaintext, path)
            return [word for word in _leaves(root) if word not in _NO_VALUES]
    except (ValueError, PermanentError):
        pass
    if len(plaintext) > _SHOWN_OF:
        return []
    lines = plaintext.decode(errors="ignore").splitlines()
    if path.endswith(".ini"):
        return [line.partition("=")[2].strip() for line in lines]
    return lines


def hidden(opened: Mapping[str, bytes]) -> tuple[str, ...]:
    """:func:`words` of several files, plaintext by path: what no message may show."""
    return tuple(dict.fromkeys(w for path, text in opened.items() for w in words(path, text)))


def _leaves(node: yaml.Node | None) -> Iterator[str]:
    if isinstance(node, yaml.ScalarNode):
        yield node.value
    elif isinstance(node, yaml.CollectionNode):
        for each in node.value:
            yield from _leaves(each[1] if isinstance(node, yaml.MappingNode) else each)

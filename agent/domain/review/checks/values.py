"""Values that are not what they look like: variables without one, and dollar signs."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress

from agent.domain.errors import PermanentError
from agent.domain.finding import Finding, Level
from agent.domain.repository import dotenv
from agent.domain.repository.compose_paths import PathKind, of_project, of_service
from agent.domain.repository.secret_files import is_secret
from agent.domain.repository.tree import PLAINTEXT_PREFIX
from agent.domain.review.checks.places import Places, is_yaml
from agent.domain.sops import metadata

_LONE = re.compile(r"(?<!\$)(?:\$\$)*\$(?![$A-Za-z_{])")
"""A dollar sign that begins no variable; Compose takes it as it is."""
_MALFORMED = re.compile(r"(?<!\$)(?:\$\$)*\$\{(?![A-Za-z_]\w*(?:\}|:?[-?+]))", re.ASCII)
"""One that begins what is no variable to Compose, which refuses it."""
_CUT = re.compile(
    r"""[^\S\n]*(?:export[^\S\n]+)?[\w.]+[^\S\n]*=[^\S\n]*(?!["'\s])[^\n]*?\s\#(?=\S)"""
)


def unset(variables: Iterable[str], places: Places) -> Iterator[Finding]:
    """``variables`` are what Compose found no value for."""
    for name in sorted(variables):
        for where in places.mentions(name) or [places.of("services")]:
            if is_yaml(where):
                message = f"nobody sets {name}, so that it is empty"
                hint = f"set it in an env file; ${{{name}:-}} if it may be empty, or $${name} if "
                hint += "the dollar sign is meant"
                yield Finding(
                    level=Level.ERROR, rule="variable", where=where, message=message, hint=hint
                )
            else:
                message = f"Compose takes ${name} for a variable, which nobody sets: "
                hint = "put the value in single quotes"
                yield Finding(
                    level=Level.ERROR,
                    rule="dollar",
                    where=where,
                    message=f"{message}the value loses it",
                    hint=hint,
                )


def lone_dollars(places: Places) -> Iterator[Finding]:
    """Dollar signs in Compose files that stand for themselves until a letter follows."""
    for where, text in places.strings():
        if _LONE.search(text):
            message = "a dollar sign that begins no variable"
            yield Finding(
                level=Level.WARNING, rule="dollar", where=where, message=message, hint="write $$"
            )


def malformed(places: Places) -> list[Finding]:
    """Variables in Compose files that are none, which Compose refuses one at a time."""
    message = "${ begins what is no variable"
    hint = "write ${NAME} or ${NAME:-default}, or $${ for the characters themselves"
    found = [where for where, text in places.strings() if _MALFORMED.search(text)]
    return [
        Finding(level=Level.ERROR, rule="dollar", where=where, message=message, hint=hint)
        for where in found
    ]


def doubled(text: str) -> str:
    """The text of a Compose file with what :func:`malformed` finds as plain characters."""
    return _MALFORMED.sub(lambda found: f"{found[0][:-1]}${{", text)


def unterminated(text: str) -> int | None:
    """The line from 1 of the value of an env file whose quote does not end, if there is one."""
    found = dotenv.entries(text)
    return found[-1].line if found else None


def cut_values(path: str, text: str) -> Iterator[Finding]:
    """Values of a plain env file that Compose ends where a word begins with ``#``."""
    for number, line in enumerate(text.split("\n"), 1):
        if _CUT.match(line):
            message = "the value ends before #, where Compose takes the rest for a comment"
            hint = "put the value in quotes; a comment has a space behind its #"
            yield Finding(
                level=Level.WARNING,
                rule="dollar",
                where=f"{path}:{number}",
                message=message,
                hint=hint,
            )


def not_raw(places: Places) -> Iterator[Finding]:
    """Decrypted files that Compose would parse: quotes, ``$`` and ``#`` in them change values."""
    for name, service, document in places.services():
        for mention in of_service(service, ("services", name)):
            file = posixpath.basename(mention.name)
            if mention.kind is not PathKind.ENV_FILE or not file.startswith(PLAINTEXT_PREFIX):
                continue
            entry = service["env_file"]
            entry = entry[mention.at[3]] if isinstance(entry, list) else entry  # type: ignore[index]
            if not isinstance(entry, dict) or entry.get("format") != "raw":
                where = f"{document.name}:{document.line(mention.at)}"
                message = f"Compose changes values with quotes, $ or # in {file}"
                hint = f"write {{path: {file}, format: raw}} (Compose 2.30), or name the variables "
                yield Finding(
                    level=Level.WARNING,
                    rule="raw",
                    where=where,
                    message=message,
                    hint=f"{hint}under environment:",
                )


def unreadable(places: Places) -> Iterator[Finding]:
    """Lines of env files that Compose cannot read in the format ``raw``; of secrets their names."""
    for named in sorted(places.read.raw):
        directory, _, last = named.rpartition("/")
        path = posixpath.join(directory, last.removeprefix(PLAINTEXT_PREFIX))
        content = places.content(named if named == path else path)
        if named != path:
            with suppress(PermanentError):
                content = metadata.names(content, path)
        for line, message, hint in dotenv.raw_faults(content):
            yield Finding(
                level=Level.ERROR, rule="raw", where=f"{path}:{line}", message=message, hint=hint
            )


def encrypted(places: Places) -> Iterator[Finding]:
    """Encrypted files that are named where their plaintext is meant."""
    for document in places.documents:
        found = [*of_project(document.data)]
        for name, service, owner in places.services():
            found += of_service(service, ("services", name)) if owner is document else ()
        for mention in found:
            if mention.kind is not PathKind.BUILD and is_secret(mention.name):
                file = PLAINTEXT_PREFIX + posixpath.basename(mention.name)
                where = f"{document.name}:{document.line(mention.at)}"
                message = f"{mention.name} is the encrypted file: "
                message += "its ENC[…] are what the container gets"
                hint = f"name {file} beside it"
                yield Finding(
                    level=Level.WARNING, rule="ciphertext", where=where, message=message, hint=hint
                )

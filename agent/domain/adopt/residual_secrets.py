"""What looks secret and stays readable in files that are made of a person's own: to be pointed at.

Only values of variables can be moved. What is in a command, a label or a comment is for a person.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from agent.domain.documents import Document
from agent.domain.sops.heuristics import looks_secret, with_credentials

_TELLING = 6
"""Characters of a value that is not found everywhere by chance."""
_WORD = r"pass|password|passwd|passphrase|requirepass|secret|token|api-?key"
_OPTION = re.compile(rf"--?(?:[\w-]*-)?(?:{_WORD})", re.IGNORECASE)
_GIVEN = re.compile(rf"(?:^|\s)(?:{_OPTION.pattern})(?:=|\s+)['\"]?(?![$'\"-])\S", re.IGNORECASE)
_DEFAULT = re.compile(r"\$\{(\w+):?-([^{}$]+)\}", re.ASCII)
_COMMENT = re.compile(r"\s*#\s*(?:export\s+)?([A-Za-z_]\w*)\s*[=:]\s*(\S+)", re.ASCII)
_PAIR = re.compile(
    r"(?:^|[\s;,{])([A-Za-z_][\w.-]*)\s*[=:]\s*['\"]?(?![$'\"])([^\s'\"]+)", re.ASCII
)
_PART = re.compile(r"[^\w]+")


def notes(
    document: Document, files: Mapping[str, bytes], secrets: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Where a person should look, as ``file:line: what``; shows no value.

    ``document`` is the Compose file, ``files`` are all that stay plain, by path, and ``secrets``
    the values that do not, by file.
    """
    found: dict[str, str] = {}
    values = (pair for each in secrets.values() for pair in each.items())
    telling = {value: key for key, value in values if len(value) >= _TELLING}
    for where, what in (*_scalars(document), *_lines(files, telling)):
        found.setdefault(where, what)
    return [f"{where}: {what}" for where, what in found.items()]


def _lines(files: Mapping[str, bytes], telling: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for path, content in files.items():
        for number, line in enumerate(content.decode(errors="replace").split("\n"), 1):
            for value, key in telling.items():
                if value in line:
                    yield f"{path}:{number}", f"the value of {key} stands here"
            comment = _COMMENT.match(line)
            if comment and "$" not in comment[2] and looks_secret(comment[1], comment[2]):
                yield f"{path}:{number}", f"{comment[1]} in a comment looks secret"


def _scalars(document: Document) -> Iterator[tuple[str, str]]:
    for path, line in document.lines.items():
        before, data = None, document.data
        for step in path:
            before, data = data, data.get(step) if isinstance(data, dict) else data[step]
        if isinstance(data, str | int) and (what := _said(path[-1:], before, str(data))):
            yield f"{document.name}:{line}", what


def _said(last: Collection[str | int], around: Any, text: str) -> str | None:
    """Why one value, the last step to which and what is around it are given, looks secret."""
    for variable, default in _DEFAULT.findall(text):
        if looks_secret(variable, default):
            return f"what {variable} is without a value looks secret"
    if with_credentials(text) and "${" not in text:
        return "a URL here holds a password"
    if _GIVEN.search(text):
        return "an option here looks like a password"
    pairs = _PAIR.findall(text)
    for key in last:
        pairs += [(key, text)] if isinstance(key, str) else []
        option = around[key - 1] if isinstance(key, int) and key else ""
        if "$" not in text and _OPTION.fullmatch(str(option)):
            return "an option here looks like a password"
    for name, value in pairs:
        if "$" not in value and looks_secret(_PART.split(name)[-1], value):
            return f"{name} looks secret"
    return None

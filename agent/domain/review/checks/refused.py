"""What Compose says instead of a model: which lines it means, and what would let it go on.

Compose names one thing at a time. Its words are those of compose-go 2.x; what is not known here is
a finding all the same, only none after which Compose can be asked again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from msgspec import Struct

from agent.domain.documents import Path
from agent.domain.errors import CommitdError
from agent.domain.finding import Finding, Level
from agent.domain.review.checks import merge, values
from agent.domain.review.checks.places import Places

_ENV_LINE = re.compile(r"failed to read (\S+): line (\d+): (.*)", re.DOTALL)
_ENV_TEXT = re.compile(r'failed to read (\S+): (Invalid template: "(.*)")', re.DOTALL)
_REQUIRED = re.compile(r"required variable (\w+)")
_UNKNOWN = re.compile(r"(?:validating \S+: +)?(\S*) ?additional properties ('.*') not allowed")
_NO_KEY = re.compile(r"(?:validating \S+: +)?((?:[\w-]+\.)*)(\S+) false schema")
_DECODED = re.compile(r"'(\w+)\[([^\]]+)\]\.([\w.-]+)' ((?:(?! / ).)+)")
_UNDEFINED = re.compile(r'service "([^"]+)" refers to undefined (\w+) ')
_NO_SERVICE = re.compile(r'service "([^"]+)" depends on undefined service "([^"]+)"')
_NO_IMAGE = re.compile(r'service "([^"]+)" has neither an image')
_NO_BASE = re.compile(r'cannot extend service "([^"]+)"')
_RING = re.compile(r"\bextends (\S+) in ")
_CIRCLE = re.compile(r"dependency cycle detected: (.+)")
_EITHER = re.compile(r"service (\S+) declares mutually exclusive `\w+` and `(\w+)`")
_PORT = re.compile(r"invalid (?:container|host)Port: (\S+)")
_PATH = re.compile(r"\b(?:services|networks|volumes|configs|secrets|include)(?:\.[\w-]+)+")
_SERVICE = re.compile(r'service "([^"]+)"')
_UNREAD = "unterminated quoted value"
_DOLLARS = "invalid interpolation"
_ON_OTHERS = ("depends_on", "links", "volumes_from", "network_mode", "pid", "ipc")
_DEPTH = 3
"""Steps of a path down to the key of one service, network or volume."""


class Refusal(Struct, frozen=True, kw_only=True):
    """``findings``, and what they are about, each of which can be taken away for another look.

    ``keys`` are paths in the Compose files, ``imageless`` are services, ``lines`` are lines (from
    1) of env files, ``variables`` are required and have no value; ``dollars`` when they begin what
    is no variable. It is ``relative`` when the fault may be in what was taken away before.
    """

    findings: tuple[Finding, ...]
    keys: tuple[Path, ...] = ()
    imageless: tuple[str, ...] = ()
    lines: tuple[tuple[str, int], ...] = ()
    variables: tuple[str, ...] = ()
    dollars: bool = False
    relative: bool = False


def read(error: CommitdError, root: str, places: Places, text: Callable[[str], str]) -> Refusal:
    """``root`` is the path that stands for the repository; ``text`` what an env file holds."""
    said = error.message.replace(f"{root}/", "")
    path, _, line = (error.where or "").removeprefix(f"{root}/").rpartition(":")
    if path in places.read.raw:
        finding = Finding(
            level=Level.ERROR, rule="raw", where=f"{path}:{line}", message=said, hint=error.hint
        )
        return Refusal(findings=(finding,), lines=((path, int(line)),))
    if found := _ENV_LINE.search(said):
        return _env_line(found[1], int(found[2]), found[3], text(found[1]))
    if found := _ENV_TEXT.search(said):
        before, _, _ = text(found[1]).partition(found[3])
        return _env_line(found[1], before.count("\n") + 1, found[2], "")
    if found := _REQUIRED.search(said):
        where = (places.mentions(found[1]) or [places.of("services")])[0]
        finding = Finding(
            level=Level.ERROR,
            rule="variable",
            where=where,
            message=said,
            hint="set it in an env file",
        )
        return Refusal(findings=(finding,), variables=(found[1],))
    if _DOLLARS in said and (findings := values.malformed(places)):
        return Refusal(findings=tuple(findings), dollars=True)
    if found := _UNKNOWN.search(said):
        at = places.find(found[1])
        keys = tuple((*at, name.strip("'")) for name in found[2].split(", "))
        place = found[1] or "the file"
        texts = [f"Compose knows no key {key[-1]!r} in {place}" for key in keys]
        findings = [_finding(places.of(*key), text) for key, text in zip(keys, texts, strict=True)]
        return Refusal(findings=tuple(findings), keys=keys)
    if found := _NO_KEY.search(said):  # Compose 5
        key = (*places.find(found[1].rstrip(".")), found[2])
        message = f"Compose knows no key {found[2]!r} in {found[1].rstrip('.') or 'the file'}"
        return Refusal(findings=(_finding(places.of(*key), message),), keys=(key,))
    if entries := list(_DECODED.finditer(said)):
        paths = [f"{each[1]}.{each[2]}.{each[3]}" for each in entries]
        keys = tuple(places.find(path) for path in paths)
        findings = [
            _finding(places.of(*key), f"{path}: {each[4]}")
            for key, path, each in zip(keys, paths, entries, strict=True)
        ]
        return Refusal(findings=tuple(findings), keys=tuple(key[:_DEPTH] for key in keys))
    return _elsewhere(said, error, places)


def _finding(where: str, message: str, hint: str | None = None) -> Finding:
    return Finding(level=Level.ERROR, rule="compose", where=where, message=message, hint=hint)


def _env_line(path: str, line: int, said: str, text: str) -> Refusal:
    if _UNREAD in said:  # at its end; what is meant is where it begins
        line = values.unterminated(text) or line
    finding = Finding(
        level=Level.ERROR,
        rule="env-file",
        where=f"{path}:{line}",
        message=said,
        hint="mind the quotes",
    )
    return Refusal(findings=(finding,), lines=((path, line),))


def _elsewhere(said: str, error: CommitdError, places: Places) -> Refusal:
    """What names a service, or a path in the Compose files."""
    keys: tuple[Path, ...] = ()
    imageless: tuple[str, ...] = ()
    relative = True
    if ring := _RING.findall(said):
        keys = tuple(("services", name, "extends") for name in dict.fromkeys(ring))
        said = f"services extend each other in a circle: {', '.join(dict.fromkeys(ring))}"
    elif found := _UNDEFINED.search(said):
        keys = (("services", found[1], f"{found[2]}s"),)
    elif found := _NO_SERVICE.search(said):
        keys = tuple(("services", found[1], key) for key in _ON_OTHERS)
        keys = tuple(key for key in keys if places.has(*key))
    elif found := _NO_IMAGE.search(said):
        imageless = (found[1],)
    elif found := _NO_BASE.search(said):
        keys = (("services", found[1], "extends"),)
    elif found := _CIRCLE.search(said):
        names = dict.fromkeys(found[1].split(" -> "))
        keys = tuple(("services", name, "depends_on") for name in names)
    else:
        relative = False
        keys = tuple(_named(said, places))
    if keys:
        where = min((places.of(*key) for key in keys), key=merge.place)
    elif service := _SERVICE.search(said):
        where = places.of("services", service[1])
    else:
        where = error.where or places.of("services")
    finding = _finding(where, said, error.hint)
    short = tuple(key[:_DEPTH] for key in keys)
    return Refusal(findings=(finding,), keys=short, imageless=imageless, relative=relative)


def _named(said: str, places: Places) -> Iterator[Path]:
    if found := _EITHER.search(said):
        yield ("services", found[1], found[2])
    elif found := _PORT.search(said):
        for name, service, _ in places.services():
            if found[1] in str(service.get("ports")):
                yield ("services", name, "ports")
    elif found := _PATH.search(said):
        yield places.find(found[0])

"""The creation rules of ``.sops.yaml`` that follow from who runs what.

They stand between two marks, so that rules of a person's own before and behind them stay as they
are. SOPS takes the first rule that fits a path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from agent.domain.errors import PermanentError
from agent.domain.recipients.access import PERSONS_PATH, Access

PATH = ".sops.yaml"
BEGIN = "# commitd secrets recipients: begin"
END = "# commitd secrets recipients: end"
_ABOUT = (
    "# What is between the marks follows from the lists of stacks, host/*/age.pub and",
    f"# {PERSONS_PATH}: change these, then run commitd secrets recipients --write --update.",
)
_NEW = f"creation_rules:\n  {BEGIN}\n  {END}\n"
_MARKED = re.compile(
    rf"^(?P<indent>[ ]*){re.escape(BEGIN)}[^\n]*\n(?:.*?\n)??[ ]*{re.escape(END)}[^\n]*$",
    re.DOTALL | re.MULTILINE,
)
_STACKS = "stacks"


def rules(access: Access) -> list[tuple[str, tuple[str, ...]]]:
    """Patterns of paths and the recipients for them, in the order in which they must stand.

    Raises :class:`PermanentError` when it is not known what a host runs or which its key is.
    """
    for host, listed in access.stacks.items():
        if listed is None:
            message = f"what {host} runs is unknown: its list cannot be read"
            hint = "mend it first: commitd check says what is wrong"
            raise PermanentError(message, where=f"host/{host}/stacks.yaml", hint=hint)
    ordinary: dict[str, tuple[str, ...]] = {"global": access.keys_of(frozenset(access.hosts))}
    for host in access.hosts:
        ordinary[f"host/{host}"] = access.keys_of(frozenset({host}))
    for stack in _all_stacks(access):
        runs = {host for host, listed in access.stacks.items() if stack in (listed or ())}
        ordinary[f"{_STACKS}/{stack}"] = access.keys_of(frozenset(runs))
    if access.problems:
        raise access.problems[0]
    special: dict[tuple[str, ...], list[str]] = {}
    for path in access.secrets:
        wanted = access.wanted(path)
        if wanted != ordinary.get(_place(path)):
            special.setdefault(wanted, []).append(path)
    alike: dict[tuple[str, ...], list[str]] = {}
    for place, wanted in ordinary.items():
        alike.setdefault(wanted, []).append(place)
    found = [(f"^{_any(paths)}$", wanted) for wanted, paths in special.items()]
    found += [
        (rf"^{_any(places)}/(.*/)?[^/]*\.secret\.[A-Za-z0-9_+-]+$", wanted)
        for wanted, places in alike.items()
    ]
    return [(pattern, wanted) for pattern, wanted in found if wanted]


def write(before: bytes | None, access: Access) -> bytes:
    """The file with the rules that follow now in it; ``before`` is what it holds, if it is there.

    Raises :class:`PermanentError` for a file without marks, and as :func:`rules` does.
    """
    text = (before if before is not None else _NEW.encode()).decode(errors="surrogateescape")
    marked = _MARKED.search(text)
    if not marked:
        raise PermanentError(
            "it was not written by commitd and has no marks, so it stays as it is",
            where=PATH,
            hint=f"where the rules shall go below creation_rules:, put the lines {BEGIN!r} and "
            f"{END!r}; or move the file away",
        )
    lines = [BEGIN, *_ABOUT]
    names = _names(access)
    for pattern, wanted in rules(access):
        quoted = pattern.replace("'", "''")
        lines += [f"- path_regex: '{quoted}'", "  key_groups:", "    - age:"]
        lines += [f"        - {key}  # {names[key]}" for key in wanted]
    lines.append(END)
    block = "\n".join(marked["indent"] + line for line in lines)
    result = text[: marked.start()] + block + text[marked.end() :]
    return result.encode(errors="surrogateescape")


def _names(access: Access) -> dict[str, str]:
    names = dict.fromkeys(access.persons, "a person")
    for host, own in access.host_keys.items():
        names.update(dict.fromkeys(own, host))
    return names


def _all_stacks(access: Access) -> list[str]:
    """Those that run somewhere, and those that nobody runs: they have secrets as well."""
    prefix = f"{_STACKS}/"
    there = {
        path.split("/")[1]
        for path in access.files
        if path.startswith(prefix) and path.count("/") > 1
    }
    listed = {stack for names in access.stacks.values() for stack in names or ()}
    return sorted(there | listed)


def _place(path: str) -> str:
    parts = path.split("/")
    return "/".join(parts[: 1 if parts[0] == "global" else 2])


def _any(paths: Iterable[str]) -> str:
    """A pattern for just these paths; those below one directory share its name."""
    below: dict[str, list[str]] = {}
    for path in paths:
        directory, _, name = path.rpartition("/")
        below.setdefault(directory, []).append(re.escape(name))
    parts = [
        (f"{re.escape(directory)}/" if directory else "")
        + (names[0] if len(names) == 1 else f"({'|'.join(names)})")
        for directory, names in sorted(below.items())
    ]
    return parts[0] if len(parts) == 1 else f"({'|'.join(parts)})"

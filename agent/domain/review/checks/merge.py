"""Findings of many hosts to one list, in which each stands once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from agent.domain.finding import Finding
from agent.domain.review.repository_scan import NOWHERE

_LINE = re.compile(r"[0-9]{1,9}")

Found = tuple[str, str, Finding]
"""A host, a stack of it, and what was found there."""


def merge(found: Iterable[Found], runs: Mapping[str, frozenset[str]]) -> list[Finding]:
    """``runs`` maps each stack to the hosts on which it was judged.

    What was found on some of these and not on others names them.
    """
    where: dict[tuple[str, Finding], set[str]] = {}
    for host, stack, finding in found:
        where.setdefault((stack, finding), set()).add(host)
    merged = []
    for (stack, finding), hosts in where.items():
        others = runs.get(stack, frozenset()) - hosts - {NOWHERE}
        if others:
            said = f"{finding.message} (on {', '.join(sorted(hosts))})"
            merged.append(replace(finding, message=said))
        else:
            merged.append(finding)
    return arranged(merged)


def arranged(findings: Iterable[Finding]) -> list[Finding]:
    """Each once, by file and line."""
    return sorted(
        dict.fromkeys(findings), key=lambda f: (*place(f.where), f.level, f.rule, f.message)
    )


def place(where: str) -> tuple[str, int]:
    """File and line of ``file:line``; 0 where there is no line."""
    file, colon, line = where.rpartition(":")
    return (file, int(line)) if colon and _LINE.fullmatch(line) else (where, 0)

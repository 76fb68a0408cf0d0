"""A comparison of two commits as text, as Markdown for a pull request, and as data."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from msgspec import to_builtins

from agent.control.review.diff import Comparison
from agent.domain.outcome import short
from agent.domain.review.host_diff import StackChange
from agent.domain.shortened import some_of
from agent.surface.cli import effect_report
from agent.surface.cli.check_report import count
from agent.surface.cli.effect_report import MOST
from agent.surface.cli.terminal import json_text, one_line

MAX_MARKDOWN = 60_000
"""Characters; a comment may have 65,536."""
_SIGNS = re.compile(r"[\\`*_\[\]<>|~#@]")
_CALLS = re.compile(r"(?<!\w)\\@|\\#")
"""What begins a person's name or an issue's number: forges look for both once Markdown is done."""


def as_text(found: Comparison) -> str:
    """Everything, indented."""
    lines = [f"{short(found.base)} → {short(found.head)}"]
    if found.warning:
        lines.append(f"warning: {found.warning}")
    for host in found.hosts:
        lines.append(f"{host.name}" + (f": {host.note}" if host.note else ""))
        for stack in host.stacks:
            lines.append(f"  {_headline(stack)}")
            lines += [f"    {line}" for line in _details(stack)]
    lines += [f"{host}: nothing changes" for host in found.unchanged]
    return "\n".join(map(one_line, lines))


def as_markdown(found: Comparison) -> str:
    """A table that sums up, and the details folded away; equal changes of hosts stand once."""
    together: dict[StackChange, list[str]] = {}
    for host in found.hosts:
        for stack in host.stacks:
            together.setdefault(stack, []).append(_plain(host.name))
    lines = [f"### commitd: {_title(found)}"]
    if found.warning:
        lines += ["", f"> {_plain(found.warning)}"]
    if notes := [
        f"- **{_plain(host.name)}**: {_plain(host.note)}" for host in found.hosts if host.note
    ]:
        lines += ["", *notes]
    if together:
        lines += ["", "| stack | on | what happens |", "|---|---|---|"]
        lines += [
            f"| {_code(stack.name)} | {', '.join(hosts)} | {_plain(_summary(stack))} |"
            for stack, hosts in together.items()
        ]
    details: list[str] = []
    for stack, hosts in together.items():
        if items := _details(stack):
            details += ["", f"**{_plain(stack.name)}** on {', '.join(hosts)}", ""]
            details += [f"{_indent(item)}- {_plain(item.strip())}" for item in items]
    end = ["", f"<sub>{short(found.base)} → {short(found.head)}</sub>"]
    if details:
        fold = ["", "<details><summary>Details</summary>", *details, "", "</details>"]
        if len("\n".join([*lines, *fold, *end])) > MAX_MARKDOWN:
            fold = ["", "The details are too long to be shown here; commitd diff prints them."]
        lines += fold
    return "\n".join([*lines, *end])[:MAX_MARKDOWN]


def as_json(found: Comparison) -> str:
    """A stable contract, see the reference."""
    data = to_builtins(found)
    for host, change in zip(data["hosts"], found.hosts, strict=True):
        for shown, stack in zip(host["stacks"], change.stacks, strict=True):
            shown.update(stack.effects.as_json())
            del shown["effects"]
    return json_text(data)


FORMATS: Mapping[str, Callable[[Comparison], str]] = {
    "text": as_text,
    "markdown": as_markdown,
    "json": as_json,
}


def _title(found: Comparison) -> str:
    if not found.hosts:
        return "nothing changes on any host"
    every = count(len(found.hosts) + len(found.unchanged), "host")
    return f"{len(found.hosts)} of {every} would change"


def _headline(stack: StackChange) -> str:
    if stack.action == "hold":
        return f"{stack.name}: held, {stack.message}"
    if stack.action == "remove":
        return f"{stack.name}: taken down, its volumes stay ({stack.message})"
    return f"{stack.name}: deployed ({stack.message})"


def _summary(stack: StackChange) -> str:
    """One line of the table."""
    if stack.action != "deploy":
        return _headline(stack).partition(": ")[2]
    if stack.effects.unknown:
        return f"{stack.message}; its services are not known: {stack.effects.unknown}"
    parts = [f"reaches the host: {each}" for each in stack.effects.asks]
    parts += [effect_report.summary(effect) for effect in stack.effects.services]
    if not parts:
        return f"{stack.message}, no container is touched"
    said = some_of(parts, MOST, between="; ")
    return said if stack.inputs else f"{stack.message}: {said}"


def _details(stack: StackChange) -> list[str]:
    """Everything about one stack; what belongs to a service is indented by two."""
    files = [f"files: {some_of(stack.inputs, MOST)}"] if stack.inputs else []
    return files + effect_report.details(stack.effects)


def _indent(item: str) -> str:
    return " " * (len(item) - len(item.lstrip()))


def _code(text: str) -> str:
    return f"`{text.replace('`', '').replace('|', chr(92) + '|')}`"


def _plain(text: str) -> str:
    """Text that Markdown leaves as it is, on one line, and that calls nobody."""
    text = _SIGNS.sub(r"\\\g<0>", " ".join(text.split()).replace("&", "&amp;"))
    return _CALLS.sub(r"\g<0>&#8203;", text)

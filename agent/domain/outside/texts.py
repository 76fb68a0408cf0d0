"""The words of a message: what happened, on which host, by which commit, why, and what to do.

All that others wrote (names, commits, errors) is plain text here: one line, without control
characters, without marks that a chat would take for a call to everybody.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from msgspec import Struct

from agent.domain.outside.folding import Batch, Item
from agent.domain.outside.happenings import Commit, Happening
from agent.domain.outside_config import Kind

_CAUSE, _NAME, _BODY = 400, 100, 3500
"""Characters at most. Services cut, or refuse, what is much longer."""
_CALLS = re.compile(r"(?<!\w)@(?=\w)|<(?=[!@#])")
_NOUNS: Mapping[Kind, tuple[str, str]] = {
    Kind.DEPLOYED: ("deployed", "{} stacks were deployed or removed"),
    Kind.FAILED: ("failed", "{} failures"),
    Kind.ROLLED_BACK: ("rolled back", "{} stacks were rolled back"),
    Kind.EVICTED: ("removed", "{} undeclared containers were removed"),
    Kind.HELD: ("held", "{} things wait for a person"),
    Kind.REMOTE_DOWN: ("remote down", "{} remotes do not answer"),
    Kind.REMOTE_BACK: ("remote back", "{} remotes answer again"),
    Kind.RECOVERED: ("recovered", "{} recovered"),
}


class Message(Struct, frozen=True):
    """One message: a title of one line, and a text."""

    title: str
    text: str


def message(batch: Batch, host: str, template: str | None = None) -> Message:
    """In our words, or with the ``template`` of its kind as the text."""
    title = f"{host}: {_headline(batch)}"
    text = _text(batch, host)
    if template is not None:
        text = template.format_map({**_fields(batch, host), "title": title, "text": text})
    return Message(title, _cut(text, _BODY))


def trial(host: str) -> Message:
    """What ``commitd notify --test`` sends."""
    text = f"A test of the notifications of commitd on {host}. Nothing happened, nothing is to do."
    return Message(f"{host}: test", text)


def _headline(batch: Batch) -> str:
    if batch.count == 1:
        happening = batch.items[0].happening
        return f"{plain(happening.subject, _NAME)} {plain(happening.said, _NAME)}"
    return _NOUNS[batch.kind][1].format(batch.count)


def _text(batch: Batch, host: str) -> str:
    lines = [_line(item) for item in batch.items] if batch.count > 1 else _alone(batch)
    if batch.more:
        lines.append(f"… and {batch.more} more")
    commits = list(dict.fromkeys(c for i in batch.items if (c := i.happening.commit)))
    lines += [f"Commit {_commit(commit)}" for commit in commits[:3]]
    if len(commits) > 3:  # noqa: PLR2004  as many as are shown
        lines.append(f"and {len(commits) - 3} more commits")
    if advice := _advice(batch):
        lines.append(f"On {host}: {advice}")
    return "\n".join(lines)


def _alone(batch: Batch) -> list[str]:
    happening = batch.items[0].happening
    first = f"{plain(happening.subject, _NAME)} {plain(happening.said, _NAME)}"
    return [first, plain(happening.cause, _CAUSE)] if happening.cause else [first]


def _line(item: Item) -> str:
    happening, many = item.happening, f" ({item.times} times)" if item.times > 1 else ""
    cause = f": {plain(happening.cause, _NAME)}" if happening.cause else ""
    return f"- {plain(happening.subject, _NAME)} {plain(happening.said, _NAME)}{many}{cause}"


def _advice(batch: Batch) -> str:
    """Of the only one; of many the one that they share, or where to look."""
    advice = list(dict.fromkeys(i.happening.advice for i in batch.items if i.happening.advice))
    if len(advice) == 1:
        return plain(advice[0], _NAME)
    return "commitd status" if advice else ""


def _commit(commit: Commit) -> str:
    subject = f": {plain(commit.subject, _NAME)}" if commit.subject else ""
    author = f" ({plain(commit.author, _NAME)})" if commit.author else ""
    return f"{commit.sha[:7]}{subject}{author}"


def _fields(batch: Batch, host: str) -> dict[str, str]:
    happenings = [item.happening for item in batch.items]
    commit = next((h.commit for h in happenings if h.commit), None)
    return {
        "host": host,
        "kind": batch.kind.value,
        "count": str(batch.count),
        "subject": _listed(happenings, batch.more),
        "said": plain(happenings[0].said, _NAME) if len(happenings) == 1 else "",
        "cause": plain(next((h.cause for h in happenings if h.cause), ""), _CAUSE),
        "advice": _advice(batch),
        "commit": commit.sha[:7] if commit else "",
        "commit_subject": plain(commit.subject, _NAME) if commit else "",
        "author": plain(commit.author, _NAME) if commit else "",
    }


def _listed(happenings: list[Happening], more: int) -> str:
    names = [plain(name, _NAME) for name in dict.fromkeys(h.subject for h in happenings)]
    return ", ".join(names) + (f" and {more} more" if more else "")


def plain(text: str, longest: int) -> str:
    """On one line, harmless to whoever shows it."""
    shown = "".join(" " if unicodedata.category(c) in _HIDDEN else c for c in text)
    return _CALLS.sub(lambda call: call[0] + "\u200b", _cut(" ".join(shown.split()), longest))


_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"

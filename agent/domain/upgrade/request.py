"""Whether the version of the agent that a commit asks for is to be installed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum

from msgspec import Struct

from agent.domain.repository.agent_version import AgentVersion

_RELEASE = re.compile(r"(\d+(?:\.\d+)*)(?:[.~]?(dev|a|b|rc|post)(\d+))?")
_ORDER = {"dev": 0, "a": 1, "b": 2, "rc": 3, "": 4, "post": 5}
_PARTS = 6


class Answer(Enum):
    """What to do about it."""

    NOTHING = "it runs"
    WAIT = "another version is on trial"
    INSTALL = "it is to be installed"
    REFUSE = "it is not installed"


class Decision(Struct, frozen=True):
    """The answer, and why it is not installed, for people."""

    answer: Answer
    why: str = ""


def decide(
    wanted: AgentVersion,
    *,
    running: str,
    on_trial: bool,
    given_up: Iterable[tuple[str, str | None, str]],
    approved: AgentVersion | None,
) -> Decision:
    """``given_up`` are versions with the sum of their package (None: any) and why.

    ``approved`` is what a person has agreed to, whatever version it is.
    """
    if wanted.version == running:
        return Decision(Answer.NOTHING)
    if on_trial:
        return Decision(Answer.WAIT)
    for version, sha256, why in given_up:
        if version == wanted.version and sha256 in {None, wanted.sha256}:
            hint = "it is tried again when the entry names another version or sum"
            return Decision(Answer.REFUSE, f"{version} was given up on this host ({why}); {hint}")
    if approved == wanted or is_newer(wanted.version, running):
        return Decision(Answer.INSTALL)
    hint = "commitd approve agent has it installed all the same"
    return Decision(Answer.REFUSE, f"{wanted.version} is not newer than {running}; {hint}")


def is_newer(version: str, than: str) -> bool:
    """Whether it is; not where one of them is not written as versions of commitd are."""
    one, other = _order(version), _order(than)
    return one is not None and other is not None and one > other


def _order(version: str) -> tuple[tuple[int, ...], int, int] | None:
    match = _RELEASE.fullmatch(version)
    if match is None or len(numbers := match[1].split(".")) > _PARTS:
        return None
    release = tuple(int(number) for number in numbers) + (0,) * (_PARTS - len(numbers))
    return release, _ORDER[match[2] or ""], int(match[3] or 0)

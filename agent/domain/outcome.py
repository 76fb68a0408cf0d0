"""The codes of what the agent does and why. Programs get the code, people its text.

A code is a promise: it is in the journal, in JSON and in ``docs/reference/codes.md``, and does not
change with the wording.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Coded(StrEnum):
    """An enum whose value is a stable code in kebab case; ``text`` says it to people."""

    _value_: str
    text: str

    def __new__(cls, code: str, text: str = "") -> Self:
        """A member is written ``NAME = "the-code", "the text"``."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.text = text
        return member


class Action(Coded):
    """A kind of entry in the journal; its text is what goes on while it is not finished."""

    DEPLOY = "deploy", "deploying"
    RESTART = "restart", "repairing"
    ROLLBACK = "rollback", "rolling back"
    REMOVE_STACK = "remove-stack", "removing"
    EVICT = "evict", "evicting"
    HOLD = "hold", "holding"
    ACCEPT = "accept", "checking out a commit for"


class EvictionAction(Coded):
    """What was done with a container that nobody declared."""

    REMOVED = "removed", "stopped, and removed when its time is over"
    STOPPED = "stopped", "stopped, and kept"
    REPORTED = "reported", "left running and reported"
    EXEMPT = "exempt", "left running: a rule exempts it"

"""States as a sign, a word and a tone: the sign and the word say what the colour does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from agent.domain.outcome import Action


class Chip(Struct, frozen=True):
    """``tone`` is good, busy, held, bad or unknown."""

    sign: str
    word: str
    tone: str


_TONES = {"✓": "good", "…": "busy", "‖": "held", "!": "held", "✗": "bad", "?": "unknown"}
_SIGNS = {
    "synced": "✓", "healthy": "✓", "running": "✓", "succeeded": "✓", "same": "✓", "answers": "✓",
    "ready": "✓",
    "pending": "…", "progressing": "…", "starting": "…", "restarting": "…", "created": "…",
    "held": "‖", "suspended": "‖", "paused": "‖", "cancelled": "‖", "skipped": "‖", "behind": "‖",
    "failed": "✗", "degraded": "✗", "missing": "✗", "unhealthy": "✗", "exited": "✗", "dead": "✗",
    "down": "✗", "diverged": "✗", "removed": "‖", "stopped": "‖", "reported": "!", "exempt": "‖",
}  # fmt: skip
_HOST = {
    "in-sync": Chip("✓", "In sync", "good"),
    "working": Chip("…", "Working", "busy"),
    "waiting": Chip("!", "Needs you", "held"),
    "suspended": Chip("‖", "Suspended", "held"),
    "standby": Chip("‖", "Standby", "good"),
    "failed": Chip("✗", "Failed", "bad"),
}
UNKNOWN = Chip("?", "Not known", "unknown")
ORDER = ("bad", "held", "unknown", "busy", "good")
"""The worst first."""


def chip(word: str) -> Chip:
    """Of a state that a document names."""
    sign = _SIGNS.get(word, "?")
    return Chip(sign, word, _TONES[sign])


def rolled_back(word: str) -> Chip:
    """Of what went back to an older release."""
    return Chip("↩", word, "bad")


def container(state: str, health: str | None, *, well: bool) -> Chip:
    """Of a container; in a stack that is ``well``, one that has ended had only that to do."""
    if state == "running" and health in {"unhealthy", "starting"}:
        return chip(health)
    if state == "exited" and well:
        return Chip("·", "ended", "unknown")
    return chip(state or "unknown")


_TOLD = set(Action) - {Action.OTHER}


def under_way(action: str) -> Chip:
    """Of what is being done; of an action of another version nothing more is known."""
    return Chip("…", Action(action).text if action in _TOLD else "working", "busy")


def sync(stack: Mapping[str, Any]) -> Chip:
    """Of a stack: whether it is as in Git, or what is being done with it."""
    if working := stack["working"]:
        return under_way(working["action"])
    back = stack.get("rolled_back_to")  # of which an older agent does not tell
    return rolled_back(f"rolled back to {back[:7]}") if back else chip(stack["sync"])


def of_host(state: str) -> Chip:
    """Of the verdict on a host."""
    return _HOST.get(state, UNKNOWN)

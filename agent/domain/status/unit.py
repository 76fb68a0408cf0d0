"""Why no agent runs on this host, and what to do, from what systemd shows of its service."""

from __future__ import annotations

from msgspec import Struct

NAME = "commitd.service"
_LONGEST = 300
_STATUS = {2: "its configuration is wrong", 3: "another agent works on this host"}
_RESULTS = {
    "oom-kill": "it ran out of memory",
    "watchdog": "it hung, and the watchdog ended it",
    "timeout": "it took too long to start or to stop",
    "core-dump": "it crashed",
}
_MORE = "journalctl -u commitd -n 20 has its last words"


class Unit(Struct, frozen=True, kw_only=True):
    """The service as ``systemctl show`` prints it; ``status`` is an exit status or a signal.

    ``words`` is the last line that the agent logged.
    """

    load: str
    active: str
    sub: str
    result: str
    status: str
    words: str = ""


def advice(unit: Unit | None) -> list[str]:
    """Lines for people, while no agent holds the host's lock. None: there is no systemd to ask."""
    if unit is None:
        return ["The agent is not running: systemctl start commitd"]
    if unit.load != "loaded":
        missing = f"The agent is not running, and systemd has no {NAME}"
        return [f"{missing}: install it, or use commitd run"]
    said = f": {unit.words[:_LONGEST]}" if unit.words else ""
    if unit.active == "failed":
        then = f"{_MORE}; once that is mended: systemctl restart commitd"
        return [f"The agent has failed ({_why(unit)}){said}", then]
    if unit.sub == "auto-restart":
        return [f"The agent ends again and again ({_why(unit)}){said}", _MORE]
    if unit.active in {"active", "activating", "reloading"}:
        return [f"{NAME} is {unit.active}: it is about to begin, or has another configuration"]
    return ["The agent is stopped: systemctl start commitd"]


def _why(unit: Unit) -> str:
    if unit.result == "exit-code" and unit.status.isdigit():
        meaning = _STATUS.get(int(unit.status))
        return f"exit status {unit.status}" + (f", {meaning}" if meaning else "")
    if unit.result == "signal":
        return f"killed by signal {unit.status}"
    return _RESULTS.get(unit.result, unit.result)

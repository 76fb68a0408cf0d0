"""The clock of the host against others."""

from __future__ import annotations

from agent.domain.doctor.finding import Code, Finding, ok, problem, unknown, warning

_NOTICED_S = 30.0
_WRONG_S = 300.0
"""From here on certificates, tokens and times that are shown are wrong."""
_REMEDY = "timedatectl set-ntp true; timedatectl timesync-status shows the source"


def against(name: str, ahead_s: float, exact_s: float) -> Finding:
    """``ahead_s`` is how many seconds the host is before the server, known to ``exact_s``."""
    off = max(0.0, abs(ahead_s) - exact_s)
    which = "ahead of" if ahead_s > 0 else "behind"
    if off < _NOTICED_S:
        return ok(Code.CLOCK, f"the clock is that of {name}, to {exact_s + off:.0f} s")
    said = f"the clock is {_length(abs(ahead_s))} {which} {name}"
    if off < _WRONG_S:
        return warning(Code.CLOCK, said, _REMEDY)
    return problem(Code.CLOCK, said, _REMEDY)


def by_commit(ahead_s: float) -> Finding:
    """By the time of the commit that is applied, ``ahead_s`` seconds after the host's now.

    It can show that the clock is behind, and nothing else.
    """
    if ahead_s >= _WRONG_S:
        said = f"the applied commit was made {_length(ahead_s)} from now, by this host's clock"
        return warning(Code.CLOCK, f"{said}: it is behind, or the author's is ahead", _REMEDY)
    return unknown(
        Code.CLOCK,
        "compared with no other: no server that tells the time (HTTP, not SSH) has answered",
        "timedatectl shows whether it is synchronized",
    )


def synchronized(said: bool) -> Finding:
    """What systemd says of it."""
    if said:
        return ok(Code.CLOCK, "systemd says that the clock is synchronized")
    return warning(Code.CLOCK, "systemd says that the clock is not synchronized", _REMEDY)


def _length(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if round(seconds / size) >= 2:  # noqa: PLR2004  one of a kind is told in the smaller unit
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"

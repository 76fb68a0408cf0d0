"""The agent that runs, and the one that is installed."""

from __future__ import annotations

from agent.domain.doctor.finding import Code, Finding, ok, problem, unknown, warning

_EXACT_S = 1.0
"""Of both times: clocks of files and of processes go by steps."""


def agent(process: int | None, *, answers: bool, may_ask: bool, start: str) -> Finding:
    """``process`` is its ID, None: none runs; ``answers``: on its socket; ``start`` starts it."""
    code = Code.AGENT
    if answers:
        return ok(code, "the agent runs, and answers on its socket")
    if process is None:
        return problem(code, "no agent runs", start)
    if not may_ask:
        said = f"the agent runs (process {process}); this user may not ask it"
        return unknown(code, said, "sudo commitd doctor, or join the group commitd")
    return problem(
        code,
        f"the agent runs (process {process}), and does not answer on its socket",
        "journalctl -u commitd -n 20; systemctl restart commitd if it hangs",
    )


def version(installed: str, *, began: float | None, changed: float) -> Finding:
    """Whether the agent that ``began`` then is the installed one, whose files ``changed`` then.

    Both in seconds of one clock; None: no agent runs, or it cannot be seen.
    """
    code = Code.AGENT_VERSION
    if began is None:
        return unknown(code, f"{installed} is installed; no agent that runs can be seen")
    if changed > began + _EXACT_S:
        return warning(
            code,
            f"{installed} was installed after the agent began, which is of before",
            "commitd doctor shows what it would change (plan); then systemctl restart commitd",
        )
    return ok(code, f"the agent that runs began after {installed} was installed")

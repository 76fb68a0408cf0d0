"""Why no agent runs, and what to do, from what systemd shows of its service."""

from __future__ import annotations

import pytest

from agent.domain.status.unit import Unit, advice

MORE = "journalctl -u commitd -n 20 has its last words"
INSTALL, WRONG = ": install it, or use commitd run", "exit status 2, its configuration is wrong"
MENDED = f"{MORE}; once that is mended: systemctl restart commitd"


@pytest.mark.parametrize(
    ("unit", "lines"),
    [
        (None, ["The agent is not running: systemctl start commitd"]),
        (
            Unit("not-found", "inactive", "dead", "success", "0"),
            [f"The agent is not running, and systemd has no commitd.service{INSTALL}"],
        ),
        (
            Unit("loaded", "inactive", "dead", "success", "0"),
            ["The agent is stopped: systemctl start commitd"],
        ),
        (
            Unit("loaded", "failed", "failed", "exit-code", "2", "config.yaml:3: unknown key"),
            [f"The agent has failed ({WRONG}): config.yaml:3: unknown key", MENDED],
        ),
        (
            Unit("loaded", "failed", "failed", "oom-kill", "9"),
            ["The agent has failed (it ran out of memory)", MENDED],
        ),
        (
            Unit("loaded", "activating", "auto-restart", "exit-code", "1", "x" * 400),
            [f"The agent ends again and again (exit status 1): {'x' * 300}", MORE],
        ),
        (
            Unit("loaded", "activating", "auto-restart", "signal", "11"),
            ["The agent ends again and again (killed by signal 11)", MORE],
        ),
        (
            Unit("loaded", "activating", "start", "success", "0"),
            ["commitd.service is activating: it is about to begin, or has another configuration"],
        ),
    ],
)
def test_what_to_do_for_an_agent_that_does_not_run(unit: Unit | None, lines: list[str]) -> None:
    assert advice(unit) == lines

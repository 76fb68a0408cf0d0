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
            Unit(load="not-found", active="inactive", sub="dead", result="success", status="0"),
            [f"The agent is not running, and systemd has no commitd.service{INSTALL}"],
        ),
        (
            Unit(load="loaded", active="inactive", sub="dead", result="success", status="0"),
            ["The agent is stopped: systemctl start commitd"],
        ),
        (
            Unit(
                load="loaded",
                active="failed",
                sub="failed",
                result="exit-code",
                status="2",
                words="config.yaml:3: unknown key",
            ),
            [f"The agent has failed ({WRONG}): config.yaml:3: unknown key", MENDED],
        ),
        (
            Unit(load="loaded", active="failed", sub="failed", result="oom-kill", status="9"),
            ["The agent has failed (it ran out of memory)", MENDED],
        ),
        (
            Unit(
                load="loaded",
                active="activating",
                sub="auto-restart",
                result="exit-code",
                status="1",
                words="x" * 400,
            ),
            [f"The agent ends again and again (exit status 1): {'x' * 300}", MORE],
        ),
        (
            Unit(
                load="loaded", active="activating", sub="auto-restart", result="signal", status="11"
            ),
            ["The agent ends again and again (killed by signal 11)", MORE],
        ),
        (
            Unit(load="loaded", active="activating", sub="start", result="success", status="0"),
            ["commitd.service is activating: it is about to begin, or has another configuration"],
        ),
    ],
)
def test_what_to_do_for_an_agent_that_does_not_run(unit: Unit | None, lines: list[str]) -> None:
    assert advice(unit) == lines

"""Having systemd start the agent's service, and stop it. What systemd does there may take long."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from agent.domain.errors import ConfigError, PermanentError, TransientError
from agent.domain.status.unit import NAME

_START_S = 16 * 60.0
"""As long as the unit gives it (TimeoutStartSec), and a little more."""
_STOP_S = 120.0
_BOOTED = Path("/run/systemd/system")


def booted() -> bool:
    """Whether systemd runs this machine (sd_booted)."""
    return _BOOTED.is_dir() and shutil.which("systemctl") is not None


def enable_now() -> None:
    """Start the service, now and at each boot. Blocks until it is ready.

    Raises :class:`CommitdError`.
    """
    _systemctl(_START_S, "enable", "--now", NAME)


def stands() -> bool:
    """Whether there is such a service that runs, or will at the next boot. Blocks.

    Raises :class:`CommitdError`.
    """
    if not booted():
        return False
    words = ("show", NAME, "--property=ActiveState,UnitFileState", "--value")
    states = set(_systemctl(_STOP_S, *words).split())
    return bool(states & {"active", "activating", "reloading", "enabled", "enabled-runtime"})


def disable_now() -> None:
    """Stop the service, and have it start at no boot. Blocks. Raises :class:`CommitdError`."""
    _systemctl(_STOP_S, "disable", "--now", NAME)


def try_restart() -> None:
    """Start the service again if it runs. Blocks. Raises :class:`CommitdError`."""
    _systemctl(_STOP_S + _START_S, "try-restart", NAME)


def _systemctl(timeout_s: float, *words: str) -> str:
    """What it prints. It is asked for one line of what went wrong, at most."""
    if not booted():
        message = "systemd does not run this machine, so that there is no service"
        raise ConfigError(message, hint="run commitd run under another supervisor")
    try:
        done = subprocess.run(
            ["systemctl", *words],
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        message = f"systemctl {words[0]} did not end within {timeout_s:g} s"
        raise TransientError(message, hint=f"systemctl status {NAME}") from None
    except OSError as err:
        raise PermanentError(f"systemctl cannot be started: {err.strerror}") from None
    if done.returncode != 0:
        said = next((line for line in done.stderr.splitlines() if line.strip()), "no reason")
        message = f"systemctl {words[0]} failed: {said.strip()[:200]}"
        raise PermanentError(message, hint=f"journalctl -u {NAME} -n 20")
    return done.stdout

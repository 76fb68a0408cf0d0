"""The service manager: its notification socket (sd_notify), and what it knows of the agent."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time

from agent.domain.status.unit import NAME, Unit

_PATIENCE_S = 0.5
"""For each of two questions: who asks for a status does not want to wait."""


def notify(*fields: str) -> None:
    """Tell systemd, for instance ``READY=1`` or ``STATUS=…``; does nothing outside of a unit."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    message = "\n".join(field.replace("\n", " ") for field in fields).encode()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.settimeout(1)
            sock.sendto(message, address)
    except OSError:
        return  # a status line never stops the work


def reloading() -> None:
    """Begin a reload; end it with READY=1."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog_s() -> float | None:
    """The longest time between two signs of life that systemd allows, in seconds."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    owner = os.environ.get("WATCHDOG_PID")
    if not microseconds.isdigit() or (owner and owner != str(os.getpid())):
        return None
    return int(microseconds) / 1_000_000


def unit() -> Unit | None:
    """The agent's service as systemd shows it; None where no systemd answers at once. Blocks."""
    shown = ask(
        "systemctl",
        "show",
        NAME,
        "-p",
        "LoadState,ActiveState,SubState,Result,ExecMainStatus",
        timeout_s=_PATIENCE_S,
    )
    found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    if not found.get("LoadState"):
        return None
    words = ""
    if found.get("Result") != "success":
        words = ask(
            "journalctl",
            f"_SYSTEMD_UNIT={NAME}",
            "-n",
            "1",
            "-o",
            "cat",
            "-q",
            timeout_s=_PATIENCE_S,
        ).strip()
    return Unit(
        load=found["LoadState"],
        active=found.get("ActiveState", ""),
        sub=found.get("SubState", ""),
        result=found.get("Result", ""),
        status=found.get("ExecMainStatus", ""),
        words=words,
    )


def ask(program: str, *words: str, timeout_s: float) -> str:
    """What the program prints; nothing, if it is not there, fails, or takes its time."""
    path = shutil.which(program)
    if path is None:
        return ""
    try:
        result = subprocess.run(
            [path, *words],
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return result.stdout

"""The service manager's notification socket (sd_notify), without its library."""

from __future__ import annotations

import os
import socket
import time


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

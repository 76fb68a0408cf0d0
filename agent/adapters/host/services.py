"""Services as systemd knows them, and the files that they are made of. All of it blocks."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from agent.adapters.host import service_unit, systemd
from agent.domain.doctor.unit import Service
from agent.domain.errors import TransientError

_PATIENCE_S = 10.0
_PROPERTIES = (
    "LoadState,ActiveState,UnitFileState,NeedDaemonReload,FragmentPath,DropInPaths,MainPID"
)
_LONGEST = 256 * 1024


class Seen(Struct, frozen=True, kw_only=True):
    """A service; ``files`` are those of its unit and drop-ins, ``process`` its main one."""

    service: Service
    files: tuple[Path, ...]
    process: int | None


def look(name: str) -> Seen | None:
    """The service ``name``; None where no systemd runs the machine.

    Raises :class:`TransientError` where it does not answer.
    """
    if not service_unit.booted():
        return None
    shown = _asked("systemctl", "show", name, "-p", _PROPERTIES)
    found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    if not found.get("LoadState"):
        raise TransientError("systemd does not answer", hint=f"systemctl show {name}")
    files = [found.get("FragmentPath", ""), *found.get("DropInPaths", "").split()]
    process = found.get("MainPID", "")
    return Seen(
        service=Service(
            load=found["LoadState"],
            active=found.get("ActiveState", ""),
            enabled=found.get("UnitFileState", ""),
            needs_reload=found.get("NeedDaemonReload") == "yes",
        ),
        files=tuple(Path(path) for path in files if path),
        process=int(process) if process.isdigit() and int(process) else None,
    )


def text(path: Path) -> str:
    """A file of a unit. Raises :class:`OSError`."""
    with path.open("rb") as file:
        return file.read(_LONGEST).decode(errors="replace")


def clock_is_synchronized() -> bool | None:
    """What systemd says of the clock; None: nothing."""
    if not service_unit.booted():
        return None
    said = _asked("timedatectl", "show", "-p", "NTPSynchronized", "--value").strip()
    return {"yes": True, "no": False}.get(said)


def _asked(program: str, *words: str) -> str:
    return systemd.ask(program, *words, timeout_s=_PATIENCE_S)

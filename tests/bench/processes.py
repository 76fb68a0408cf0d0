"""What processes cost: CPU time, memory, children."""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.sandbox import SandboxError, world

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CGROUPS = Path("/sys/fs/cgroup")
_TICKS = os.sysconf("SC_CLK_TCK")


class Meter:
    """Counts the CPU time of some processes, and of all that they start from now on.

    By a cgroup, not by the times that /proc shows: those leave out the children of a process that
    does not wait for them, as fcgiwrap does not, and count in hundredths of a second. The world's
    end removes the cgroup.
    """

    def __init__(self, name: str, pids: Iterable[int | None]) -> None:
        below = Path(world.data_directory().name) / f"bench-{name}"
        if (_CGROUPS / "cgroup.procs").exists():
            group, self._file = _CGROUPS / below, "cpu.stat"
        else:
            found = [path for path in _CGROUPS.glob("*cpuacct*") if path.is_dir()]
            if not found:
                raise SandboxError("this machine's cgroups count no CPU time")
            group, self._file = found[0] / below, "cpuacct.usage"
        group.mkdir(parents=True, exist_ok=True)
        self._group = group
        roots = [pid for pid in pids if pid is not None]
        for pid in [*roots, *descendants(roots)]:
            with contextlib.suppress(ProcessLookupError):
                (group / "cgroup.procs").write_text(str(pid))

    def cpu_s(self) -> float:
        """Seconds of CPU time, user and system, since the start."""
        text = (self._group / self._file).read_text()
        if self._file == "cpuacct.usage":
            return int(text) / 1e9
        fields = dict(line.split() for line in text.splitlines())
        return int(fields["usage_usec"]) / 1e6

    def pids(self) -> list[int]:
        """Who is counted and alive."""
        return [int(line) for line in (self._group / "cgroup.procs").read_text().split()]


@dataclass(slots=True)
class Looks:
    """What was seen of a meter's processes: memory at its peak (PSS, MB), CPU time by program."""

    peak_mb: float = 0.0
    _cpu: dict[int, tuple[str, float]] = field(default_factory=dict)

    def look(self, meter: Meter) -> None:
        """Once more."""
        pids = meter.pids()
        self.peak_mb = max(self.peak_mb, share_mb(pids))
        for pid in pids:
            with contextlib.suppress(OSError, IndexError):  # it has ended
                fields = _stat(pid)
                name = Path(f"/proc/{pid}/comm").read_text().strip()
                self._cpu[pid] = name, (int(fields[11]) + int(fields[12])) / _TICKS

    def by_program(self) -> dict[str, float]:
        """CPU seconds as far as they were seen, most first: the last moment of each is missing."""
        found: dict[str, float] = {}
        for name, cpu_s in self._cpu.values():
            found[name] = found.get(name, 0.0) + cpu_s
        return dict(sorted(found.items(), key=lambda item: -item[1]))


@contextlib.contextmanager
def looking(meter: Meter, every_s: float = 0.03) -> Iterator[Looks]:
    """Look at all of a meter's processes, over and over, while the block lasts.

    To look costs time itself: what is looked at is not timed.
    """
    looks, ended = Looks(), threading.Event()

    def keep_looking() -> None:
        while not ended.wait(every_s):
            looks.look(meter)

    thread = threading.Thread(target=keep_looking, daemon=True)
    thread.start()
    try:
        yield looks
    finally:
        ended.set()
        thread.join()


def descendants(roots: Iterable[int]) -> list[int]:
    """The children of these processes, their children, and so on."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    todo = list(roots)
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def faults_of_children(pid: int) -> int:
    """Page faults of the children that have ended: no process lives without one."""
    fields = _stat(pid)
    return int(fields[8]) + int(fields[10])


def resident_mb(pid: int) -> tuple[float, float]:
    """Memory in MB: resident, and the part of it that is this process's own share (PSS)."""
    return resident_only_mb(pid), share_mb([pid])


def resident_only_mb(pid: int) -> float:
    """Resident memory in MB; cheap enough to be asked all the time."""
    return _kib(Path(f"/proc/{pid}/status"), "VmRSS:") / 1024


def share_mb(pids: Iterable[int]) -> float:
    """Memory of these processes in MB, what several share counted once (PSS)."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            total += _kib(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")
    return total / 1024


def _kib(path: Path, field: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    return 0


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name; none if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []

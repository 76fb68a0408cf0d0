"""Measure, side by side: `python -m tests.sandbox exec --no-machine -- python -m tests.bench`.

    python -m tests.bench [--json FILE] [NAME…]

Runs all benches, or those that are named, one after the other, and prints one table; FILE gets the
same with every run's value. Exits 1 when a bench cannot measure; a goal that is not met is told and
nothing more.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
import traceback
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import (
    check,
    eviction,
    failover,
    first_deploy,
    fleet_polling,
    git_processes,
    hand_stopped,
    idle,
    machine,
    nothing_to_do,
    once,
    one_of_fifty,
    page,
    page_reader,
    peers,
    probe_cost,
    relist,
    secrets,
    storm,
    verbs,
)
from tests.bench.figures import Figure, load, table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

_BENCHES: Mapping[str, Callable[[], list[Figure]]] = {
    "git_processes": git_processes.main,
    "one_of_fifty": one_of_fifty.main,
    "first_deploy": first_deploy.main,
    "idle": idle.main,
    "hand_stopped": hand_stopped.main,
    "once": once.main,
    "nothing_to_do": nothing_to_do.main,
    "eviction": eviction.main,
    "storm": storm.main,
    "verbs": verbs.main,
    "check": check.main,
    "page": page.main,
    "page_reader": page_reader.main,
    "peers": peers.main,
    "relist": relist.main,
    "secrets": secrets.main,
    "probe_cost": probe_cost.main,
    "fleet_polling": fleet_polling.main,
    "failover": failover.main,
}
_PATIENCE_S = 240
"""For one bench; what takes longer hangs."""
_MORE_PATIENCE_S = {
    "first_deploy": 400,
    "git_processes": 400,
    "check": 400,
    "eviction": 400,
    "storm": 540,
    "nothing_to_do": 400,
    "peers": 400,
    "page_reader": 400,
}


def _give_up(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError("not done within the time that a bench has")


def _run(name: str) -> list[Figure] | None:
    print(f"{name} … ({load()})", file=sys.stderr, flush=True)
    began = time.monotonic()
    signal.alarm(_MORE_PATIENCE_S.get(name, _PATIENCE_S))
    try:
        figures = _BENCHES[name]()
    except Exception:  # noqa: BLE001  the other benches have figures to show
        traceback.print_exc()
        return None
    finally:
        signal.alarm(0)
    print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE too")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(_BENCHES))
    options = parser.parse_args()
    names = options.names or list(_BENCHES)
    if unknown := sorted(set(names) - set(_BENCHES)):
        parser.error(f"no such bench: {', '.join(unknown)}; there are {', '.join(_BENCHES)}")
    signal.signal(signal.SIGALRM, _give_up)
    at, before = datetime.now(UTC), load()
    results = {name: _run(name) for name in names}
    print(table([figure for figures in results.values() for figure in figures or []]))
    failed = [name for name, figures in results.items() if figures is None]
    print(f"{load()} at the end" + (f"; not measured: {', '.join(failed)}" if failed else ""))
    if options.json:
        told = {
            "at": at.isoformat(timespec="seconds"),
            "commit": machine.commit(),
            "machine": machine.describe(),
            "load": [before, load()],
            "benches": {name: [asdict(f) for f in found or []] for name, found in results.items()},
            "not_measured": failed,
        }
        options.json.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""What a start of the agent loads and starts: counts, for they are what a start costs."""

from __future__ import annotations

import subprocess
import sys

_AUDIT = """
import sys
started = []
def hear(event, args):
    if event in {"subprocess.Popen", "os.posix_spawn", "os.fork", "os.exec", "os.system"}:
        started.append((event, args[0]))
sys.addaudithook(hear)
"""


def _child(script: str) -> None:
    subprocess.run([sys.executable, "-c", script], check=True, timeout=240)


def test_the_ssh_probe_is_imported_without_a_process() -> None:
    _child(
        f"{_AUDIT}"
        "import agent.adapters.probes.ssh\n"
        "assert 'asyncssh' in sys.modules\n"
        "assert not started, started\n"
    )


def test_what_keeps_asyncssh_from_processes_does_not_outlive_its_import() -> None:
    _child(
        "import ctypes.util, sys\n"
        "before = ctypes.util.find_library\n"
        "import agent.adapters.probes.ssh\n"
        "assert ctypes.util.find_library is before\n"
        "assert None not in sys.modules.values()\n"
    )

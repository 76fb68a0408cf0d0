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


def _without(loading: str, *unwanted: str) -> None:
    wanted = ", ".join(repr(name) for name in unwanted)
    _child(
        f"import sys\n{loading}\nfound = {{{wanted}}} & set(sys.modules)\nassert not found, found"
    )


def test_the_daemon_loads_no_library_before_something_needs_it() -> None:
    _without(
        "import agent.control.service, agent.surface.cli.run\n"
        "agent.surface.cli.run._consumers()\n"
        "import agent.adapters.probes.http, agent.adapters.probes.file",
        *("aiohttp", "asyncssh", "cryptography", "urllib.request", "agent.surface.api.server"),
        *("http.client", "email"),
        *("agent.surface.hooks.receiver", "agent.control.outside.commit_status"),
        *("agent.adapters.outside.http", "agent.domain.outside.commit_status"),
        *("apprise", "requests", "agent.control.outside.notify", "agent.control.outside.heartbeat"),
        *("agent.adapters.outside.delivery", "agent.domain.outside.folding"),
        *("agent.surface.page", "jinja2"),
        *("agent.domain.doctor", "agent.control.doctor", "agent.adapters.host.sight"),
        *("agent.domain.swarm", "agent.adapters.swarm", "agent.control.swarm"),
    )


def test_the_api_loads_nothing_for_metrics_before_somebody_asks_for_them() -> None:
    _without(
        "import agent.surface.api.server",
        *("prometheus_client", "agent.surface.api.exposition"),
    )


def test_a_verb_that_only_looks_loads_no_event_loop() -> None:
    _without(
        "import agent.surface.cli.status",
        *("asyncio", "aiohttp", "asyncssh", "agent.adapters.state.sentences"),
    )


def test_help_loads_neither_a_verb_nor_what_verbs_need() -> None:
    _without(
        "from agent.surface.cli.main import cli\n"
        "cli(['--help'], prog_name='commitd', standalone_mode=False)",
        *("asyncio", "msgspec", "yaml", "sqlite3", "socket", "logging", "json", "difflib"),
        *("agent.surface.cli.common", "agent.domain.config"),
    )


def test_a_start_looks_for_no_garbage_in_what_it_loads() -> None:
    _child(
        "import contextlib, gc, sys\n"
        "looks = []\n"
        "gc.callbacks.append(lambda phase, info: looks.append(phase))\n"
        "from agent.__main__ import main\n"
        "sys.argv = ['commitd', '--version']\n"
        "with contextlib.suppress(SystemExit):\n"
        "    main()\n"
        "del looks[:]\n"
        "import agent.control.service, agent.adapters.probes.ssh\n"
        "assert not looks, len(looks)\n"
    )

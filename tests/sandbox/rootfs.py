"""The file system of a minimal Debian that `Machine` boots: made once, cached, never written to.

Unless another suite is asked for it is that of the machine that runs the tests, so that their
Python and its libraries fit.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.sandbox import apt
from tests.sandbox.process import SandboxError, run
from tests.sandbox.tools import cached, debian

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CACHE = Path(__file__).resolve().parents[2] / ".sandbox" / "rootfs"

PACKAGES = ("dbus", "git", "openssh-client", "python3", "systemd", "systemd-sysv")
_NOT_UNPACKED = ("/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*")
_APT_SETTINGS = ('Acquire::Languages "none";', 'APT::Sandbox::User "root";')

# In a mount namespace of its own, where the unpacked tools are part of /usr, and in a PID namespace
# of its own that ends with the process that asked for it: neither a mount nor a process stays.
_PRIVATELY = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork",
              "--kill-child", "--mount-proc", "sh", "-ec")  # fmt: skip
_WITH_TOOLS = 'test -z "$0" || mount -t overlay tools /usr -o "lowerdir=$0/usr:/usr"; exec "$@"'


def provide(tools: Path | None, suite: str = apt.SUITE, packages: Sequence[str] = PACKAGES) -> Path:
    """Return the root directory; `tools` is what `tools.provide` has returned.

    The first call on a machine takes about 45 s, fetches about 70 MB and says so on stderr. Raises
    SandboxError when that fails.
    """
    return _cached(suite, packages, lambda scratch: _make(tools, suite, packages, scratch))


def find(suite: str = apt.SUITE, packages: Sequence[str] = PACKAGES) -> Path:
    """The root directory that `provide` has made outside of this world; SandboxError if none."""
    return _cached(suite, packages, _missing)


def _cached(suite: str, packages: Sequence[str], make: Callable[[Path], Path]) -> Path:
    other = [suite] if suite != apt.SUITE else []
    return cached(CACHE, " ".join([*packages, *_NOT_UNPACKED, debian(), *other]), make)


def _missing(_scratch: Path) -> Path:
    raise SandboxError("there is no root file system to boot; leave out --no-machine")


def _make(tools: Path | None, suite: str, packages: Sequence[str], scratch: Path) -> Path:
    print(f"sandbox: fetching a minimal Debian {suite} to boot", file=sys.stderr, flush=True)
    settings = scratch / "apt.conf"
    settings.write_text("\n".join([*_APT_SETTINGS, *apt.settings_of_this_machine(), ""]))
    root = scratch / "root"
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"]
    command += [f"--include={','.join(packages)}", f"--aptopt={settings}"]
    command += ["--dpkgopt=force-unsafe-io"]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in _NOT_UNPACKED]
    command += [suite, str(root), *apt.sources(suite)]
    run([*_PRIVATELY, _WITH_TOOLS, tools or "", *command], timeout=900)
    return root

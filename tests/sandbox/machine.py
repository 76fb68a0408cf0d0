"""A whole Debian with a real systemd as PID 1, booted in half a second and thrown away.

It shares the network of the world, so the sandbox's Git servers are where they are for everybody
else; all other namespaces are its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.sandbox import linux, rootfs, world
from tests.sandbox.process import Daemon, SandboxError, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENTER_CGROUPS = 'for group in $0; do echo $$ >"$group/cgroup.procs"; done; exec "$@"'
_UP = {"running", "degraded"}


class Machine:
    """One machine, running for the time of a `with` block.

    `mounts` and `read_only_mounts` say what of the world it sees: sources by their path inside. All
    else that it needs lies below `directory`, and is removed with it. `root` is another system than
    the one of `rootfs.find()`. One with an `engine` has Docker installed, which works in it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        mounts: Mapping[str, Path],
        read_only_mounts: Mapping[str, Path],
        root: Path | None = None,
        engine: bool = False,
    ) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="machine-", dir=directory))
        self._root = self._directory / "root"  # the cached system, and over it what has changed
        self._leader: int | None = None
        layers = [self._directory / name for name in ("changes", "work")]
        for path in (self._root, *layers):
            path.mkdir()
        self._overlay = f"lowerdir={root or rootfs.find()},upperdir={layers[0]},workdir={layers[1]}"
        data = world.data_directory()
        self._cgroup = f"{data.name}/{self._directory.name}"
        command: list[str | Path] = ["sh", "-ec", _ENTER_CGROUPS]
        command += [" ".join(f"{base}/{self._cgroup}" for base in world.cgroup_hierarchies())]
        # A pure cgroup 2 inside, whatever the machine outside has.
        command += ["env", "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1", "systemd-nspawn"]
        command += ["--boot", "--quiet", "--settings=false", f"--directory={self._root}"]
        # There is no systemd in the world to register it with.
        command += ["--register=no", "--keep-unit", "--machine=machine", "--console=pipe"]
        command += ["--link-journal=no", "--resolv-conf=off", "--timezone=off"]
        if engine:
            command += ["--capability=all", "--system-call-filter=@keyring bpf"]
            images = self._directory / "images"  # an engine cannot lay overlays upon an overlay
            images.mkdir()
            mounts = {**mounts, "/var/lib/docker": images}
        command += [f"--bind={source}:{path}" for path, source in mounts.items()]
        command += [f"--bind-ro={source}:{path}" for path, source in read_only_mounts.items()]
        self._daemon = Daemon(
            "systemd-nspawn", command, log=self._directory / "console.log", ready=self._is_up
        )

    def __enter__(self) -> Self:
        try:
            linux.mount("machine", self._root, "overlay", options=self._overlay)
            self.write("/etc/machine-id", f"{0x5EED:032x}\n")
            self.write("/etc/hosts", "127.0.0.1 localhost\n")
            for base in world.cgroup_hierarchies():
                Path(base, self._cgroup).mkdir(parents=True)
            self._daemon.start()
        except BaseException:
            self._put_away()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._put_away()

    def cut_power(self) -> None:
        """End it as a power cut does, and boot it again with what was on its disk."""
        assert self._leader is not None
        os.kill(self._leader, signal.SIGKILL)
        self._daemon.stop(signal.SIGKILL)
        self._leader = None
        self._daemon.start()

    def run(
        self, *command: str | Path, check: bool = True, seconds: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine as root; SandboxError with its stderr when it fails."""
        done = subprocess.run(
            [*self._entry(), "env", "-i", f"PATH={_PATH}", "HOME=/root", *map(str, command)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if check and done.returncode != 0:
            words = " ".join(map(str, command))
            raise SandboxError(f"`{words}` exited {done.returncode} in the machine: {done.stderr}")
        return done

    def reboot(self) -> None:
        """Have it shut down and start again; return once it is up."""
        self.run("systemctl", "reboot", check=False)  # which may end amid its own answer
        # Told to stay in its cgroup (--keep-unit), it leaves a new start to whoever has started it.
        wait_until(lambda: self._daemon.pid is None, what="the machine to shut down", seconds=120)
        self._leader = None
        self._daemon.start()

    def write(self, path: str, content: str | bytes, *, mode: int = 0o644) -> None:
        """Write one of its files, making the directories above it."""
        target = self._root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        target.chmod(mode)

    def read(self, path: str) -> bytes:
        """One of its files."""
        return (self._root / path.lstrip("/")).read_bytes()

    def _entry(self) -> list[str]:
        if self._leader is None:
            raise SandboxError("the machine does not run")
        return ["nsenter", f"--target={self._leader}", "--all"]

    def _is_up(self) -> bool:
        pid = self._daemon.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return False
        for child in children:  # for a moment there is a helper beside the machine's PID 1
            self._leader = int(child)
            state = self.run("systemctl", "is-system-running", check=False)
            if state.stdout.strip() in _UP:
                return True
        self._leader = None
        return False

    def _put_away(self) -> None:
        self._daemon.stop()  # systemd-nspawn shuts the machine down in order
        self._leader = None
        linux.unmount_below(self._root)
        world.remove_cgroups(self._cgroup)
        shutil.rmtree(self._directory)

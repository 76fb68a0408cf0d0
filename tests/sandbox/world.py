"""The private world: Linux namespaces in which the sandbox runs, and their traceless end.

Three processes share the work. The *outer* one is what the user started: it waits and passes
signals on. *Init* is PID 1 of the world; the kernel kills it when the outer process goes, and kills
everything else in the world with it. The *janitor* stays outside, waits until both are gone, and
removes what the kernel does not: the data directory and the cgroups. So a SIGKILL leaves as little
behind as a normal end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tests.sandbox import linux
from tests.sandbox.locks import locked, try_lock
from tests.sandbox.process import SandboxError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MARKER = "COMMITD_SANDBOX"  # environment: the data directory of the world a process lives in
VERBOSE = "COMMITD_SANDBOX_VERBOSE"  # environment: report start times on stderr
COMPOSE = "COMMITD_SANDBOX_COMPOSE"  # environment: another docker-compose than the packaged one
BESIDE = "COMMITD_SANDBOX_BESIDE"  # environment: another engine, for some nodes of a Swarm
STORE = "COMMITD_SANDBOX_STORE"  # environment: where the engine keeps images, if it has a choice
GIT_USER = "git"

_PREFIX = "commitd-sandbox-"
_CGROUPS = Path("/sys/fs/cgroup")
_FOREIGN_ENVIRONMENT = (
    "BUILDKIT_", "COMMITD_", "COMPOSE_", "DBUS_", "DOCKER_", "GIT_", "SOPS_", "SSH_", "XDG_",
)  # fmt: skip
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
_HIDDEN = (
    "/etc/commitd", "/var/lib/commitd",  # an agent that really serves this machine
    # Its Compose may be newer than the one that is to be tested.
    "/usr/local/lib/docker/cli-plugins", "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins", "/usr/libexec/docker/cli-plugins",
)  # fmt: skip
_ENOUGH_BYTES = 6 << 30
"""Of memory, to keep the data of worlds there: they write little, and wait for a disk often."""
_ACCOUNTS = {"sshd": 64001, GIT_USER: 64002}

_PASSED_ON = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1}
_ATTENDED = _PASSED_ON | {signal.SIGCHLD}
_SENT_BY_KERNEL = 0x80  # si_code of a signal from the terminal: the whole foreground group has it


def run(
    command: Sequence[str],
    layers: Sequence[Path],
    *,
    verbose: bool,
    settings: Mapping[str, str] | None = None,
    in_memory: bool = False,
) -> int:
    """Run `command` in a new private world and return its exit code (128+n for signal n).

    The `usr` of each of `layers` is laid over the machine's /usr inside, the first on top.
    `settings` are put into its environment. `in_memory`: its data need no disk, if there is enough
    memory. Needs root.
    """
    began = time.monotonic()
    base = _base_directory()
    with locked(base):
        _sweep(base)
        data = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        lock = try_lock(data)
    if lock is None:
        raise SandboxError(f"cannot lock {data}")
    data.chmod(0o711)  # the account `git` has to reach its repository
    sys.stdout.flush()
    sys.stderr.flush()

    # Init inherits the write end too. The janitor reads end-of-file once both are gone.
    world_ended, world_alive = os.pipe()
    janitor = os.fork()
    if janitor == 0:
        os.close(world_alive)
        _be_janitor(world_ended, data)
    os.close(world_ended)

    signal.pthread_sigmask(signal.SIG_BLOCK, _ATTENDED)
    linux.unshare(linux.CLONE_NEWPID)
    init = os.fork()
    if init == 0:
        _be_init(
            command, data, layers, settings or {}, began if verbose else None, in_memory=in_memory
        )
    code = _attend(init)
    os.close(world_alive)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(janitor, 0)
    os.close(lock)
    return code


def data_directory() -> Path:
    """The data directory of the world this process lives in; raises SandboxError outside of one."""
    if path := os.environ.get(MARKER):
        return Path(path)
    raise SandboxError(
        "not inside a sandbox; run this as: python -m tests.sandbox exec -- COMMAND…"
    )


def cgroup_parent(data: Path) -> str:
    """The cgroup below which the containers of this world live, as `dockerd` wants it."""
    return f"/{data.name}"


def cgroup_hierarchies() -> list[Path]:
    """Where systemd keeps track of processes: one hierarchy with cgroup 2, two in hybrid mode."""
    if (_CGROUPS / "cgroup.procs").exists():
        return [_CGROUPS]
    return [path for name in ("systemd", "unified") if (path := _CGROUPS / name).is_dir()]


def remove_cgroups(name: str) -> None:
    """Remove the cgroups with this path from all hierarchies, and everything below them."""
    deadline = time.monotonic() + 10
    parents = [*_CGROUPS.glob(name), *_CGROUPS.glob(f"*/{name}")]
    for parent in parents:
        _thaw(parent)
    for parent in parents:
        for directory, _, _ in os.walk(parent, topdown=False):
            _remove_cgroup(Path(directory), deadline)


# --- outside: directories, locks, remains ---------------------------------------------------------


def _base_directory() -> Path:
    """A directory on a file system that can carry the engine's overlays, which overlayfs cannot."""
    candidates = (Path("/var/tmp"), Path(__file__).resolve().parents[2] / ".sandbox")
    for path in candidates:
        path.mkdir(exist_ok=True)
        kind = subprocess.run(
            ["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=True
        )
        if kind.stdout.strip() != "overlayfs":
            return path
    places = " or ".join(str(path) for path in candidates)
    raise SandboxError(f"the engine needs a file system other than overlayfs at {places}")


def _sweep(base: Path) -> None:
    """Remove worlds that nobody holds: their janitor was killed too, or the power was cut."""
    for data in base.glob(f"{_PREFIX}*"):
        if data.lstat().st_uid != os.geteuid():  # the directory is everybody's: not one of ours
            continue
        if (lock := try_lock(data)) is not None:
            _remove(data)
            os.close(lock)


def _remove(data: Path) -> None:
    remove_cgroups(data.name)
    shutil.rmtree(data)


def _thaw(parent: Path) -> None:
    """Paused containers below ``parent`` do not end before that, killed or not."""
    for file, running in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
        for place in parent.rglob(file):
            place.write_text(running)


def _remove_cgroup(directory: Path, deadline: float) -> None:
    while True:
        try:
            directory.rmdir()
        except FileNotFoundError:
            return
        except OSError:  # busy: the kernel has not buried the last process yet
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _be_janitor(world_ended: int, data: Path) -> NoReturn:
    code = 1
    try:
        os.setsid()
        for number in _PASSED_ON:
            signal.signal(number, signal.SIG_IGN)
        os.read(world_ended, 1)
        _remove(data)
        code = 0
    except BaseException:  # noqa: BLE001 - a forked child must not return into its parent's code
        traceback.print_exc()
    finally:
        os._exit(code)


def _attend(child: int) -> int:
    """Pass signals on to `child` and bury orphans until it ends; return its exit code."""
    while True:
        info = signal.sigwaitinfo(_ATTENDED)
        if info.si_signo == signal.SIGCHLD:
            while (ended := _next_ended()) is not None:
                if ended[0] == child:
                    code = os.waitstatus_to_exitcode(ended[1])
                    return code if code >= 0 else 128 - code
        elif info.si_code != _SENT_BY_KERNEL:
            os.kill(child, info.si_signo)


def _next_ended() -> tuple[int, int] | None:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


# --- inside ---------------------------------------------------------------------------------------


def _be_init(
    command: Sequence[str],
    data: Path,
    layers: Sequence[Path],
    settings: Mapping[str, str],
    began: float | None,
    *,
    in_memory: bool,
) -> NoReturn:
    code = 125
    try:
        linux.die_with_parent()
        linux.unshare(
            linux.CLONE_NEWNS | linux.CLONE_NEWNET | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS
        )
        _mount_everything(data, layers, in_memory=in_memory)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        environment = {**_environment(data), **settings}
        if began is not None:
            environment[VERBOSE] = "1"
            print(
                f"sandbox: world ready after {time.monotonic() - began:.2f} s, {data}",
                file=sys.stderr,
                flush=True,
            )
        code = 127
        child = os.posix_spawnp(command[0], list(command), environment, setsigmask=())
        code = _attend(child)
    except FileNotFoundError as error:
        print(f"sandbox: {error}", file=sys.stderr)
    except BaseException:  # noqa: BLE001 - a forked child must not return into its parent's code
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _mount_everything(data: Path, layers: Sequence[Path], *, in_memory: bool) -> None:
    linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("proc", "/proc", "proc")
    if in_memory and _memory_bytes() >= _ENOUGH_BYTES:
        linux.mount("tmpfs", data, "tmpfs", options="mode=0711")
        try_lock(data)  # for worlds inside: they do not see what this hides, and that it is held
    if layers:
        lower = ":".join(f"{layer}/usr" for layer in layers)
        linux.mount("tools", "/usr", "overlay", options=f"lowerdir={lower}:/usr")
    _mount_sysfs(data)
    _mount_run()
    for path in _HIDDEN:
        if Path(path).is_dir():
            linux.mount("tmpfs", path, "tmpfs", options="mode=0755")
    for name in ("home", "tmp", "etc"):
        (data / name).mkdir(mode=0o755)
    (data / "tmp").chmod(0o1777)
    _mount_accounts(data)


def _memory_bytes() -> int:
    """Free, or free as soon as somebody needs it."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def _mount_sysfs(data: Path) -> None:
    """Show the devices of this network namespace in /sys, and the same cgroups as outside."""
    aside = data / "cgroup"
    aside.mkdir()
    linux.mount(_CGROUPS, aside, flags=linux.MS_BIND | linux.MS_REC)
    linux.mount("sysfs", "/sys", "sysfs")
    linux.mount(aside, _CGROUPS, flags=linux.MS_BIND | linux.MS_REC)
    linux.unmount(aside)
    aside.rmdir()


def _mount_run() -> None:
    """An empty /run: no socket of the machine's engine, containerd, D-Bus or agent is in sight."""
    names = Path("/etc/resolv.conf").resolve()
    linux.mount("tmpfs", "/run", "tmpfs", options="mode=0755")
    Path("/run/lock").mkdir()
    Path("/run/sshd").mkdir()
    if names.is_relative_to("/run"):  # a link into what has just been hidden
        names.parent.mkdir(parents=True)
        names.touch()


def _mount_accounts(data: Path) -> None:
    """Add the accounts of sshd to private copies of the machine's files; root lives in `home`."""
    passwd = Path("/etc/passwd").read_text().splitlines()
    known = {line.partition(":")[0] for line in passwd}
    root_home = Path("~root").expanduser()
    lines = [line.replace(f":{root_home}:", f":{data}/home:") for line in passwd]
    groups = Path("/etc/group").read_text().splitlines()
    for name, number in _ACCOUNTS.items():
        if name == GIT_USER:
            lines = [line for line in lines if not line.startswith(f"{name}:")]
            lines.append(f"{name}:*:{number}:{number}::{data}/box/gitea:/usr/bin/git-shell")
        elif name not in known:
            lines.append(f"{name}:*:{number}:{number}::/run/{name}:/usr/sbin/nologin")
        groups.append(f"sandbox-{name}:*:{number}:")
    for path, content in (("/etc/passwd", lines), ("/etc/group", groups)):
        copy = data / path.lstrip("/")
        copy.write_text("\n".join(content) + "\n")
        copy.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH)
        linux.mount(copy, path, flags=linux.MS_BIND)


def _environment(data: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_FOREIGN_ENVIRONMENT) and name.lower() not in _PROXIES
    }
    path = [*kept.get("PATH", "").split(":"), "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    return kept | {
        "HOME": f"{data}/home",
        "TMPDIR": f"{data}/tmp",
        "PATH": ":".join(dict.fromkeys(filter(None, path))),
        MARKER: str(data),
    }

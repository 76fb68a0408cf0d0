"""What the machine's own apt knows of Debian: its settings, and where its packages are."""

from __future__ import annotations

import contextlib
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.sandbox.process import SandboxError, run

if TYPE_CHECKING:
    from collections.abc import Mapping

_SETTINGS = re.compile(r"Acquire::(Check-|Retries|https?(::| ))")  # proxies among them
SUITE = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
"""Of this machine."""
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def settings_of_this_machine() -> list[str]:
    """How it reaches its mirrors and what it makes of their dates, as lines of an apt.conf."""
    lines = run(["apt-config", "dump"]).decode().splitlines()
    return [line for line in lines if _SETTINGS.match(line)]


def sources(suite: str) -> list[str]:
    """Where this machine's apt finds Debian itself, as lines of a sources.list.

    Another suite is looked for on the same mirrors.
    """
    found: dict[str, None] = {}
    for _, uri, archive, component in _origins(SUITE):
        found[f"deb {uri} {archive.replace(SUITE, suite)} {component}"] = None
    return list(found)


def download_of(suite: str, versions: Mapping[str, str], scratch: Path) -> list[Path]:
    """Fetch packages in these versions from another suite on the mirror of this machine.

    `scratch` is an empty directory. The signature of the suite is checked. Raises SandboxError
    when the suite has other versions meanwhile.
    """
    mirror = next(where[0] for codename, *where in _origins(SUITE) if codename == SUITE)
    etc, cache, archives = scratch / "etc", scratch / "cache", scratch / "archives"
    for directory in (etc, cache / "archives/partial", scratch / "lists/partial", archives):
        directory.mkdir(parents=True)
    (etc / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {mirror} {suite} main\n")
    (scratch / "status").touch()  # nothing is installed there
    settings = scratch / "apt.conf"
    settings.write_text(
        f'Dir::Etc "{etc}/"; Dir::Etc::main "/dev/null"; Dir::Etc::parts "{etc}/none/";\n'
        f'Dir::Etc::sourcelist "{etc}/sources.list"; Dir::Etc::sourceparts "{etc}/none/";\n'
        f'Dir::State "{scratch}/"; Dir::State::lists "{scratch}/lists/";\n'
        f'Dir::State::status "{scratch}/status"; Dir::Cache "{cache}/";\n'
        'APT::Sandbox::User "root"; Acquire::Languages "none";\n'
        + "\n".join([*settings_of_this_machine(), ""])
    )
    env = {"APT_CONFIG": str(settings), "LC_ALL": "C.UTF-8"}
    run(["apt-get", "update"], env=env, timeout=600)
    wanted = [f"{name}={version}" for name, version in versions.items()]
    try:
        run(["apt-get", "download", *wanted], env=env, cwd=archives, timeout=600)
    except SandboxError as error:
        raise SandboxError(
            f"{error}\nDebian {suite} has other versions by now: write them into {__package__}"
        ) from None
    return sorted(archives.glob("*.deb"))


def _origins(suite: str) -> list[tuple[str, ...]]:
    """Codename, URI, suite and component of each source of `suite` and its updates."""
    fields = "$(ORIGIN) $(CODENAME) $(REPO_URI) $(RELEASE) $(COMPONENT)"
    command = ["apt-get", "indextargets", "--format", fields, "Created-By: Packages"]
    wanted = {suite, f"{suite}-updates", f"{suite}-security"}
    found: list[tuple[str, ...]] = []
    for attempt in range(2):
        for line in run(command).decode().splitlines():
            origin, codename, *where = line.split()
            if origin == "Debian" and codename in wanted:
                found.append((codename, *where))
        if found or attempt:
            break
        with contextlib.suppress(SandboxError):  # apt has no lists yet, so it knows no origins
            run(["apt-get", "update"], timeout=600)
    if not found:
        raise SandboxError(f"apt knows no source of Debian {suite} on this machine")
    return found

"""The probe for each kind of remote."""

from __future__ import annotations

from collections.abc import Sequence

from agent.adapters.probes.base import Probe
from agent.domain.config import Remote


def probe(remote: Remote, branch: str) -> Probe:
    """The probe for the kind of ``remote``. Nothing is connected or read before the first ask."""
    # Each library is loaded only by those who need it: asyncssh takes 16 MB.
    if remote.scheme == "ssh":
        from agent.adapters.probes.ssh import SshProbe  # noqa: PLC0415

        return SshProbe(remote, branch)
    if remote.scheme == "file":
        from agent.adapters.probes.file import FileProbe  # noqa: PLC0415

        return FileProbe(remote, branch)
    from agent.adapters.probes.http import HttpProbe  # noqa: PLC0415

    return HttpProbe(remote, branch)


def probes(remotes: Sequence[Remote], branch: str) -> dict[str, Probe]:
    """One for each, by its name."""
    return {remote.name: probe(remote, branch) for remote in remotes}

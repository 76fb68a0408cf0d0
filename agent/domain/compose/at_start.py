"""Whether a start of what Compose has made is a start of its containers, and nothing besides.

Then the engine is asked for it, and no process of Compose lives as long as containers take to
start. For some keys Compose does more at that moment: it runs hooks, writes configs, secrets and
logins into the container, waits. A key that is not known here may be another of that kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PLAIN = """
annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command configs
container_name cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares
cpus cpuset credential_spec depends_on deploy develop device_cgroup_rules devices dns dns_opt
dns_search domainname entrypoint env_file environment expose extends external_links extra_hosts
gpus group_add healthcheck hostname image init ipc isolation label_file labels links logging
mac_address mem_limit mem_reservation mem_swappiness memswap_limit network_mode networks
oom_kill_disable oom_score_adj pid pids_limit platform ports pre_stop privileged profiles
pull_policy pull_refresh_after read_only restart runtime scale secrets security_opt shm_size
stdin_open stop_grace_period stop_signal storage_opt sysctls tmpfs tty ulimits user userns_mode
uts volumes volumes_from working_dir
"""
MORE = frozenset({"models", "post_start", "pre_start", "provider", "use_api_socket"})
"""Keys of a service for which Compose does more."""
PLAIN = frozenset(_PLAIN.split())
"""Keys that say what a container is, and in which order containers start."""


def plain(model: Mapping[str, Any]) -> bool:
    """Whether no key of its services wants more; configs and secrets are asked for elsewhere."""
    return all(map(plain_service, (model.get("services") or {}).values()))


def plain_service(service: Mapping[str, Any]) -> bool:
    """The same of one service."""
    return all(key in PLAIN or key.startswith("x-") for key in service)

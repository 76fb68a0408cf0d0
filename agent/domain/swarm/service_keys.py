"""Keys of a service that ``docker stack deploy`` has no word for, and what to use instead.

What is in none of these tables, and written by nothing else, is refused as unknown: a key of a
future Compose is never left out without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agent.domain.swarm import plain

PASSED: Mapping[str, Callable[[Any], Any]] = {
    "cap_add": plain.words,
    "cap_drop": plain.words,
    "command": plain.arguments,
    "dns": plain.words,
    "dns_search": plain.words,
    "entrypoint": plain.arguments,
    "environment": plain.environment,
    "extra_hosts": plain.hosts,
    "healthcheck": plain.health,
    "hostname": plain.text,
    "image": plain.text,
    "init": plain.truth,
    "isolation": plain.text,
    "labels": plain.texts,
    "logging": plain.logging,
    "read_only": plain.truth,
    "stdin_open": plain.truth,
    "stop_grace_period": plain.text,
    "stop_signal": plain.text,
    "sysctls": plain.texts,
    "tty": plain.truth,
    "ulimits": plain.limits,
    "user": plain.text,
    "working_dir": plain.text,
}
"""What means the same in a Swarm, and how it is spelt."""

MEANINGLESS = frozenset(
    {
        "attach",
        "develop",
        "env_file",
        "expose",
        "extends",
        "label_file",
        "profiles",
        "pull_policy",
        "pull_refresh_after",
    }
)
"""What Compose has resolved already, or what changes nothing where digests are pinned."""

_LIMITS = "use deploy.resources"
_HOST = "to use the node's network, name it: networks: {host: {external: true, name: host}}"
_DAEMON = "set it for all containers of a node in its /etc/docker/daemon.json"
GENERIC = (
    "make the GPUs generic resources of their nodes, with NVIDIA's runtime as default-runtime, and "
    "ask for them by deploy.resources.reservations.generic_resources"
)
_ALIASES = "services of one network reach each other by name; more names are networks.NAME.aliases"
_RUN_IT = "run the stack on a host that is no Swarm"

REFUSED: Mapping[str, tuple[str, str]] = {
    "annotations": ("a Swarm has no annotations", "use labels"),
    "blkio_config": ("a Swarm does not limit block I/O", _RUN_IT),
    "build": ("nodes pull images, and build none", "push an image and name it by its digest"),
    "cgroup": ("a Swarm chooses the cgroup", "leave it out"),
    "cgroup_parent": ("a Swarm chooses the cgroup", f"{_DAEMON} (cgroup-parent)"),
    "cpu_count": ("a Swarm has no such limit", _LIMITS),
    "cpu_percent": ("a Swarm has no such limit", _LIMITS),
    "cpu_period": ("a Swarm has no such limit", _LIMITS),
    "cpu_quota": ("a Swarm has no such limit", _LIMITS),
    "cpu_rt_period": ("a Swarm has no such limit", _LIMITS),
    "cpu_rt_runtime": ("a Swarm has no such limit", _LIMITS),
    "cpu_shares": ("a Swarm has no such limit", _LIMITS),
    "cpuset": ("a Swarm has no such limit", _LIMITS),
    "credential_spec": ("credentials of Windows are not supported", "leave it out"),
    "device_cgroup_rules": ("tasks get no devices", _RUN_IT),
    "devices": ("tasks get no devices", _RUN_IT),
    "dns_opt": ("a Swarm passes no options of the resolver", f"{_DAEMON} (dns-opts)"),
    "domainname": ("tasks have no domain", "put the whole name into hostname"),
    "external_links": ("a Swarm links no containers", _ALIASES),
    "gpus": ("tasks get no devices", GENERIC),
    "group_add": ("tasks get no more groups", "use user: UID:GID, or groups in the image"),
    "ipc": ("tasks have a namespace of their own", "leave it out"),
    "links": ("a Swarm links no containers", _ALIASES),
    "mac_address": ("a Swarm chooses the addresses", "leave it out"),
    "mem_swappiness": ("a Swarm has no such limit", _LIMITS),
    "memswap_limit": ("a Swarm has no such limit", _LIMITS),
    "models": ("the command line of Docker would run a program", "run it as a service"),
    "network_mode": ("a service is in networks", f"use networks; {_HOST}"),
    "oom_kill_disable": ("a Swarm has no such setting", "leave it out"),
    "oom_score_adj": ("Docker 20.10 to 28 have no word for it", "leave it out"),
    "pid": ("tasks have a namespace of their own", "leave it out"),
    "platform": (
        "a service has no platform",
        "use deploy.placement.constraints: [node.platform.arch == x86_64]",
    ),
    "post_start": ("a Swarm runs no hooks", "do it in the image's entrypoint"),
    "pre_start": ("a Swarm runs no hooks", "do it in the image's entrypoint"),
    "pre_stop": ("a Swarm runs no hooks", "do it in the image, on its stop_signal"),
    "privileged": ("tasks are never privileged", "give the capabilities it needs by cap_add"),
    "provider": ("the command line of Docker would run a program", "run it as a service"),
    "runtime": ("a service has no runtime", f"{_DAEMON} (default-runtime)"),
    "security_opt": (
        "a Swarm passes no security options",
        f"{_DAEMON} (no-new-privileges: true, seccomp-profile)",
    ),
    "shm_size": (
        "a Swarm does not set the size of /dev/shm",
        "mount a tmpfs there: volumes: [{type: tmpfs, target: /dev/shm, tmpfs: {size: 256m}}]",
    ),
    "storage_opt": ("a Swarm passes no storage options", "leave it out"),
    "use_api_socket": ("a Swarm passes no socket", "mount it by volumes"),
    "userns_mode": ("tasks have the namespace of their node", f"{_DAEMON} (userns-remap)"),
    "uts": ("tasks have a namespace of their own", "leave it out"),
    "volumes_from": ("tasks share volumes by name", "name the volumes in volumes"),
}
"""What would mean something else without the key: why, and what to do."""

RESOURCES = {
    "cpus": ("limits", "cpus", plain.text),
    "mem_limit": ("limits", "memory", plain.text),
    "mem_reservation": ("reservations", "memory", plain.text),
    "pids_limit": ("limits", "pids", plain.whole),
}
"""Compose's own keys for what ``deploy.resources`` says as well, which wins."""

CLIENT_NAMES = frozenset({"PATH", "HOME", "TMPDIR", "GOGC", "GOMAXPROCS", "GOMEMLIMIT"})
CLIENT_PREFIX = "DOCKER_"
"""Variables that Docker's command line may have when it deploys: it puts its own values into those
of a service that are empty."""

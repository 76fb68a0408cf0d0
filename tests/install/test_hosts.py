"""Hosts from nothing, on each Debian: what the package does to them, and what it leaves alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.install import debians, packages
from tests.install.host import Host

if TYPE_CHECKING:
    from tests.install.debians import Debian
    from tests.system.conftest import Fleet

_KEPT = ("/etc/commitd/config.yaml", "/etc/commitd/age.key", "/var/lib/commitd/journal.db")
_VERSIONS = "/var/lib/commitd-agent"


@pytest.mark.parametrize("debian", debians.ALL, ids=lambda debian: debian.suite)
def test_a_host_lives_with_the_package_and_its_containers_never_notice(
    fleet: Fleet, debian: Debian
) -> None:
    built = {
        "first": next(packages.first().glob(f"*_{packages.architecture()}.deb")),
        "upgrade": packages.upgrade(),
        "broken": packages.broken(),
    }
    with Host(fleet.box, debian, built) as host:
        _is_installed(host)
        _is_set_up(host, fleet)
        _deploys(host, fleet)
        _is_upgraded(host)
        _falls_back(host)
        _is_rebooted(host)
        _is_removed(host)
        _is_installed_again(host)
        _is_purged(host)


def _is_installed(host: Host) -> None:
    said = host.install("first")
    assert "commitd: next: commitd setup" in said
    assert host.property("ActiveState") == "inactive"
    assert host.run("commitd", "--version") == f"commitd {packages.version()}\n"
    assert host.run("getent", "group", "commitd").startswith("commitd:")
    modes = host.run("stat", "--format=%a %U", "/etc/commitd", _VERSIONS)
    assert modes == "700 root\n755 root\n"
    assert host.run("systemd-analyze", "verify", "commitd.service") == ""
    assert host.run("dpkg", "--verify", "commitd") == ""
    assert host.exists("/usr/share/man/man1/commitd-setup.1.gz") == [True]
    host.machine.write("/root/trap/agent.py", "raise SystemExit('not isolated')")
    trapped = host.run("env", "--chdir=/root/trap", "PYTHONPATH=/root/trap", "commitd", "version")
    assert f"commitd {packages.version()}" in trapped


def _is_set_up(host: Host, fleet: Fleet) -> None:
    said = host.set_up()
    public = host.run("cat", "/etc/commitd/deploy_key.pub").strip()
    (recipient,) = set(re.findall(r"\bage1[a-z0-9]+", said))
    assert public in said
    host.paste_deploy_key()
    first = fleet.commit(
        "first",
        {
            "host/media/age.pub": f"{recipient}\n",
            "host/media/stacks.yaml": "- one\n",
            "stacks/one/compose.yaml": fleet.compose(more="    environment: [GREETING]\n"),
            "stacks/one/app.secret.env": fleet.box.encrypt("GREETING=hello\n", [recipient]),
        },
    )
    host.run("commitd", "setup", "--wait")
    host.reports(f"in sync with {first[:7]}")
    assert set(host.containers()) == {"one-app-1"}
    assert "GREETING=hello" in host.run("docker", "inspect", "one-app-1")


def _deploys(host: Host, fleet: Fleet) -> None:
    host.run("commitd", "enroll", "--yes")
    second = fleet.commit(
        "second",
        {
            "host/media/stacks.yaml": "- one\n- two\n",
            "stacks/two/compose.yaml": fleet.compose(fleet.web),
        },
    )
    host.run("commitd", "sync")
    host.reports(f"in sync with {second[:7]}")
    assert set(host.containers()) == {"one-app-1", "two-app-1"}


def _is_upgraded(host: Host) -> None:
    before, process = host.containers(), host.property("MainPID")
    host.install("upgrade")
    host.reports("in sync")
    assert host.property("MainPID") != process
    assert host.run("commitd", "--version") == f"commitd {packages.upgraded()}\n"
    link = host.run("readlink", f"{_VERSIONS}/previous").strip()
    assert link == f"versions/{packages.version()}"
    assert host.containers() == before


def _falls_back(host: Host) -> None:
    host.waits_for("commitd", "version", lacks="is on trial")
    before = host.containers()
    host.install("broken")
    host.waits_for("commitd", "version", holds="was given up at")
    host.reports("in sync")
    assert host.run("commitd", "--version") == f"commitd {packages.upgraded()}\n"
    assert "agent-unhealthy" in host.run("commitd", "history", "--json")
    assert host.containers() == before


def _is_rebooted(host: Host) -> None:
    before = host.containers()
    host.machine.reboot()
    host.reports("in sync")
    after = host.containers()
    assert {name: each[0] for name, each in after.items()} == {
        name: each[0] for name, each in before.items()
    }


def _is_removed(host: Host) -> None:
    before = host.containers()
    host.run("apt-get", "remove", "--yes", "commitd")
    assert host.containers() == before
    assert host.exists("/usr/bin/commitd", "/usr/lib/commitd") == [False, False]
    assert host.property("LoadState") == "not-found"
    assert host.exists(*_KEPT, _VERSIONS) == [True] * 4


def _is_installed_again(host: Host) -> None:
    before = host.containers()
    host.install("upgrade")
    host.run("systemctl", "start", "commitd")
    host.reports("in sync")
    assert host.containers() == before
    assert "enabled" in host.run("systemctl", "is-enabled", "commitd")


def _is_purged(host: Host) -> None:
    before = host.containers()
    said = host.run("apt-get", "purge", "--yes", "commitd")
    assert "/etc/commitd /var/lib/commitd stay" in said
    assert host.containers() == before
    assert host.exists(*_KEPT, _VERSIONS) == [True, True, True, False]

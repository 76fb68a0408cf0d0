"""A service that left its stack makes room for what wants its port, its name or its address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.system.releases import NEVER_WELL

if TYPE_CHECKING:
    from tests.system.conftest import Fleet

LIST = {"host/media/stacks.yaml": "- web\n"}
STACK = "stacks/web/compose.yaml"
NETWORK = "networks: {back: {ipam: {config: [{subnet: 10.77.0.0/24}]}}}\n"


def _file(fleet: Fleet, *names: str, bad: bool = False) -> str:
    """Services with a port, a name and an address, all called otherwise in each release."""
    one, two, three, stays = names
    image = f"image: '{fleet.idle}'"
    command = f", command: ['false'], {NEVER_WELL}" if bad else ""
    address = "networks: {back: {ipv4_address: 10.77.0.5}}"
    return (
        f"services:\n  {one}: {{{image}, ports: ['18080:80']{command}}}\n"
        f"  {two}: {{{image}, container_name: site, network_mode: host}}\n"
        f"  {three}: {{{image}, {address}}}\n"
        f"  {stays}: {{{image}, network_mode: host}}\n{NETWORK}"
    )


def test_renamed_services_take_over_what_there_is_once_and_give_it_back_when_they_fail(
    fleet: Fleet,
) -> None:
    host = fleet.synced({**LIST, STACK: _file(fleet, "a", "b", "c", "old")})
    before = fleet.running()
    fleet.commit("renamed", {STACK: _file(fleet, "x", "y", "z", "old")})
    result = host.once()
    assert result.returncode == 0, result.stdout
    after = fleet.running()
    assert after.keys() == {"web-x-1", "site", "web-z-1", "web-old-1"}
    assert after["web-old-1"] == before["web-old-1"]
    [deploy] = [e for e in host.json("history", "web") if e["reason"] == "changed"]
    assert (deploy["status"], deploy["attempts"]) == ("succeeded", 1)
    gone = {e["subject"]: e["message"] for e in host.json("history") if e["action"] == "evict"}
    start = "it is not, or no longer, of the stack, which needs what it has: "
    assert gone["web-a-1"] == f"{start}port 18080/tcp"
    assert gone["site"] == f"{start}container name site"
    assert gone["web-c-1"].startswith(f"{start}address 10.77.0.5")
    # Nobody wants what "old" has: it stays until what is new is well, which it is not.
    fleet.commit("bad", {STACK: _file(fleet, "p", "q", "r", "new", bad=True)})
    result = host.once()
    assert result.returncode == 1
    assert "web-p-1 has ended with 1" in result.stdout
    assert "rolled back to" in result.stdout
    host.once()
    back = fleet.running()
    assert back.keys() == after.keys()
    assert back["web-old-1"] == before["web-old-1"]
    assert fleet.box.engine.inspect("site")["Config"]["Labels"][
        "com.docker.compose.service"
    ] == "y"  # fmt: skip


def test_services_that_swap_their_ports_and_one_that_moves_to_another_stack_get_them(
    fleet: Fleet,
) -> None:
    """Within a stack Compose does that, if need be in a second try; then b goes to its own."""

    def two(a: int, b: int | None) -> str:
        services = f"  a: {{image: '{fleet.idle}', ports: ['{a}:80']}}\n"
        if b:
            services += f"  b: {{image: '{fleet.idle}', ports: ['{b}:80']}}\n"
        return f"services:\n{services}"

    host = fleet.synced({**LIST, STACK: two(18080, 18081)})
    fleet.commit("swapped", {STACK: two(18081, 18080)})
    result = host.once()
    assert result.returncode == 0, result.stdout
    moved = fleet.compose(service="b", more="    ports: ['18080:80']\n")
    fleet.commit(
        "moved",
        {
            "host/media/stacks.yaml": "- web\n- blog\n",
            STACK: two(18081, None),
            "stacks/blog/compose.yaml": moved,
        },
    )
    with host.running() as agent:
        agent.says("in sync with")
        assert fleet.running().keys() == {"web-a-1", "blog-b-1"}

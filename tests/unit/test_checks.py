from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.domain.compose import placeholders
from agent.domain.finding import Finding, Level
from agent.domain.repository.tree import Snapshot
from agent.domain.review import repository_scan
from agent.domain.review.checks import RULES, hosts, merge, networks, stacks, values
from agent.domain.review.checks.hosts import Here
from agent.domain.review.checks.places import Places
from tests.unit.builders import revision, tree
from tests.values import replace

GUIDE = Path(__file__).parents[2] / "docs/how-to/check-before-merge.md"
SEALED = b"A=ENC[AES256_GCM,data:a]\n#ENC[x]\nB=ENC[AES256_GCM,data:b]\nsops_mac=ENC[x]\n"


def here(stack: str, *ports: Mapping[str, Any], **service: Any) -> Here:
    """A stack whose only service publishes these."""
    content = f"services:\n  app:\n    image: x\n    ports: {[p['published'] for p in ports]}\n"
    path = f"stacks/{stack}/compose.yaml"
    entries = tree({path: content})
    taken = repository_scan.take(entries, {path: content.encode()}, revision())
    (found,) = taken.unused
    model = {"services": {"app": {**service, "ports": list(ports)}}}
    return Here(stack, model, Places(Snapshot(entries, taken.contents), found))


def port(published: str, ip: str = "", protocol: str = "tcp") -> dict[str, str]:
    return {"published": published, "host_ip": ip, "protocol": protocol}


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        (port("80"), port("80"), True),
        (port("80"), port("81"), False),
        (port("53", protocol="udp"), port("53"), False),
        (port("80", "127.0.0.1"), port("80"), True),
        (port("80", "127.0.0.1"), port("80", "0.0.0.0"), True),  # noqa: S104  an address
        (port("80", "127.0.0.1"), port("80", "127.0.0.2"), False),
        (port("80", "127.0.0.1"), port("80", "::"), False),
        (port("80", "::1"), port("80", "::"), True),
        (port("80-90"), port("80"), False),
        (port(""), port(""), False),
    ],
)
def test_a_port_clashes_where_the_engine_could_not_bind_it(
    one: Mapping[str, Any], other: Mapping[str, Any], clash: bool
) -> None:
    found = list(hosts.ports([here("a", one), here("b", other)]))
    assert [stack for stack, _ in found] == (["b"] if clash else [])


def test_a_port_cannot_be_that_of_several_containers_of_a_service() -> None:
    for more, clash in (
        ({"scale": 2}, True), ({"deploy": {"replicas": 2}}, True), ({"scale": 1}, False),
        ({"scale": 0}, False), ({"scale": 2, "network_mode": "host"}, False),
    ):  # fmt: skip
        assert bool(list(hosts.ports([here("a", port("80"), **more)]))) is clash
    assert not list(hosts.ports([here("a", port("80-90"), scale=2)]))


def test_of_a_range_for_one_port_enough_must_be_free() -> None:
    fixed = here("a", port("8000"), port("8001", "127.0.0.1"), port("8002", protocol="udp"))
    for published, scale, clash in (
        ("8000-8001", 1, True), ("8000-8002", 1, False), ("8000-8002", 2, True),
        ("8002-8003", 2, False), ("7000-8000", 9, False),
    ):  # fmt: skip
        found = list(hosts.ports([fixed, here("b", port(published), scale=scale)]))
        assert [stack for stack, _ in found] == (["b"] if clash else []), published
    assert not list(hosts.ports([fixed, here("b", port("8001-8001", "127.0.0.2"))]))


def net(*subnets: str, **more: Any) -> dict[str, Any]:
    name = f"{hash(subnets)}{more}"
    return {"name": name, "ipam": {"config": [{"subnet": s} for s in subnets]}, **more}


def part(subnet: str, ip_range: str, **more: Any) -> dict[str, Any]:
    config = [{"subnet": subnet, "ip_range": ip_range}]
    return {"name": ip_range, "ipam": {"config": config}, **more}


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        (net("10.0.0.0/8", name="a"), net("10.1.0.0/16"), True),
        (net("10.0.0.0/24", name="a"), net("10.0.0.0/24", name="a"), False),
        (net("10.0.0.0/24", name="a"), net("10.0.0.0/24", name="b"), True),
        (net("10.0.0.0/24"), net("10.0.1.0/24"), False),
        (net("10.0.0.0/24", "10.2.0.0/24"), net("10.1.0.0/24", "10.2.0.9/28"), True),
        (net("fd00::/48", enable_ipv6=True), net("fd00::/64", enable_ipv6=True), True),
        (net("fd00::/48", enable_ipv6=True), net("fd00::/64"), False),
        (net("10.0.0.0/24", external=True, name="a"), net("10.0.0.0/24"), False),
        (net("10.0.0.0/24", driver="overlay", name="a"), net("10.0.0.0/24"), False),
        (net("10.0.0.0/24", driver="macvlan", name="a"), net("10.0.0.0/24"), True),
        (part("10.0.0.0/8", "10.1.0.0/16"), part("10.0.0.0/8", "10.2.0.0/16"), True),
        (
            part("10.0.0.0/8", "10.1.0.0/16", driver="macvlan"),
            part("10.0.0.0/8", "10.2.0.0/16", driver="macvlan"),
            False,
        ),
        ({"name": "a", "ipam": {"driver": "dhcp", "config": [{"subnet": "10.0.0.0/8"}]}},
         net("10.0.0.0/8"), False),
        (net("${NET}"), net("nonsense"), False),
        ({}, {}, False),
    ],
)  # fmt: skip
def test_subnets_clash_where_the_engine_makes_only_one(
    one: dict[str, Any], other: dict[str, Any], clash: bool
) -> None:
    both = [here("a"), here("b")]
    both = [
        replace(each, model={"networks": {"n": n}})
        for each, n in zip(both, (one, other), strict=True)
    ]
    assert [stack for stack, _ in networks.subnets(both)] == (["b"] if clash else [])


def test_of_many_subnets_each_is_held_against_the_one_around_it() -> None:
    both = [here("a"), here("b")]
    both = [
        replace(
            each,
            model={
                "networks": {
                    f"n{n}": net(f"10.{n}.0.0/16", name=f"{each.stack}-{n}") for n in range(256)
                }
            },
        )
        for each in both
    ]
    found = [finding.message for _, finding in networks.subnets(both)]
    assert len(found) == 256
    assert found[7].startswith("n7: 10.7.0.0/16 overlaps with 10.7.0.0/16 of a/n7 (stacks/a/")


@pytest.mark.parametrize(
    ("one", "other", "level"),
    [
        ({"p": {"name": "proxy"}}, {"p": {"name": "proxy"}}, Level.WARNING),
        ({"p": {"name": "proxy"}}, {"p": {"name": "proxy", "internal": True}}, Level.ERROR),
        ({"p": {"name": "proxy"}}, {"q": {"name": "proxy"}}, Level.ERROR),
        ({"p": {"name": "proxy"}}, {"p": {"name": "proxy", "external": True}}, None),
        ({"p": {"name": "a_p"}}, {"p": {"name": "b_p"}}, None),
    ],
)
def test_what_two_stacks_declare_is_said_of_the_second(
    one: dict[str, Any], other: dict[str, Any], level: Level | None
) -> None:
    both = [
        replace(here(name), model={"services": {"app": {"networks": used}}, "networks": used})
        for name, used in (("a", one), ("b", other))
    ]
    found = list(networks.declared_twice(both))
    assert [(stack, finding.level) for stack, finding in found] == ([("b", level)] if level else [])
    assert all("is declared by a as well (stacks/a/" in finding.message for _, finding in found)


def _keeps(stack: str, **volumes: Mapping[str, Any] | None) -> Here:
    """A stack whose only service uses these volumes, named as Compose names them."""
    found = {key: {"name": f"{stack}_{key}", **(own or {})} for key, own in volumes.items()}
    mounts = [{"type": "volume", "source": key, "target": f"/{key}"} for key in volumes]
    return replace(here(stack), model={"services": {"app": {"volumes": mounts}}, "volumes": found})


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (_keeps("a", b_data=None), _keeps("a_b", data=None), "a_b_data"),
        (_keeps("a", data=None), _keeps("b", data={"name": "a_data"}), "a_data"),
        (_keeps("a", data={"name": "x"}), _keeps("b", data={"name": "x"}), "x"),
        (_keeps("a", data=None), _keeps("b", mine={"name": "a_data", "external": True}), None),
        (_keeps("a", data=None), _keeps("b", data=None), None),
        (_keeps("a", b_data=None), _keeps("a-b", data=None), None),
    ],
)
def test_two_stacks_that_would_write_into_one_volume_are_an_error(
    one: Here, other: Here, shared: str | None
) -> None:
    found = [finding for _, finding in networks.declared_twice([one, other])]
    assert [finding.level for finding in found] == ([Level.ERROR] if shared else [])
    for finding in found:
        assert f"the volume {shared} is declared by a as well (stacks/a/" in finding.message
        assert "both would use the same data" in finding.message
        assert "external: true" in (finding.hint or "")


def test_names_that_compose_makes_are_taken_as_well() -> None:
    first = here("a", scale=2)
    for other, clash in ((here("b", container_name="a-app-2"), True), (here("a-app"), False)):
        assert bool(list(hosts.container_names([first, other]))) is clash
    one, other = here("a-b"), here("a")
    other.model["services"]["b-app"] = {}
    assert [stack for stack, _ in hosts.container_names([one, other])] == ["a"]


def test_a_name_that_two_stacks_give_a_service_of_a_swarm_is_an_error_at_both() -> None:
    one, other, third = here("a"), here("a_b"), here("c")
    one.model["services"]["b_app"] = {}
    found = list(hosts.service_names([one, other, third]))
    assert [(stack, each.level) for stack, each in found] == [
        ("a", Level.ERROR),
        ("a_b", Level.ERROR),
    ]
    assert "a_b_app, as it would a_b/app" in found[0][1].message
    assert "a_b_app, as it would a/b_app" in found[1][1].message


def test_of_many_addresses_the_ones_that_meet_are_found() -> None:
    ips = [f"127.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(1, 30_000)]
    one, other = here("a", *(port("80", ip) for ip in ips)), here("b", port("80", ips[-1]))
    ((stack, finding),) = hosts.ports([one, other])
    assert (stack, "a/app" in finding.message) == ("b", True)


def test_many_ports_of_two_services_are_one_finding() -> None:
    ports = [port(str(number)) for number in (80, 8000, 8001, 8002)]
    ((_, finding),) = hosts.ports([here("a", *ports), here("b", *ports)])
    assert "the port 80, 8000-8002/tcp is published by a/app as well" in finding.message


def test_a_service_in_the_network_of_the_host_publishes_nothing() -> None:
    assert not list(
        hosts.ports([here("a", port("80"), network_mode="host"), here("b", port("80"))])
    )


def finding(where: str = "a:1", level: Level = Level.ERROR) -> Finding:
    return Finding(level=level, rule="layout", where=where, message="it is wrong")


def test_a_finding_stands_once_and_names_hosts_only_if_they_differ() -> None:
    runs = {"web": frozenset({"media", "nas"})}
    both = [(host, "web", finding("a:10")) for host in ("media", "nas")]
    found = merge.merge([*both, ("nas", "web", finding("a:9"))], runs)
    assert [(f.where, f.message) for f in found] == [
        ("a:9", "it is wrong (on nas)"),
        ("a:10", "it is wrong"),
    ]


def test_a_placeholder_follows_from_its_own_ciphertext_alone() -> None:
    before = placeholders.values(SEALED, "a.secret.env")
    after = placeholders.values(SEALED.replace(b"data:a", b"data:c"), "a.secret.env")
    assert set(before) == {"A", "B"}
    assert before["B"] == after["B"]
    assert before["A"] != after["A"]
    assert all(value.isdigit() for value in before.values())


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("A=b #c\n", [1]),
        ("A=b # c\n", []),
        ("A='b #c'\nB=d\n", []),
        ("A=b#c\n", []),
        ("# A=b #c\nB=\nC=d e #f\n", [3]),
        ("A= #b\n", []),
        ("A=b #c\r\nB=d\u2028#e\nC=d #f", [1, 2, 3]),
    ],
)
def test_a_value_that_ends_before_a_hash_is_found(text: str, lines: list[int]) -> None:
    found = [merge.place(f.where)[1] for f in values.cut_values("a.env", text)]
    assert found == lines


def test_a_file_of_blank_lines_is_read_in_a_moment() -> None:
    (finding,) = values.cut_values("a.env", "\n" * 500_000 + "A=b #c\n")
    assert finding.where == "a.env:500001"


@pytest.mark.parametrize("where", ["stacks/a:²", "stacks/a:٣", f"stacks/a:{'9' * 5000}"])
def test_what_only_looks_like_a_line_is_a_part_of_the_name(where: str) -> None:
    assert merge.place(where) == (where, 0)


@pytest.mark.parametrize(
    ("written", "resolved", "hint"),
    [
        ("nginx:1", "nginx:1", "commitd pin web"),
        ("'nginx:${TAG}'", "nginx:1", "then commitd pin"),
        (f"nginx@sha256:{'0' * 64}", f"nginx@sha256:{'0' * 64}", "nginx:TAG@sha256:"),
        ("nginx:a b", "nginx:a b", "name:tag"),
    ],
)
def test_an_image_is_pinned_by_what_can_pin_it(written: str, resolved: str, hint: str) -> None:
    path, content = "stacks/web/compose.yaml", f"services: {{a: {{image: {written}}}}}\n"
    taken = repository_scan.take(tree({path: content}), {path: content.encode()}, revision())
    (stack,) = taken.unused
    model = {"services": {"a": {"image": resolved}}}
    (finding,) = stacks.judge(stack, model, "/repo", Places(taken.files, stack))
    assert hint in str(finding.hint)


def test_data_of_the_host_that_services_share_is_no_finding() -> None:
    """A library that one service fills and another shows; and what reads the whole host."""
    path, content = "stacks/web/compose.yaml", "services: {a: {image: x}}\n"
    taken = repository_scan.take(tree({path: content}), {path: content.encode()}, revision())
    (stack,) = taken.unused
    for top, found in (("/srv/media", 0), ("/repo/stacks/web/data", 1)):
        whole = {"type": "bind", "source": top, "target": "/data"}
        part = {"type": "bind", "source": f"{top}/tv", "target": "/tv", "read_only": True}
        model = {"services": {"a": {"volumes": [whole]}, "b": {"volumes": [part]}}}
        said = stacks.judge(stack, model, "/repo", Places(taken.files, stack))
        assert len([each for each in said if each.rule == "privileges"]) == found
    root = {"type": "bind", "source": "/", "target": "/rootfs", "read_only": True}
    model = {"services": {"a": {"volumes": [root]}}}
    (finding,) = stacks.judge(stack, model, "/repo", Places(taken.files, stack))
    assert finding.message == "a: mounts /, where it can read the agent's keys and secrets"


def test_each_of_many_variables_is_found_where_it_is_used() -> None:
    path, many = "stacks/web/compose.yaml", 20_000
    uses = "".join(f"      - ${{V{n}:-$W{n}}} $$$V{n} $$X\n" for n in range(many))
    content = f"services:\n  a:\n    image: x\n    command:\n{uses}      - $V1 # $Y\n  # $V1\n"
    taken = repository_scan.take(tree({path: content}), {path: content.encode()}, revision())
    (stack,) = taken.unused
    found = list(values.unset(["V1", "W7", f"V{many - 1}"], Places(taken.files, stack)))
    places = {f.where.rpartition(":")[2] for f in found}
    assert places == {"6", str(many + 5), "12", str(many + 4)}
    everything = [f"V{n}" for n in range(many)]
    assert len(list(values.unset(everything, Places(taken.files, stack)))) == many + 1


def test_an_encrypted_file_in_the_place_of_its_plaintext_is_found() -> None:
    path, content = (
        "stacks/web/compose.yaml",
        b"""\
services:
  app:
    image: x
    env_file: [db.secret.env, .decrypted.db.secret.env]
    volumes: ["./tls.secret.key:/key", ./.decrypted.tls.secret.key:/k, ./conf:/conf]
secrets:
  tls: {file: ../db/tls.secret.key}
""",
    )
    files = {path: content, "stacks/web/conf/a": b"", "stacks/db/tls.secret.key": b"{}"}
    files |= dict.fromkeys(("stacks/web/db.secret.env", "stacks/web/tls.secret.key"), SEALED)
    entries = tree(files)
    taken = repository_scan.take(entries, files, revision())
    (found,) = taken.unused
    findings = [*values.encrypted(Places(Snapshot(entries, taken.contents), found))]
    assert [each.where.rpartition(":")[2] for each in findings] == ["7", "4", "5"]
    assert {each.hint for each in findings} == {
        "name .decrypted.tls.secret.key beside it",
        "name .decrypted.db.secret.env beside it",
    }


def test_every_rule_is_in_the_guide_and_no_other() -> None:
    rows = [line.split("|") for line in GUIDE.read_text().splitlines() if line.startswith("| `")]
    assert [row[1].strip(" `") for row in rows] != []
    assert {row[1].strip(" `") for row in rows} == set(RULES)

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress

import pytest
import yaml

from agent.domain.errors import PermanentError
from agent.domain.finding import Level
from agent.domain.recipients import audit
from agent.domain.recipients import rules as sops_rules
from agent.domain.recipients.access import Access, keys
from agent.domain.repository import fleet_policy
from agent.domain.repository.secret_files import is_secret
from agent.domain.sops import metadata

MEDIA, EDGE, ADA, OLD = (f"age1{letter * 58}" for letter in "mexl")
COMPOSE = "services:\n  app:\n    image: a:1@sha256:0\n"


def dotenv(*keys: str, more: str = "") -> str:
    lines = [f"sops_age__list_{i}__map_recipient={key}" for i, key in enumerate(keys)]
    return "\n".join(["A=ENC[AES256_GCM,data:x]", more, *lines, "sops_mac=ENC[x]", ""])


def nested(*keys: str, **values: object) -> str:
    age = [{"recipient": key, "enc": "x"} for key in keys]
    return json.dumps({"a": "ENC[x]", **values, "sops": {"age": age, "mac": "ENC[x]"}}, indent=1)


def binary(*keys: str) -> str:
    return nested(*keys).replace('"a"', '"data"')


def ini(*keys: str) -> str:
    lines = [f"age__list_{i}__map_recipient = {key}" for i, key in enumerate(keys)]
    return "\n".join(["[s]", "a = ENC[x]", "", "[sops]", *lines, "mac = ENC[x]", ""])


# media runs web and db, edge runs web; who may read what is as it should be.
GOOD: Mapping[str, str] = {
    "global/age.pub": f"# people\n{ADA}  # Ada\n",
    "global/all.secret.env": dotenv(MEDIA, EDGE, ADA),
    "host/media/stacks.yaml": "- web\n- db\n",
    "host/media/age.pub": f"{MEDIA}\n",
    "host/media/tls.secret.yaml": nested(MEDIA, ADA),
    "host/edge/stacks.yaml": "stacks: [web]\n",
    "host/edge/age.pub": f"{EDGE}\n",
    "stacks/web/compose.yaml": COMPOSE,
    "stacks/web/app.secret.env": dotenv(EDGE, MEDIA, ADA),
    "stacks/db/compose.yaml": COMPOSE,
    "stacks/db/.secret.env": dotenv(MEDIA, ADA),
    "stacks/db/init.secret.ini": ini(MEDIA, ADA),
    "stacks/db/dump.secret.bin": binary(MEDIA, ADA),
    "stacks/unused/x.secret.json": nested(ADA),
}


def found(changes: Mapping[str, str | None]) -> list[tuple[str, str, str]]:
    files = {**GOOD, **changes}
    raw = {path: text.encode() for path, text in files.items() if text is not None}
    return [(f.level.value, f.where, f.message) for f in audit.judge(raw)]


def test_a_repository_where_everybody_reads_what_they_need_is_good() -> None:
    assert found({}) == []
    assert found({"host/media/stacks.yaml": "[]\n", "stacks/db/.secret.env": dotenv(ADA)}) != []


@pytest.mark.parametrize(
    ("changes", "level", "where", "message"),
    [
        # a host that needs a file and cannot read it
        ({"global/all.secret.env": dotenv(MEDIA, ADA)}, "error", "global/all.secret.env",
         "edge needs this file and cannot read it"),
        ({"host/media/tls.secret.yaml": nested(ADA)}, "error", "host/media/tls.secret.yaml",
         "media needs this file"),
        ({"stacks/db/init.secret.ini": ini(ADA)}, "error", "stacks/db/init.secret.ini",
         "media needs this file"),
        ({"stacks/db/dump.secret.bin": binary(ADA)}, "error", "stacks/db/dump.secret.bin",
         "media needs this file"),
        ({"host/media/age.pub": OLD}, "error", "global/all.secret.env", "media needs this file"),
        # one that can and does not need to: with the line of its recipient
        ({"stacks/db/.secret.env": dotenv(MEDIA, EDGE, ADA)}, "warning",
         "stacks/db/.secret.env:4", "edge can read this file and does not need it"),
        ({"host/media/tls.secret.yaml": nested(MEDIA, EDGE, ADA)}, "warning",
         "host/media/tls.secret.yaml:10", "edge can read this file"),
        ({"stacks/unused/x.secret.json": nested(EDGE, ADA)}, "warning",
         "stacks/unused/x.secret.json:6", "edge can read this file"),
        ({"host/edge/stacks.yaml": "[]\n"}, "warning", "stacks/web/app.secret.env:3",
         "edge can read this file"),
        # a person who cannot
        ({"stacks/db/.secret.env": dotenv(MEDIA)}, "warning", "stacks/db/.secret.env",
         "of global/age.pub cannot read this file"),
        # plain text
        ({"stacks/db/.secret.env": "A=hunter2\n"}, "error", "stacks/db/.secret.env",
         "called secret but is not encrypted"),
        ({"host/media/tls.secret.yaml": "a: hunter2\n"}, "error", "host/media/tls.secret.yaml",
         "called secret but is not encrypted"),
        ({"host/media/tls.secret.yaml": "a: !!bool hunter2\n"}, "error",
         "host/media/tls.secret.yaml", "called secret but is not encrypted"),
        ({"stacks/db/dump.secret.bin": "hunter2"}, "error", "stacks/db/dump.secret.bin",
         "called secret but is not encrypted"),
        ({"stacks/db/init.secret.ini": "[s]\na = hunter2\n"}, "error", "stacks/db/init.secret.ini",
         "called secret but is not encrypted"),
        ({"stacks/db/.secret.env": dotenv(MEDIA, ADA, more="NEW=hunter2")}, "error",
         "stacks/db/.secret.env:2", "NEW stands here in the clear"),
        ({"host/media/tls.secret.yaml": nested(MEDIA, ADA, b={"c": ["hunter2"]})}, "error",
         "host/media/tls.secret.yaml:5", "b.c stands here in the clear"),
        ({"host/media/tls.secret.yaml": "a: [\n"}, "error", "host/media/tls.secret.yaml:1",
         "not valid YAML"),
        # in the clear by the file's own rule
        ({"stacks/db/.secret.env": dotenv(MEDIA, ADA, more="""\
TOKEN=hunter2
sops_encrypted_regex=^A$""")}, "warning", "stacks/db/.secret.env:2",
         "TOKEN looks secret, and the file's own rule leaves it in the clear"),
        ({"host/media/tls.secret.yaml": nested(MEDIA, ADA).replace("ENC[x]", "hunter2").replace(
            '"mac"', '"encrypted_regex": "^data$", "mac"')}, "error", "host/media/tls.secret.yaml",
         "nothing in the file is encrypted: its rule, encrypted_regex '^data$',"),
        # encrypted for another name
        ({"stacks/db/.secret.env": nested(MEDIA, ADA)}, "error", "stacks/db/.secret.env",
         "SOPS has encrypted it as json, and its name says dotenv"),
        # keys of hosts
        ({"host/edge/age.pub": None}, "warning", "host/edge/age.pub",
         "edge has secrets to read (global/all.secret.env and 1 more) but no public key"),
        ({"host/edge/age.pub": "# none\n"}, "warning", "host/edge/age.pub", "no public key"),
        ({"host/edge/age.pub": "\nssh-dss AAAA\n"}, "error", "host/edge/age.pub:2",
         "this is no age recipient"),
        ({"host/edge/age.pub": f"{EDGE}\nAGE-SECRET-KEY-1HUNTER2\n"}, "error",
         "host/edge/age.pub:2", "this is the private half of a key"),
        ({"global/age.pub": "ada\n"}, "error", "global/age.pub:1", "this is no age recipient"),
        ({"host/edge/age.pub": MEDIA}, "error", "host/media/age.pub:1", "same key as edge"),
        # keys of several that must come together
        ({"stacks/db/.secret.env": dotenv(ADA, more=f"""\
sops_key_groups__list_0__map_age__list_0__map_recipient={MEDIA}
sops_key_groups__list_1__map_age__list_0__map_recipient={ADA}""")}, "error",
         "stacks/db/.secret.env", "keys of 2 groups must come together"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found_where_it_stands(
    changes: Mapping[str, str | None], level: str, where: str, message: str
) -> None:
    findings = found(changes)
    assert [f for f in findings if f[:2] == (level, where) and message in f[2]], findings
    assert "hunter2" not in str(findings).lower()


def test_a_host_without_a_list_that_can_be_read_is_not_told_what_it_does_not_need() -> None:
    assert found({"host/media/stacks.yaml": "- [web\n"}) == []
    assert found({"host/media/stacks.yaml": "- 1\n"}) == []


def test_a_key_that_is_no_hosts_is_a_persons_unless_people_are_listed() -> None:
    more = {"stacks/db/.secret.env": dotenv(OLD, MEDIA, ADA)}
    [(level, where, message)] = found(more)
    assert (level, where) == ("warning", "stacks/db/.secret.env:3")
    assert message.startswith("age1llll")
    assert "neither a host's nor in global/age.pub" in message
    assert found({**more, "global/age.pub": None}) == []


def test_a_host_reads_with_either_of_its_keys_and_is_warned_of_one_that_cannot() -> None:
    findings = found({"host/media/age.pub": f"{OLD}\n{MEDIA}\n"})
    needed = [path for path, text in GOOD.items() if MEDIA in text and "secret" in path]
    assert [(level, where) for level, where, _ in findings] == [
        ("warning", path) for path in sorted(needed)
    ]
    assert all("one key of media, age1llll" in message for _, _, message in findings)


def test_a_swarm_has_the_keys_of_all_its_managers() -> None:
    of_all = {
        "host/media/age.pub": f"{MEDIA}\n{OLD}\n",
        "global/all.secret.env": dotenv(MEDIA, OLD, EDGE, ADA),
        "host/media/tls.secret.yaml": nested(MEDIA, OLD, ADA),
        "stacks/web/app.secret.env": dotenv(EDGE, MEDIA, OLD, ADA),
        "stacks/db/.secret.env": dotenv(MEDIA, OLD, ADA),
        "stacks/db/init.secret.ini": ini(MEDIA, OLD, ADA),
        "stacks/db/dump.secret.bin": binary(MEDIA, OLD, ADA),
    }
    assert found(of_all) == []


def test_what_a_stack_names_elsewhere_is_needed_as_well() -> None:
    more = "    volumes: [../db/.decrypted.dump.secret.bin:/dump]\n"
    changes = {"stacks/web/compose.yaml": COMPOSE + more}
    assert [(where, message[:4]) for _, where, message in found(changes)] == [
        ("stacks/db/dump.secret.bin", "edge")
    ]
    wider = {**changes, "stacks/db/dump.secret.bin": binary(MEDIA, EDGE, ADA)}
    assert found(wider) == []


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, "warning"),
        ({fleet_policy.FLEET_PATH: "recipients: warn"}, "warning"),
        ({fleet_policy.FLEET_PATH: "recipients: require"}, "error"),
        ({fleet_policy.path_for("edge"): "recipients: require"}, "error"),
        ({fleet_policy.path_for("media"): "recipients: require"}, "warning"),
        ({fleet_policy.FLEET_PATH: "nonsense: 1"}, "warning"),
    ],
)
def test_policy_says_how_bad_it_is_to_read_too_much(changes: Mapping[str, str], level: str) -> None:
    too_much = {"stacks/db/.secret.env": dotenv(MEDIA, EDGE, ADA)}
    assert [each[0] for each in found({**too_much, **changes})] == [level]
    without = {
        "host/edge/age.pub": None,
        "stacks/web/app.secret.env": dotenv(MEDIA, ADA),
        "global/all.secret.env": dotenv(MEDIA, ADA),
    }
    assert [each[0] for each in found({**without, **changes})] == [level]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("stacks/a/.secret.env", True),
        ("stacks/a/b/tls.secret.key", True),
        ("global/x.secret.yaml", True),
        ("stacks/a/.decrypted.x.secret.env", False),
        ("stacks/a/secret.env", False),
        ("stacks/a/x.secret.env.example", False),
        ("stacks/a.secret.d/x.env", False),
    ],
)
def test_a_file_is_called_secret_by_its_own_name(path: str, expected: bool) -> None:
    assert is_secret(path) is expected


def test_keys_have_lines_and_remarks() -> None:
    text = f"# all\n\n{ADA} # Ada\nssh-ed25519 AAAA+/= ada@example.com\nage1tpm1q{'q' * 40}\n{ADA}"
    assert keys(text.encode(), "x") == {
        ADA: 3, "ssh-ed25519 AAAA+/=": 4, f"age1tpm1q{'q' * 40}": 5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("A=ENC[x]\nB=\n#ENC[c]\nC_unencrypted=x\nsops_mac=m\n", "a.env", ()),
        ("A=x\r\nsops_mac=m\n", "a.env", (("A", 1),)),
        ("A=x\nsops_mac=m\nsops_unencrypted_suffix=_u\nB_u=x\n", "a.env", (("A", 1),)),
        ("A=x\nsops_mac=m\nsops_encrypted_regex=^B\n", "a.env", ()),
        ("a: {b_unencrypted: {c: 1}, d: ['ENC[x]', '', null]}\nsops: {mac: m}\n", "a.yaml", ()),
        ("a:\n  b: true\nsops: {mac: m}\n", "a.yml", (("a.b", 2),)),
        ("[s]\na = 1\n; b = 2\n[sops]\nmac = m\n", "a.ini", (("a", 2),)),
        ('{"a": 1, "sops": {"mac": "m"}}', "a.json", (("a", 1),)),
        ("sops_mac=m\nMIIE/h+x=y\nhunter2==\n", "a.env", (("a value", 2), ("a value", 3))),
        ('{"data": "ENC[x]", "sops": {"mac": "m"}}', "a.tar", ()),
    ],
)
def test_values_that_sops_did_not_write_are_seen(
    text: str, path: str, expected: tuple[tuple[str, int], ...]
) -> None:
    file = metadata.read(text.encode(), path)
    assert file is not None
    assert file.plain == expected


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", "a.env"), ("sops_mac=\n", "a.env"), ("a: 1", "a.yaml"), ("", "a.yaml"),
        ("sops: 1", "a.yaml"), ("{}", "a.json"), ("[" * 100_000, "a.json"), ("[sops]", "a.ini"),
        ("-----BEGIN PRIVATE KEY-----", "a.pem"),
    ],
)  # fmt: skip
def test_a_file_without_metadata_is_not_encrypted(text: str, path: str) -> None:
    assert metadata.read(text.encode(), path) is None
    assert metadata.read(b"\xff" + text.encode(), "a.pem") is None


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (dotenv(ADA, more="sops_pgp__list_0__map_fp=85D7"), "a.secret.env"),
        (dotenv(ADA, more="sops_key_groups__list_1__map_pgp__list_0__map_fp=85D7"), "a.secret.env"),
        (ini(ADA) + "pgp__list_0__map_fp = 85D7\n", "a.secret.ini"),
        ('{"sops": {"mac": "m", "age": [], "kms": [], "pgp": [{"fp": "85D7"}]}}', "a.secret.json"),
        ('{"sops": {"mac": "m", "key_groups": [{"pgp": [{"fp": "85D7"}]}]}}', "a.secret.yaml"),
    ],
)
def test_keys_that_are_not_ages_are_seen(text: str, path: str) -> None:
    file = metadata.read(text.encode(), path)
    assert file is not None
    assert file.others == ("pgp",)


def test_a_group_is_enough_where_the_file_says_so() -> None:
    groups = [{"age": [{"recipient": key, "enc": ""}]} for key in (MEDIA, ADA)]
    for own, needed in (({}, 2), ({"shamir_threshold": 1}, 1)):
        text = json.dumps({"sops": {"mac": "m", "key_groups": groups, **own}})
        assert metadata.read(text.encode(), "a.json") == metadata.SopsFile(
            recipients=(MEDIA, ADA), groups=needed
        )


@pytest.mark.parametrize("threshold", ["²", "0", "-1", "9" * 5000])
def test_a_threshold_that_is_no_number_needs_all_groups(threshold: str) -> None:
    lines = [f"sops_key_groups__list_{n}__map_age__list_0__map_recipient={MEDIA}" for n in (0, 1)]
    text = "\n".join([*lines, "sops_mac=m", f"sops_shamir_threshold={threshold}"])
    assert metadata.read(text.encode(), "a.env") == metadata.SopsFile(
        recipients=(MEDIA, MEDIA), groups=2
    )


@pytest.mark.parametrize("age", [5, "x", {"a": 1}, [5, {"recipient": ""}]])
def test_recipients_that_are_no_list_are_nobodys(age: object) -> None:
    text = json.dumps({"sops": {"mac": "m", "age": age}})
    assert metadata.read(text.encode(), "a.json") == metadata.SopsFile(recipients=())


# --- .sops.yaml ---


def rules(files: Mapping[str, str], before: str | None = None) -> bytes:
    raw = {path: text.encode() for path, text in files.items()}
    return sops_rules.write(None if before is None else before.encode(), Access(raw))


def recipients_for(text: bytes, path: str) -> list[str]:
    """As SOPS does it: the first rule whose pattern is found in the path."""
    for rule in yaml.safe_load(text)["creation_rules"]:
        if re.search(rule["path_regex"], path):
            keys: list[str] = rule["key_groups"][0]["age"]
            return keys
    return []


def test_rules_give_each_place_the_keys_of_those_who_need_it() -> None:
    files = {
        **GOOD,
        "stacks/web/compose.yaml": COMPOSE + "    env_file: [../db/.decrypted..secret.env]\n",
    }
    text = rules(files)
    for path, expected in {
        "global/new.secret.env": [EDGE, MEDIA, ADA],
        "global/deep/er.secret.json": [EDGE, MEDIA, ADA],
        "host/edge/new.secret.env": [EDGE, ADA],
        "stacks/db/new.secret.env": [MEDIA, ADA],
        "stacks/db/.secret.env": [EDGE, MEDIA, ADA],
        "stacks/web/.secret.env": [EDGE, MEDIA, ADA],
        "stacks/unused/x.secret.env": [ADA],
        "stacks/webber/x.secret.env": [],
        "elsewhere/stacks/web/x.secret.env": [],
        "stacks/web/plain.env": [],
    }.items():
        assert recipients_for(text, path) == expected, path
    assert rules(files, text.decode()) == text


def test_rules_of_a_person_stay_where_they_are() -> None:
    mine = "# mine\ncreation_rules:\n- path_regex: ^first\n  pgp: x\n"
    last = "- path_regex: .*\n  age: y # last\nstores: {}\n"
    before = f"{mine}{sops_rules.BEGIN}\nold: 1\n{sops_rules.END}\n{last}"
    text = rules(GOOD, before).decode()
    assert text.startswith(f"{mine}{sops_rules.BEGIN}\n")
    assert text.endswith(f"{sops_rules.END}\n{last}")
    assert "old" not in text
    patterns = [rule["path_regex"] for rule in yaml.safe_load(text)["creation_rules"]]
    assert (patterns[0], patterns[-1]) == ("^first", ".*")
    assert len(patterns) > 3


def test_what_commitd_did_not_write_is_not_written_over() -> None:
    with pytest.raises(PermanentError, match="was not written by commitd"):
        rules(GOOD, "creation_rules: []\n")


def test_no_rules_follow_from_a_list_or_a_key_that_cannot_be_read() -> None:
    with pytest.raises(PermanentError, match="what media runs is unknown"):
        rules({**GOOD, "host/media/stacks.yaml": "["})
    with pytest.raises(PermanentError, match="no age recipient"):
        rules({**GOOD, "host/media/age.pub": "x"})


def test_rules_that_are_out_of_date_are_found() -> None:
    text = rules(GOOD).decode()
    assert found({sops_rules.PATH: text}) == []
    assert found({sops_rules.PATH: "creation_rules: []\n"}) == []
    stale = found({sops_rules.PATH: text.replace(EDGE, OLD)})
    assert stale == [
        ("warning", ".sops.yaml", "the rules are not those that follow from who runs what")
    ]


def test_a_key_that_cannot_be_read_is_said_once() -> None:
    text = rules(GOOD).decode()
    findings = found({sops_rules.PATH: text, "host/edge/age.pub": "AGE-SECRET-KEY-1HUNTER2"})
    assert [where for _, where, _ in findings] == ["host/edge/age.pub:1"]


def test_findings_name_their_rule() -> None:
    files = {"host/a/stacks.yaml": b"[]", "global/x.secret.env": b"A=1", "global/age.pub": b"x"}
    levels = {finding.rule: finding.level for finding in audit.judge(files)}
    assert levels == {"host-key": Level.WARNING, "plain-secret": Level.ERROR}


@pytest.mark.parametrize("value", ["\x7f", "\ud83d\ude00", "k" * 3])
def test_json_of_sops_is_never_called_plain_for_what_yaml_cannot_hold(value: str) -> None:
    """SOPS decides then; a text in YAML is no JSON, whatever it holds."""
    own = {"sops": {"mac": "m", "age": []}}
    encrypted = json.dumps({"a_unencrypted": value, "b": "ENC[x]", **own})
    with suppress(PermanentError):
        assert metadata.read(encrypted.encode(), "a.json") is not None
    assert metadata.read(b"{a: ENC[x], sops: {mac: m, age: []}}", "a.json") is None

"""Files that are called secret and are none: what they are, and what to do about it."""

from __future__ import annotations

import json

import pytest

from agent.domain.repository import encryption_faults
from agent.domain.sops import metadata, scope

ENV, YAML, JSON, KEY = (f"stacks/web/x.secret.{end}" for end in ("env", "yaml", "json", "key"))
DOTENV = "A=ENC[x]\nsops_lastmodified=2026\nsops_mac=ENC[m]\n"
BINARY = json.dumps({"data": "ENC[x]", "sops": {"mac": "m"}})
NESTED = json.dumps({"a": "ENC[x]", "sops": {"mac": "m"}})
INI = "[s]\na = ENC[x]\n[sops]\nmac = m\n"


def _fault(content: str, path: str) -> str | None:
    _, err = encryption_faults.examine(content.encode(), path)
    return None if err is None else str(err)


@pytest.mark.parametrize(
    ("content", "path"),
    [
        (DOTENV, ENV),
        (DOTENV + 'NOTE_unencrypted="open\n', ENV),
        (DOTENV.replace("ENC[x]", ""), ENV),
        (NESTED, YAML), (NESTED, JSON), (BINARY, JSON), (BINARY, KEY), (INI, "x.secret.ini"),
        ("a: ENC[x]\nsops: {mac: m}\n---\nb: ENC[y]\nsops: {mac: m}\n", YAML),
    ],
)  # fmt: skip
def test_what_sops_wrote_for_the_name_is_no_fault(content: str, path: str) -> None:
    assert _fault(content, path) is None


@pytest.mark.parametrize(
    ("content", "path", "line", "kind"),
    [
        (f"{DOTENV}sops_hc_vault__list_0__map_vault_address=http://x\n", ENV, 4, "hc_vault"),
        (f"{DOTENV}sops_key_groups__list_0__map_kms__list_0__map_arn=x\n", ENV, 4, "kms"),
        ("a: ENC[x]\nsops:\n  mac: m\n  gcp_kms: [{resource_id: x}]\n", YAML, 4, "gcp_kms"),
        ("a: ENC[x]\nsops:\n  mac: m\n  key_groups: [{age: [],\n    azure_kv: [{vault_url: x}]}]\n",
         YAML, 5, "azure_kv"),
        ("a: ENC[x]\nb: &b {hc_vault: [{vault_address: x}]}\nsops: {<<: *b, mac: m}\n", YAML, 2,
         "hc_vault"),
        ("a: ENC[x]\nsops: {mac: m}\n---\nsops:\n  hckms: [{key_id: x}]\n", YAML, 5, "hckms"),
        ('{"data": "ENC[x]", "sops": {"mac": "m",\n"kms": [{"arn": "x"}]}}', KEY, 2, "kms"),
        # Go does not mind the case of a key in JSON.
        ('{"a": "ENC[x]", "sops": {"mac": "m"}, "SOPS": {"HC_Vault": [{"vault_address": "x"}]}}',
         JSON, 1, "hc_vault"),
        (f"{INI}hc_vault__list_0__map_vault_address = http://x\n", "x.secret.ini", 5, "hc_vault"),
        (f"{INI}hc_vault__list_0__map_vault_address : http://x\n", "x.secret.ini", 5, "hc_vault"),
    ],
)  # fmt: skip
def test_a_file_with_keys_of_a_service_is_refused_before_sops_would_ask_that_service(
    content: str, path: str, line: int, kind: str
) -> None:
    fault = _fault(content, path)
    assert fault is not None
    assert fault.startswith(
        f"{path}:{line}: it is also encrypted for {kind}, which SOPS would contact"
    )
    assert (
        f"leave {kind} out of the rule for it in .sops.yaml, then sops updatekeys {path}" in fault
    )


def test_a_key_of_a_person_for_gnupg_asks_nobody_and_is_no_fault() -> None:
    assert _fault(f"{DOTENV}sops_pgp__list_0__map_fp=85D7\n", ENV) is None


@pytest.mark.parametrize(
    ("content", "path", "found", "named"),
    [
        (BINARY, ENV, "binary", "dotenv"),
        (NESTED, ENV, "json", "dotenv"),
        (DOTENV, YAML, "dotenv", "yaml"),
        (DOTENV, KEY, "dotenv", "binary"),
        (NESTED, KEY, "json", "binary"),
        (INI, ENV, "ini", "dotenv"),
        ("a: ENC[x]\nsops:\n  mac: m\n", ENV, "yaml", "dotenv"),
    ],
)  # fmt: skip
def test_a_file_of_another_format_than_its_name_says_is_not_encrypted_once_more(
    content: str, path: str, found: str, named: str
) -> None:
    called = {"binary": "one piece of data (binary)"}
    found_called, named_called = called.get(found, found), called.get(named, named)
    fault = _fault(content, path)
    assert fault is not None
    assert f"SOPS has encrypted it as {found_called}, and its name says {named_called}" in fault
    assert f"(sops decrypt --input-type {found} " in fault
    assert f"| sops encrypt --input-type {named} --output-type {named} " in fault
    assert f"--filename-override {path} > new" in fault
    assert "encrypt -i" not in fault


def test_a_file_without_its_metadata_is_put_back_and_not_encrypted_once_more() -> None:
    for content in ("A=ENC[AES256_GCM,data:x]\n", "A=ENC[x]\nsops_version=3\n"):
        fault = _fault(content, ENV)
        assert fault is not None
        assert "the end of the file is cut off or damaged" in fault
        assert "do not encrypt it again" in fault
    assert "sops encrypt -i" in (_fault("A=hunter2\n", ENV) or "")
    assert "hunter2" not in (_fault("A=hunter2\n", ENV) or "")


def test_lines_that_git_gave_a_carriage_return_are_said_as_such() -> None:
    """SOPS would only say that a date cannot be read."""
    fault = _fault(DOTENV.replace("\n", "\r\n"), ENV)
    assert fault is not None
    assert "the lines end with CR LF" in fault
    assert "sed -i 's/\\r$//'" in fault


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("encrypted_regex=^data$", "its rule, encrypted_regex '^data$', leaves"),
        ("encrypted_suffix=_s", "its rule, encrypted_suffix '_s', leaves"),
        ("unencrypted_regex=.", "its rule, unencrypted_regex '.', leaves"),
        ("encrypted_regex=(a+)+$", "its rule, encrypted_regex '(a+)+$', leaves"),
        ("encrypted_comment_regex=secret", "its rule, encrypted_comment_regex 'secret', leaves"),
    ],
)  # fmt: skip
def test_a_file_in_which_nothing_is_encrypted_is_in_the_clear(rule: str, said: str) -> None:
    fault = _fault(f"PASSWORD=hunter2\nNOTE='x\nsops_mac=ENC[m]\nsops_{rule}\n", ENV)
    assert fault is not None
    assert "nothing in the file is encrypted" in fault
    assert said in fault
    assert f"take {rule.partition('=')[0]} out of the rule for it in .sops.yaml" in fault
    assert "hunter2" not in fault
    own = {"mac": "m", **dict([rule.split("=")])}
    nested = json.dumps({"PASSWORD": "hunter2", "sops": own})
    assert said in (_fault(nested, YAML) or "")


def test_values_that_are_all_called_unencrypted_are_meant_to_be_read() -> None:
    text = "A_unencrypted=x\nB=\nTOKEN_unencrypted=y\nsops_mac=m\n"
    assert _fault(text, ENV) is None
    file = metadata.read(text.encode(), ENV)
    assert file is not None
    assert (file.plain, file.unprotected) == ((), None)


@pytest.mark.parametrize(
    ("rule", "text", "names", "expected"),
    [
        ("unencrypted_suffix", "_x", ("a_x", "b"), False),
        ("unencrypted_suffix", "_x", ("a", "x"), True),
        ("encrypted_suffix", "_x", ("a_x", "b"), True),
        ("encrypted_suffix", "_x", ("b",), False),
        ("encrypted_regex", "^(data|stringData)$", ("stringData", "k"), True),
        ("encrypted_regex", "^(data|stringData)$", ("PASSWORD",), False),
        ("encrypted_regex", "(?i)pass", ("DB_PASSWORD",), True),
        ("unencrypted_regex", r"^[a-z]+\.d$", ("abc.d",), False),
        # Which Go reads in another way, or Python could take for ever to match.
        ("encrypted_regex", "[[:alpha:]]", ("a",), None),
        ("encrypted_regex", r"\Qa\E", ("a",), None),
        ("encrypted_regex", r"(a)\1", ("aa",), None),
        ("encrypted_regex", "(?=a)", ("a",), None),
        ("encrypted_regex", "a{2}", ("aa",), None),
        ("encrypted_regex", "(", ("a",), None),
        ("encrypted_regex", "(a+)+$", ("a" * 60 + "b",), None),
        ("encrypted_regex", "a*a*a*a*b", ("a" * 60,), None),
        ("encrypted_regex", "b$", ("a" * 100,), None),
        ("encrypted_regex", "a*a*a*b", ("a" * 80,), False),
    ],
)
def test_a_rule_is_applied_as_sops_does_or_not_at_all(
    rule: str, text: str, names: tuple[str, ...], expected: bool | None
) -> None:
    assert scope.of({rule: text}).encrypts(names, None) is expected


def test_comments_decide_for_the_value_behind_them() -> None:
    lines = ["# open", "A=x", "B=y", "#open", "#more", "C=z", "", "D=ENC[x]", "sops_mac=m"]
    rules = {
        "unencrypted_comment_regex": ["B"],
        "encrypted_comment_regex": ["A", "C"],
    }
    for rule, expected in rules.items():
        text = "\n".join([*lines, f"sops_{rule}=open"])
        file = metadata.read(text.encode(), ENV)
        assert file is not None
        assert [name for name, _ in file.plain] == expected
    nested = "# open\na: x\nb: ENC[y]\nsops: {mac: m, unencrypted_comment_regex: %s}\n"
    for pattern, told in (("open", ()), ("never", (("a", 2),))):
        file = metadata.read((nested % pattern).encode(), YAML)
        assert file is not None
        assert file.plain == told


def test_what_looks_secret_and_is_left_in_the_clear_by_rule_is_known() -> None:
    text = "TOKEN=hunter2\nHOST=x\nPASSWORD=ENC[x]\nsops_mac=m\nsops_encrypted_regex=PASS\n"
    file = metadata.read(text.encode(), ENV)
    assert file is not None
    assert (file.plain, file.exposed, file.unprotected) == ((), (("TOKEN", 1),), None)

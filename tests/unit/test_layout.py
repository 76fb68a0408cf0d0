from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.errors import PermanentError
from agent.domain.repository import env_files, layout
from agent.domain.repository.desired import DesiredState, Stack
from agent.domain.repository.tree import Tree, TreeEntry
from tests.unit.builders import revision, tree

COMPOSE = "services:\n  web:\n    image: a:1@sha256:0\n"
SEALED = "PASSWORD=ENC[AES256_GCM,data:x,type:str]\nsops_mac=ENC[x]\nsops_version=3.11.0\n"
LIST = "host/media/stacks.yaml"
GOOD: Mapping[str, str | bytes] = {
    "README.md": "x",
    "global/a.env": "TZ=UTC\n",
    "global/z.secret.env": SEALED,
    LIST: "- web\n- db\n",
    "host/media/site.env": "IP=10.0.0.1\n",
    "host/media/tls.secret.env": SEALED,
    "host/other/stacks.yaml": "- web\n",
    "host/other/site.env": "IP=10.0.0.2\n",
    "stacks/db/docker-compose.yml": COMPOSE,
    "stacks/web/compose.yaml": COMPOSE,
    "stacks/web/.env": "A=1\n",
    "stacks/web/b.env": "A=2\n",
    "stacks/web/a.secret.env": SEALED,
    "stacks/web/conf/nginx.conf": "x",
    "stacks/web/conf/more.env": "COMPOSE_FILE=not read\n",
    "stacks/unused/compose.yaml": COMPOSE,
}


def read(
    files: Mapping[str, str | bytes], modes: Mapping[str, str] | None = None, host: str = "media"
) -> DesiredState:
    """Read as the agent does: only the wanted files are at hand."""
    entries = tree(files, modes)
    raw = {path: c.encode() if isinstance(c, str) else c for path, c in files.items()}
    contents = {path: raw[path] for path in layout.wanted(entries, host)}
    return layout.read(entries, contents, revision(), host)


def with_file(path: str, content: str | bytes | None) -> dict[str, str | bytes]:
    files = {p: c for p, c in GOOD.items() if p != path}
    return files if content is None else {**files, path: content}


def one(name: str, files: Mapping[str, str | bytes] = GOOD) -> Stack:
    return next(stack for stack in read(files).stacks if stack.name == name)


def test_a_good_repository_is_read_without_complaint() -> None:
    state = read(GOOD)
    assert [stack.name for stack in state.stacks] == ["db", "web"]
    assert (state.broken, state.list_faults) == ({}, ())
    assert state.names == {"db", "web"}
    assert one("db").compose == "stacks/db/docker-compose.yml"


def test_values_get_stronger_from_everywhere_to_the_stack() -> None:
    assert [(file.path, file.secret) for file in one("web").environment] == [
        ("global/a.env", False),
        ("global/z.secret.env", True),
        ("host/media/site.env", False),
        ("host/media/tls.secret.env", True),
        ("stacks/web/.env", False),
        ("stacks/web/b.env", False),
        ("stacks/web/a.secret.env", True),
    ]


@pytest.mark.parametrize("name", layout.COMPOSE_NAMES)
def test_each_name_of_a_compose_file_is_known(name: str) -> None:
    files = {LIST: "[web]", f"stacks/web/{name}": COMPOSE}
    assert one("web", files).compose == f"stacks/web/{name}"


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("- web\n- db\n", {"web", "db"}),
        ("stacks:\n- web\n", {"web"}),
        ("stacks: []", set()),
        ("[]", set()),
        ("# nothing yet\n[]\n", set()),
        ("\ufeff- web\n", {"web"}),
        ("['web']", {"web"}),
    ],
)
def test_both_forms_of_the_list_are_read(content: str, names: set[str]) -> None:
    state = read(with_file(LIST, content))
    assert state.names == names
    assert state.list_faults == ()


def bomb() -> str:
    lines = ["a: &a0 [x,x,x,x,x,x,x,x,x]"]
    lines += [f"b{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("content", "where", "message", "hint"),
    [
        (None, LIST, "the list of stacks is missing", "an empty list is []"),
        ("", f"{LIST}:1", "is empty", "write []"),
        ("# - web\n", f"{LIST}:1", "is empty", "write []"),
        ("stacks:\n", f"{LIST}:1", "is empty", "write []"),
        ("- web\n- [", f"{LIST}:2", "not valid YAML", "indentation"),
        ("web", f"{LIST}:1", "expected a list", "- name"),
        ("8080", f"{LIST}:1", "expected a list", "- name"),
        ("web: true\ndb: true", f"{LIST}:1", "expected a list", "- name"),
        ("stacks: web", f"{LIST}:1", "expected a list", "- name"),
        ("\nstacks: {web: 1}", f"{LIST}:2", "expected a list", "- name"),
        ("stacks: [web]\nother: 1", f"{LIST}:1", "expected a list", "- name"),
        ("stacks: [web]\nstacks: []", f"{LIST}:2", "second time", "keep one"),
        ("stacks:\n\t- web", f"{LIST}:2", "not valid YAML", "not tabs"),
        ("- web\n---\n- db", f"{LIST}:2", "second document", "remove the line"),
        (bomb(), f"{LIST}:6", "unfold to more than", "write the values out"),
        (b"- web\n- \xff", f"{LIST}:2", "not UTF-8", "save it as UTF-8"),
        (b"x" * 50_000_000, LIST, "50,000,000 bytes", "keep data out"),
        ("- x\n" * 120_000, f"{LIST}:100000", "more than 100,000", None),
    ],
)
def test_an_unreadable_list_is_an_error_and_not_an_empty_list(
    content: str | bytes | None, where: str, message: str, hint: str | None
) -> None:
    with pytest.raises(PermanentError) as caught:
        read(with_file(LIST, content))
    assert caught.value.where == where
    assert message in caught.value.message
    assert (hint or "") in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("host", "hint"),
    [
        ("medai", "did you mean 'media'?"),
        ("Media", "did you mean 'media'?"),
        ("zzz", "add host/zzz/stacks.yaml"),
    ],
)
def test_a_host_that_the_repository_does_not_know_is_told_the_nearest(host: str, hint: str) -> None:
    with pytest.raises(PermanentError, match=f"no host '{host}'") as caught:
        read(GOOD, host=host)
    assert (caught.value.where, caught.value.hint) == (f"host/{host}", hint)


@pytest.mark.parametrize(
    ("entry", "message", "hint"),
    [
        ("../x", "'../x' cannot be the name", "lower-case"),
        ("-f", "'-f' cannot be the name", "lower-case"),
        ("WEB", "'WEB' cannot be the name", "lower-case"),
        ("we b", "'we b' cannot be the name", "lower-case"),
        ("_x", "'_x' cannot be the name", "lower-case"),
        ('"web\\n"', "cannot be the name", "lower-case"),
        ("8080", "'8080' cannot be the name", "a number: put it in quotes"),
        ("no", "'no' cannot be the name", "true or false: put it in quotes"),
        ("0x1  # one", "'0x1' cannot be the name", "a number: put it in quotes"),
        ("1.20", "'1.20' cannot be the name", "lower-case"),
        ("[off, 'x']", "'[off, 'x']' cannot be the name", "lower-case"),
        ("~", "'~' cannot be the name", "lower-case"),
        ("2001-01-01", "'2001-01-01' cannot be", "a date: put it in quotes"),
        ("{web: 1}", "cannot be the name", "lower-case"),
        ("web", "'web' is listed twice", "keep one"),
        ("wbe", "'wbe' has no directory stacks/wbe", "did you mean 'web'?"),
        ("zzz", "'zzz' has no directory stacks/zzz", "add it, or take"),
    ],
)
def test_one_wrong_entry_puts_the_list_in_doubt_and_others_still_run(
    entry: str, message: str, hint: str
) -> None:
    state = read(with_file(LIST, f"- web\n- {entry}\n- db\n"))
    assert [stack.name for stack in state.stacks] == ["db", "web"]
    assert len(state.list_faults) == 1
    fault = state.list_faults[0]
    assert message in fault.message
    assert fault.where == f"{LIST}:2"
    assert hint in (fault.hint or "")


def test_a_quoted_number_is_a_name() -> None:
    files = {**with_file(LIST, "- '8080'\n"), "stacks/8080/compose.yaml": COMPOSE}
    assert read(files).names == {"8080"}


WEB = "stacks/web/compose.yaml"


@pytest.mark.parametrize(
    ("path", "content", "where", "message", "hint"),
    [
        (WEB, None, "stacks/web", "no Compose file", "add stacks/web/compose.yaml"),
        ("stacks/web/compose.yml", COMPOSE, "stacks/web", "2 Compose files: ", "keep one"),
        (WEB, "", f"{WEB}:1", "declares no services", "add services:"),
        (WEB, "services:\n", f"{WEB}:1", "declares no services", "services: {} to run nothing"),
        (WEB, "- web", f"{WEB}:1", "declares no services", "add services:"),
        (WEB, "x: 1\nservices: [a]", f"{WEB}:2", "must be a mapping", ""),
        (WEB, "services:\n  a:\n\timage: b", f"{WEB}:3", "not valid YAML", "not tabs"),
        (WEB, "services:\n  a: {}\n  a: {}", f"{WEB}:3", "a second time", "keep one"),
        (WEB, bomb(), f"{WEB}:6", "unfold to more than", "write"),
        (WEB, "[" * 10_000, f"{WEB}:1", "nested more than", "flatten"),
        (WEB, b"x" * 50_000_000, WEB, "50,000,000 bytes", "keep data out"),
        (WEB, b"\xff", f"{WEB}:1", "not UTF-8", "save it"),
        ("stacks/web/x.env", "A=1\nCOMPOSE_FILE=x", "stacks/web/x.env:2", "COMPOSE_FILE", "take"),
        ("stacks/web/.env", "COMPOSE_PROFILES=x", "stacks/web/.env:1", "COMPOSE_PROF", "take"),
        ("stacks/web/.env", "A=1\nPWD=/x", "stacks/web/.env:2", "Compose sets PWD itself", "take"),
        ("stacks/web/x.env", 'A="1" COMPOSE_FILE=x', "stacks/web/x.env:1", "COMPOSE_", "take"),
        ("stacks/web/x.env", "\ufeffCOMPOSE_FILE=x", "stacks/web/x.env:1", "COMPOSE_", "take"),
        ("stacks/web/x.env", b"\xff", "stacks/web/x.env", "not UTF-8", "save it"),
        ("stacks/web/x.env", b"x" * 2_000_000, "stacks/web/x.env", "2,000,000 bytes", "keep"),
        ("stacks/web/x.secret.env", "P=1", "stacks/web/x.secret.env", "not encrypted", "sops"),
        ("stacks/web/x.secret.env", "", "stacks/web/x.secret.env", "not encrypted", "sops"),
        (
            "stacks/web/x.secret.env", '{"data": "ENC[x]", "sops": {"mac": "m"}}',
            "stacks/web/x.secret.env", "its name says dotenv", "sops decrypt --input-type binary",
        ),
        (
            "stacks/web/x.secret.env", "A=x\nsops_mac=m\nsops_encrypted_regex=^data$",
            "stacks/web/x.secret.env", "nothing in the file is encrypted", "take encrypted_regex",
        ),
        (
            "stacks/web/x.secret.env", f"PWD=ENC[x]\n{SEALED}",
            "stacks/web/x.secret.env:1", "Compose sets PWD itself", "take",
        ),
    ],
)  # fmt: skip
def test_a_broken_stack_breaks_alone(
    path: str, content: str | bytes | None, where: str, message: str, hint: str
) -> None:
    state = read(with_file(path, content))
    assert [stack.name for stack in state.stacks] == ["db"]
    assert state.names == {"db", "web"}
    assert state.list_faults == ()
    fault = state.broken["web"]
    assert fault.where == where
    assert message in fault.message
    assert hint in (fault.hint or "")
    assert len(str(fault)) < 500


def test_an_encrypted_file_is_read_a_line_at_a_time_as_sops_does() -> None:
    """A quote that is open in a value does not hide what stands behind it."""
    content = f'NOTE_unencrypted="open\n{SEALED}'
    assert read(with_file("stacks/web/x.secret.env", content)).broken == {}


@pytest.mark.parametrize("place", ["global", "host/media"])
def test_a_broken_shared_file_breaks_every_stack_and_names_itself(place: str) -> None:
    state = read({**GOOD, f"{place}/x.env": "COMPOSE_FILE=x"})
    assert state.stacks == ()
    assert {fault.where for fault in state.broken.values()} == {f"{place}/x.env:1"}
    assert state.names == {"db", "web"}


def test_another_hosts_broken_file_is_not_our_business() -> None:
    files = {**GOOD, "host/other/x.env": "COMPOSE_FILE=x", "stacks/unused/x.env": "COMPOSE_FILE=x"}
    assert read(files).broken == {}


@pytest.mark.parametrize("path", [WEB, "stacks/web/b.env", "stacks/web/a.secret.env"])
def test_a_link_in_place_of_a_file_that_decides_is_refused(path: str) -> None:
    state = read({**GOOD, path: "conf/more.env"}, {path: "120000"})
    assert "not a regular file" in state.broken["web"].message
    assert state.broken["web"].where == path


def test_a_compose_file_may_consist_of_includes() -> None:
    files = {**with_file(WEB, "include: [a.yaml]"), "stacks/web/a.yaml": COMPOSE}
    assert read(files).broken == {}


def test_only_what_this_host_needs_is_read() -> None:
    entries = dict(tree(GOOD))
    entries["stacks/web/big.env"] = TreeEntry("stacks/web/big.env", "100644", "0", 10**8)
    unread = {
        "README.md", "host/other/stacks.yaml", "host/other/site.env",
        "stacks/web/conf/nginx.conf", "stacks/web/conf/more.env",
    }  # fmt: skip
    assert set(layout.wanted(entries, "media")) == GOOD.keys() - unread


@pytest.mark.parametrize(
    ("secret", "plain"),
    [
        ("stacks/web/a.secret.env", "stacks/web/.decrypted.a.secret.env"),
        ("global/z.secret.env", "global/.decrypted.z.secret.env"),
        ("z.secret.key", ".decrypted.z.secret.key"),
    ],
)
def test_plaintext_goes_beside_the_secret_out_of_gits_sight(secret: str, plain: str) -> None:
    assert layout.plaintext_path(secret) == plain
    assert not env_files.is_env(plain)


WEB_INPUTS = {path for path in GOOD if path.startswith(("global/", "stacks/web/"))} | {
    "host/media/site.env",
    "host/media/tls.secret.env",
}


@pytest.mark.parametrize("path", sorted({*GOOD, "stacks/web/new", "stacks/web2/new", "new"}))
def test_a_stack_changes_if_and_only_if_one_of_its_inputs_does(path: str) -> None:
    before, content = one("web"), GOOD.get(path, "")
    raw = content if isinstance(content, str) else content.decode()
    after = one("web", {**GOOD, path: raw + "\n"})
    is_input = path in WEB_INPUTS or path == "stacks/web/new"
    assert (after.digest != before.digest) is is_input
    assert {p for p, _ in after.inputs} == WEB_INPUTS | ({path} & {"stacks/web/new"})


def test_a_mode_a_name_and_an_absence_are_changes_too() -> None:
    entries = tree(GOOD)
    executable = tree(GOOD, {"stacks/web/conf/nginx.conf": "100755"})
    renamed = {p.replace("nginx.conf", "n.conf"): c for p, c in GOOD.items()}
    digests = {
        one("web").digest,
        _digest(executable),
        one("web", renamed).digest,
        one("web", with_file("stacks/web/conf/nginx.conf", None)).digest,
    }
    assert len(digests) == 4
    assert _digest(entries) == one("web").digest


@pytest.mark.parametrize(
    ("policy", "digest"),
    [
        ("{}", "a20c88ca302e9818e6c4bb43b7ffbea7bb57ad6689491e7fa77913f8505f8e41"),
        ("{build: allow}", "6d70341df8858fab0bec5fc3cbd19665328d0711df381bd849231dbcb12b1f2d"),
        ("{pins: warn}", "cc22c1354932fe51f10c1f0fd04a2af0c1670cb5b9383aacb46e17c645f7e9e3"),
        (
            "{pins: require, build: refuse, recipients: require}",
            "63dce93f2c29e90db9f77884b16c1610ff1821c52a4ed93560f46ba327855eeb",
        ),
    ],
)
def test_an_upgrade_of_the_agent_keeps_the_digest_of_a_stack(policy: str, digest: str) -> None:
    # Another digest of unchanged files would have every host deploy every stack again.
    files = {
        **GOOD,
        "global/commitd.yaml": policy,
        "global/key.secret.txt": SEALED,
        "global/base.yaml": "services: {base: {image: 'b:1@sha256:0', env_file: ../global/a.env}}",
        "stacks/web/link": "conf/nginx.conf",
        "stacks/web/compose.yaml": (
            "services:\n"
            "  web:\n"
            "    image: a:1@sha256:0\n"
            "    extends: {file: ../../global/base.yaml, service: base}\n"
            "    volumes: ['./conf:/conf:ro', '../../global/.decrypted.key.secret.txt:/key:ro']\n"
            "x-commitd: {health_timeout: 1m}\n"
        ),
    }
    modes = {"stacks/web/link": "120000", "stacks/web/conf/nginx.conf": "100755"}
    state = read(files, modes)
    assert state.broken == {}
    assert next(stack.digest for stack in state.stacks if stack.name == "web") == digest


def _digest(entries: Tree) -> str:
    contents = {
        path: c.encode() if isinstance(c, str) else c
        for path, c in GOOD.items()
        if path in layout.wanted(entries, "media")
    }
    state = layout.read(entries, contents, revision(), "media")
    return next(stack.digest for stack in state.stacks if stack.name == "web")


@given(st.permutations(sorted(GOOD)))
def test_the_order_of_a_tree_does_not_matter(order: list[str]) -> None:
    assert read({path: GOOD[path] for path in order}) == read(GOOD)


@given(
    st.dictionaries(
        st.sampled_from(sorted(GOOD)),
        st.one_of(
            st.none(),
            st.binary(max_size=40),
            st.text(max_size=40),
            st.sampled_from([COMPOSE, SEALED]),
        ),
        max_size=4,
    )
)
def test_any_repository_is_read_or_refused_and_no_listed_stack_is_lost(
    changes: dict[str, str | bytes | None],
) -> None:
    files = {path: c for path, c in {**GOOD, **changes}.items() if c is not None}
    if LIST in changes:
        with suppress(PermanentError):
            read(files)
        return
    state = read(files)
    assert state.names == {"db", "web"}
    assert state.list_faults == () or any(path.startswith("stacks/") for path in changes)
    assert not {stack.name for stack in state.stacks} & set(state.broken)

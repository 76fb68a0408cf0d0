from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain import config, outside_config
from agent.domain.errors import ConfigError
from agent.domain.outside_config import Kind

PINNED = f"ghcr.io/getsops/sops:v3@sha256:{'0' * 64}"
MINIMAL = """\
remotes:
  - name: gitea
    url: https://gitea.lan/ops/homelab.git
"""
SSH = "ssh_key: /k, known_hosts: /h"
DIGEST = "a" * 64


def parse(text: str, hostname: str = "media") -> config.Config:
    return config.parse(text.encode(), "config.yaml", hostname=hostname)


def _target(text: str) -> str:
    return f"{MINIMAL}notify: [{{name: a, url_file: /x, {text}}}]"


def remote(text: str) -> config.Remote:
    return parse(f"remotes: [{{name: a, {text}}}]").remotes[0]


def test_a_host_needs_no_more_than_a_remote() -> None:
    assert parse(MINIMAL) == config.Config(
        host="media",
        branch="main",
        remotes=(config.Remote(name="gitea", url="https://gitea.lan/ops/homelab.git"),),
        history="forward-only",
        signatures=config.Signatures(require="none"),
        secrets=None,
        docker=config.Docker(socket=None),
        undeclared=config.UndeclaredRules(
            mode="remove",
            grace=config.Seconds(0),
            stop_timeout=config.Seconds(10),
            keep=config.Seconds(86400),
            per_minute=30,
        ),
        teardown_limit=config.Share(0.5),
        converge=config.Converge(parallel=4, timeout=config.Seconds(600)),
        resync=config.Seconds(300),
        state_dir=Path("/var/lib/commitd"),
        runtime_dir=Path("/run/commitd"),
    )
    assert parse(MINIMAL).remotes[0].poll == config.Seconds(10)


def test_every_documented_setting_is_read() -> None:
    read = parse(f"""\
host: media
branch: main
remotes:
  - name: gitea
    url: ssh://git@gitea.lan:2222/ops/homelab.git
    ssh_key: /etc/commitd/deploy_key
    known_hosts: /etc/commitd/known_hosts
    poll: 10s
  - name: github
    url: https://github.com/example/homelab.git
    token_file: /etc/commitd/github.token
    username: bot
    ca_file: /etc/ca.pem
    poll: 60s
history: follow
signatures: {{require: all, allowed_signers: /a, gpg_keyring: /g}}
secrets:
  age_key: credential:age.key
  store: runtime
  sops: {{image: "ghcr.io/getsops/sops:v3@sha256:{DIGEST}"}}
docker: {{socket: unix:///run/docker.sock}}
undeclared: {{mode: stop, grace: 1s, stop_timeout: 2s, keep: 2d, per_minute: 3}}
teardown_limit: 25%
converge: {{parallel: 2, timeout: 1h}}
resync: 1m
listen: "[::]:8787"
api: {{token_file: /etc/commitd/api.token, hosts: [media.lan], writers: ops}}
notify:
  - name: phone
    url_file: /etc/commitd/phone.url
    kinds: [failed, rolled-back]
    templates: {{rolled-back: "{{subject}} is back"}}
heartbeat: {{url_file: /etc/commitd/heartbeat.url}}
peers: [{{name: nas, url: "https://nas.lan/commitd/", token_file: /t, ca_file: /ca}}]
state_dir: /s
runtime_dir: /r
""")
    assert [r.scheme for r in read.remotes] == ["ssh", "https"]
    assert read.remotes[1].poll == config.Seconds(60)
    assert read.secrets
    assert read.secrets.age_key == "credential:age.key"
    assert read.secrets.store == "runtime"
    assert read.undeclared.keep == config.Seconds(2 * 86400)
    assert read.teardown_limit == config.Share(0.25)
    assert read.converge.timeout == config.Seconds(3600)
    assert read.listen == "[::]:8787"
    assert read.api == outside_config.Api(
        token_file=Path("/etc/commitd/api.token"), hosts=("media.lan",), writers="ops"
    )
    [phone] = read.notify
    assert phone.wanted == {Kind.FAILED, Kind.ROLLED_BACK}
    assert phone.templates[Kind.ROLLED_BACK] == "{subject} is back"
    assert read.heartbeat == outside_config.Heartbeat(url_file=Path("/etc/commitd/heartbeat.url"))
    nas = outside_config.Peer(
        name="nas", url="https://nas.lan/commitd/", token_file=Path("/t"), ca_file=Path("/ca")
    )
    assert read.peers == (nas,)


_LISTEN = "host: media\nlisten: 127.0.0.1:8787"


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("", 1, "holds no settings", "remotes:"),
        ("- a", 1, "holds no settings", "remotes:"),
        ("a: [", 1, "not valid YAML", "indentation"),
        ("host: a\nhost: b", 2, "second time", "keep one"),
        ("host: media", 1, "missing key `remotes`", None),
        ("remotes: []", 1, "no remote is configured", "at least one"),
        ("\nremotes:\n- name: a", 3, "missing key `url`", None),
        ("remote: []", 1, "unknown key 'remote'", "did you mean 'remotes'?"),
        (f"{MINIMAL}hots: x", 4, "unknown key 'hots'", "did you mean 'host'?"),
        (f"{MINIMAL}    pol: 5s", 4, "unknown key 'pol'", "did you mean 'poll'?"),
        (f"{MINIMAL}zzz: 1", 4, "unknown key 'zzz'", "known keys: api, branch, commit_status"),
        (f"{MINIMAL}undeclared:\n  moed: stop", 5, "unknown key 'moed'", "did you mean 'mode'?"),
        (f"{MINIMAL}secrets:\n  sops:\n    imge: x", 6, "unknown key 'imge'", "mean 'image'?"),
        (f"{MINIMAL}8: x", 4, "unknown key '8'", "known keys"),
        (f"{MINIMAL}undeclared:\n  mode: delete", 5, "undeclared.mode: Invalid enum value", None),
        (f"{MINIMAL}    poll: 10", 4, "'10' is not a duration: write 10s", None),
        (f"{MINIMAL}    poll: 1 s", 4, "'1 s' is not a duration", None),
        (f"{MINIMAL}    poll: 0s", 4, "poll must be at least 1s", None),
        (f"{MINIMAL}    poll: ~", 4, "None is not a duration", None),
        (f"{MINIMAL}resync: 0s", 4, "resync must be at least 1s", None),
        (f"{MINIMAL}teardown_limit: 0.5", 4, "'0.5' is not a share: write 50%", None),
        (f"{MINIMAL}teardown_limit: 101%", 4, "'101%' is not a share", None),
        (f"{MINIMAL}state_dir: here", 4, "'here' is not an absolute path", None),
        (f"{MINIMAL}host: 8080", 4, "host: Expected `str`, got `int`", None),
        (f"{MINIMAL}host: ../x", 4, "cannot be the name of a host", None),
        (f"{MINIMAL}branch: --upload-pack=x", 4, "cannot be the name of a branch", None),
        (f"{MINIMAL}branch: a..b", 4, "cannot be the name of a branch", None),
        (f"{MINIMAL}converge: {{parallel: 0}}", 4, "at least 1", None),
        (f"{MINIMAL}undeclared: {{per_minute: 0}}", 4, "at least 1", None),
        (f"{MINIMAL}docker: {{socket: tcp://x:1}}", 4, "not a local socket", "unix:///run"),
        (f"{MINIMAL}signatures: {{require: all}}", 4, "no key is trusted", "allowed_signers"),
        (_target("kinds: [deploy]"), 4, "there is no kind 'deploy'", "'deployed'?"),
        (_target("kinds: []"), 4, "kinds is empty", "leave it out"),
        (_target("templates: {fail: x}"), 4, "there is no kind 'fail'", "'failed'?"),
        (_target("templates: {failed: '{stack}'}"), 4, "field {stack}", "known: host"),
        (_target("templates: {failed: '{host.x}'}"), 4, "field {host.x}", "known: host"),
        (_target("templates: {failed: '{0}'}"), 4, "field {0}", "known: host"),
        (_target("templates: {failed: '{host!r}'}"), 4, "a format behind", "alone"),
        (_target("templates: {failed: '{host:>{count}}'}"), 4, "a format behind", "alone"),
        (_target("templates: {failed: '{host'}"), 4, "not whole", "meant"),
        (_target("kinds: [held], templates: {failed: x}"), 4, "is not among the kinds", None),
        (f"{MINIMAL}notify: [{{name: Phone, url_file: /x}}]", 4, "name of this target", "lower"),
        (f"{MINIMAL}notify: [{{name: a, url: /x}}]", 4, "unknown key 'url'", "url_file"),
        (f"{MINIMAL}heartbeat: {{url: /x}}", 4, "unknown key 'url'", "url_file"),
        (f"{MINIMAL}listen: localhost:1", 4, "not an address with a port", "127.0.0.1:8787"),
        (f"{MINIMAL}listen: 300.0.0.1:1", 4, "does not appear to be an IPv4", "127.0.0.1:8787"),
        (f"{MINIMAL}listen: 127.0.0.1:99999", 4, "99999 is not a port", "127.0.0.1:8787"),
        (f"{MINIMAL}listen: 0.0.0.0:8787", 4, "open to other machines and needs a token", "api."),
        (f"{MINIMAL}listen: '[2001:db8::1]:1'", 4, "other machines and needs a token", "api."),
        (f"{MINIMAL}api: {{token_file: /t}}", 4, "where nothing listens", "set listen:"),
        (f"{MINIMAL}listen: 127.0.0.1:1\napi: {{hosts: ['a:1']}}", 5, "name of a host", "alone"),
        (f"{MINIMAL}api: {{writers: 'a b'}}", 4, "cannot be the name of a group", None),
        (f"{MINIMAL}api: {{tokn_file: /t}}", 4, "unknown key 'tokn_file'", "mean 'token_file'?"),
        (f"{MINIMAL}peers: [{{name: a, url: 'http://a'}}]", 4, "nothing listens", "set listen:"),
        *(
            (f"{MINIMAL}{_LISTEN}\npeers:\n- name: {name}\n  url: {url}", line, said, hint)
            for name, url, line, said, hint in (
                ("nas/x", "http://a", 7, "name of this peer", "name of that host"),
                ("media", "http://a", 7, "name of this peer", "without this one"),
                ("nas", "nas.lan:8787", 8, "no url of http:// or https://", "http://nas.lan"),
                ("nas", "http://u:p@nas.lan", 8, "url holds a credential", "http://nas"),
                ("nas", "http://nas.lan/?x=1", 8, "more than an address", "http://nas.lan"),
                ("nas", "http://nas.lan:99999", 8, "this is no url", "http://nas.lan"),
                ("nas", "http://nas.lan\n  ca_file: /c", 9, "ca_file is for https://", None),
                ("nas", "http://nas.lan\n  tken_file: /c", 9, "'tken_file'", "'token_file'?"),
            )
        ),
        (f"{MINIMAL}secrets: {{}}", 4, "missing key `sops`", None),
        (f"{MINIMAL}secrets: {{sops: {{}}}}", 4, "either image or binary", "image: NAME:TAG@sha"),
        (f"{MINIMAL}secrets: {{sops: {{image: a, binary: /b}}}}", 4, "either image or", "image:"),
        (f"{MINIMAL}secrets: {{sops: {{image: 'a:1'}}}}", 4, "not pinned", "NAME:TAG@sha256"),
        (f"{MINIMAL}secrets: {{sops: {{binary: /b}}}}", 4, "not pinned", "add sha256:"),
        *(
            (
                f"{MINIMAL}secrets: {{sops: {{image: '{PINNED}'}}, age_key: '{key}'}}",
                4,
                "neither an absolute path nor a credential",
                "credential:age.key",
            )
            for key in ("age.key", "~/age.key", "", "credential:", "credential:../age.key")
        ),
        (f"{MINIMAL}  - {{name: gitea, url: file:///x}}", 4, "name of this remote", "different"),
        (f"{MINIMAL}  - {{name: -x, url: file:///x}}", 4, "name of this remote", "lower-case"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_the_remedy(
    text: str, line: int, message: str, hint: str | None
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert message in caught.value.message
    assert caught.value.where == f"config.yaml:{line}"
    assert (hint or "") in (caught.value.hint or "")


def test_a_hostname_that_cannot_be_a_host_is_said() -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a host"):
        parse(MINIMAL, hostname="-f")


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        (f"url: ssh://git@gitea.lan:2222/x.git, {SSH}", "ssh"),
        (f"url: 'git@gitea.lan:ops/x.git', {SSH}", "ssh"),
        (f"url: 'git@nas:/srv/git/x.git', {SSH}", "ssh"),
        ("url: https://gitea.lan/x.git", "https"),
        ("url: file:///srv/git/x.git", "file"),
        ("url: http://gitea.lan/x.git, plain_http: true", "http"),
    ],
)
def test_every_promised_kind_of_url_is_taken(text: str, scheme: str) -> None:
    assert remote(text).scheme == scheme


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("url: http://gitea.lan/x.git", "plain http"),
        ("url: 'https://bob:hunter2@gitea.lan/x.git'", "holds a credential"),
        ("url: 'https://hunter2@gitea.lan/x.git'", "holds a credential"),
        (f"url: 'ssh://git:hunter2@gitea.lan/x.git', {SSH}", "holds a credential"),
        ("url: ssh://git@gitea.lan/x.git", "needs ssh_key and known_hosts"),
        ("url: 'git@gitea.lan:x.git', ssh_key: /k", "needs ssh_key and known_hosts"),
        (f"url: 'git@gitea.lan:-x.git', {SSH}", "not a url"),
        (f"url: 'ssh://-oProxyCommand=x/y', {SSH}", "not a url"),
        (f"url: 'git@-oProxyCommand=x:y', {SSH}", "not a url"),
        ("url: 'ext::sh -c x'", "white space"),
        ("url: ext::x", "not a url"),
        ("url: '--upload-pack=x'", "not a url"),
        ("url: /srv/git/x.git", "not a url"),
        ("url: file:x.git", "absolute path"),
        ("url: 'https://[::1/x.git'", "not a url"),
        ("url: git://gitea.lan/x.git", "'git' is not supported"),
        ("url: ''", "not a url"),
        ("url: 'https://gitea.lan:99999/x.git'", "not a url"),
        ("url: 'https://gitea..lan/x.git'", "no name that a host can have"),
        ("url: 'https://git\ufffdea.lan/x.git'", "no name that a host can have"),
        (f"url: 'https://{'ä' * 64}.lan/x.git'", "no name that a host can have"),
    ],
)
def test_a_url_that_is_unsafe_or_unusable_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        remote(text)
    assert "hunter2" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_url_is_taken_or_refused(url: str) -> None:
    quoted = url.encode("unicode_escape").decode().replace('"', '\\"')
    with suppress(ConfigError):
        assert remote(f'url: "{quoted}", {SSH}').scheme in {"ssh", "https", "file"}


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("250ms", 0.25), ("10s", 10), ("1.5m", 90), ("24h", 86400), ("7d", 604800), ("0s", 0)],
)
def test_durations_are_read_in_their_unit(written: str, seconds: float) -> None:
    assert parse(f"{MINIMAL}undeclared: {{grace: {written}}}").undeclared.grace == seconds


def test_in_swarm_mode_plaintext_is_in_the_runtime_directory_alone() -> None:
    secrets = f"secrets: {{sops: {{binary: /s, sha256: {DIGEST}}}}}\n"
    stores = {
        mode: found.secrets.store
        for mode in ("host", "swarm")
        if (found := parse(f"{MINIMAL}{secrets}docker: {{mode: {mode}}}\n")).secrets
    }
    assert stores == {"host": "state", "swarm": "runtime"}

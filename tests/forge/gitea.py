"""A real Gitea, built from its Go module, which Go checks against its checksum database and here.

It runs inside the sandbox's world as the account `git`, for it refuses to be root, speaks HTTPS
with the certificate of the sandbox's other server, and SSH by itself.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import ssl
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError

from tests.sandbox.editions import GO, Module, go, go_source
from tests.sandbox.process import Daemon, SandboxError, listens, run, wait_until
from tests.sandbox.tools import cached, find
from tests.sandbox.world import GIT_USER

if TYPE_CHECKING:
    from tests.sandbox import Sandbox

_MODULE = Module(
    "code.gitea.io/gitea", "v1.26.0", "h1:fJP9dqLbzKrKWUVnCVTfVersZdVDuyJQLEDzCAOmKKA="
)
_TAGS = "sqlite sqlite_unlock_notify"
_CACHE = Path(__file__).resolve().parents[2] / ".sandbox/forges"
_RECIPE = f"{_MODULE} {_TAGS}"
_BUILD_SECONDS = 2 * 3600
_HTTPS_PORT, _SSH_PORT = 3000, 2224
OWNER, REPOSITORY = "ops", "homelab"


def build() -> Path:
    """A directory with the program and what it reads; the first call takes 8 minutes of CPU."""
    return cached(_CACHE, _RECIPE, _build)


def _build(scratch: Path) -> Path:
    if shutil.which("gcc") is None:
        raise SandboxError("gcc is missing, which builds SQLite for Gitea: apt-get install gcc")
    program = go(f"Gitea {_MODULE.version}")
    print(f"forge: building Gitea {_MODULE.version}, 8 minutes of CPU", file=sys.stderr, flush=True)
    source, made = go_source(_MODULE, scratch), scratch / "made"
    flags = f"-s -w -X main.Version={_MODULE.version.removeprefix('v')} -X 'main.Tags={_TAGS}'"
    words = ["-trimpath", "-tags", _TAGS, "-ldflags", flags, "-o", str(made / "gitea"), "."]
    env = {**GO, "CGO_ENABLED": "1", "GOFLAGS": f"{GO['GOFLAGS']} -p=2"}
    run(["nice", "-n", "19", program, "build", *words], env=env, cwd=source, timeout=_BUILD_SECONDS)
    for name in ("options", "public", "templates"):
        shutil.copytree(source / name, made / name)
    return made


class Gitea:
    """The server, with an owner's account and an empty repository of his."""

    def __init__(self, box: Sandbox) -> None:
        built = find(_CACHE, _RECIPE)
        if built is None:
            raise SandboxError("Gitea is not built: run make forge")
        self.root = box.root.parent / "forge"
        self.url = f"https://127.0.0.1:{_HTTPS_PORT}"
        self.ca_file = box.github.ca_file
        self._trust = ssl.create_default_context(cafile=str(self.ca_file))
        self._trust.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self._password = secrets.token_hex(16)
        self._tokens = 0
        program = self.root / "program"
        for path in (self.root, program, self.root / "home"):
            path.mkdir(mode=0o755)
        run(["mount", "--bind", "-o", "ro", built, program])  # a checkout may be closed to others
        for name in ("ca.crt", "server.crt", "server.key"):
            shutil.copy(box.github.root / name, self.root / "home" / name)
        config = self.root / "home/app.ini"
        config.write_text(self._settings(program))
        run(["chown", "-R", GIT_USER, self.root / "home"])
        user = ["setpriv", f"--reuid={GIT_USER}", "--regid=64002", "--clear-groups"]
        self._command = [*user, str(program / "gitea"), "--config", str(config)]
        self._env = {
            "HOME": str(self.root / "home"),
            "USER": GIT_USER,
            "GITEA_WORK_DIR": str(self.root / "home"),
        }
        self.daemon = Daemon(
            "gitea",
            [*self._command, "web"],
            log=self.root / "gitea.log",
            ready=lambda: listens(_HTTPS_PORT) and listens(_SSH_PORT),
            env=self._env,
        )
        self.daemon.start()
        self.admin("user", "create", "--admin", "--username", OWNER, "--password", self._password,
                   "--email", "ops@example.org", "--must-change-password=false")  # fmt: skip
        self.api("POST", "/user/repos", {"name": REPOSITORY, "default_branch": "main"})
        self.known_hosts = self.root / "known_hosts"
        self._learn_host_key()

    def admin(self, *words: str) -> str:
        """What `gitea admin` says."""
        return run([*self._command, "admin", *words], env=self._env).decode().strip()

    def api(
        self, method: str, path: str, body: Any = None, *, token: str | None = None
    ) -> tuple[int, Any]:
        """The code and the JSON of an answer, to the owner unless there is a `token`."""
        pair = base64.b64encode(f"{OWNER}:{self._password}".encode()).decode()
        request = urllib.request.Request(  # noqa: S310  the sandbox's own
            f"{self.url}/api/v1{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Content-Type": "application/json",
                "Authorization": f"token {token}" if token else f"Basic {pair}",
            },
        )
        try:
            opened = urllib.request.urlopen(  # noqa: S310
                request, context=self._trust, timeout=60
            )
            with opened as answer:
                code, text = answer.status, answer.read()
        except HTTPError as err:
            code, text = err.code, err.read()
        return code, json.loads(text) if text.strip().startswith((b"{", b"[")) else None

    def done(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of an answer, which is a good one."""
        code, answer = self.api(method, path, body)
        if code >= 300:
            raise AssertionError(f"{method} {path}: {code} {answer}")
        return answer

    def token(self, scopes: str, into: Path, user: str = OWNER) -> Path:
        """A file with a new token of the user."""
        self._tokens += 1
        text = self.admin(
            "user", "generate-access-token", "--username", user, "--token-name", f"t{self._tokens}",
            "--scopes", scopes, "--raw",
        ).splitlines()[-1]  # fmt: skip
        into.touch(mode=0o600)
        into.write_text(f"{text}\n")
        return into

    def remote(self, kind: str, place: Path, repository: str = REPOSITORY) -> dict[str, Any]:
        """An entry of `remotes:`: with a deploy key over `ssh`, or with a token over `https`."""
        path = f"{OWNER}/{repository}.git"
        if kind == "https":
            return {
                "name": "gitea", "url": f"{self.url}/{path}", "username": OWNER, "poll": "1s",
                "token_file": str(self.token("read:repository", place / "read.token")),
                "ca_file": str(self.ca_file),
            }  # fmt: skip
        key = place / "deploy_key"
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
        self.done("POST", f"/repos/{OWNER}/{repository}/keys", {
            "title": place.name, "key": key.with_suffix(".pub").read_text(), "read_only": True,
        })  # fmt: skip
        return {
            "name": "gitea", "url": f"ssh://{GIT_USER}@127.0.0.1:{_SSH_PORT}/{path}",
            "ssh_key": str(key), "known_hosts": str(self.known_hosts), "poll": "1s",
        }  # fmt: skip

    def push_url(self, user: str = OWNER, password: str | None = None) -> str:
        """Where one pushes to, with the password (or a token) of a user."""
        pair = f"{user}:{password or self._password}"
        return f"https://{pair}@127.0.0.1:{_HTTPS_PORT}/{OWNER}/{REPOSITORY}.git"

    def statuses(self, sha: str, repository: str = REPOSITORY) -> dict[str, tuple[str, str, str]]:
        """State, description and link that the forge shows of a commit, by context."""
        code, found = self.api("GET", f"/repos/{OWNER}/{repository}/commits/{sha}/status")
        shown = found["statuses"] if code == 200 else None  # 404: it is not there yet
        return {
            each["context"]: (each["status"], each["description"], each["target_url"])
            for each in shown or ()
        }

    def _learn_host_key(self) -> None:
        def learned() -> bool:
            words = ["ssh-keyscan", "-p", str(_SSH_PORT), "127.0.0.1"]
            self.known_hosts.write_bytes(run(words))
            return self.known_hosts.stat().st_size > 0

        wait_until(learned, what="Gitea's host key")

    def _settings(self, program: Path) -> str:
        home = self.root / "home"
        return f"""\
APP_NAME = forge
RUN_USER = {GIT_USER}
WORK_PATH = {home}
[server]
PROTOCOL = https
HTTP_ADDR = 127.0.0.1
HTTP_PORT = {_HTTPS_PORT}
ROOT_URL = {self.url}/
CERT_FILE = {home}/server.crt
KEY_FILE = {home}/server.key
STATIC_ROOT_PATH = {program}
APP_DATA_PATH = {home}/data
START_SSH_SERVER = true
BUILTIN_SSH_SERVER_USER = {GIT_USER}
SSH_DOMAIN = 127.0.0.1
SSH_LISTEN_HOST = 127.0.0.1
SSH_PORT = {_SSH_PORT}
OFFLINE_MODE = true
[database]
DB_TYPE = sqlite3
PATH = {home}/gitea.db
[repository]
ROOT = {home}/repositories
[security]
INSTALL_LOCK = true
SECRET_KEY = {secrets.token_hex(16)}
[service]
DISABLE_REGISTRATION = true
[webhook]
ALLOWED_HOST_LIST = loopback
[migrations]
ALLOW_LOCALNETWORKS = true
[git.config]
http.sslCAInfo = {home}/ca.crt
[actions]
ENABLED = false
[packages]
ENABLED = false
[cron.update_checker]
ENABLED = false
[log]
MODE = console
LEVEL = Info
[session]
PROVIDER = memory
"""


def push(gitea: Gitea, clone: Path, url: str | None = None) -> None:
    """Push the clone's branch, as its owner does or to this URL."""
    env = {**os.environ, "GIT_SSL_CAINFO": str(gitea.ca_file), "GIT_TERMINAL_PROMPT": "0"}
    words = ["push", "--quiet", "--force", url or gitea.push_url(), "HEAD:main"]
    run(["git", "-C", clone, *words], env=env)

"""Two real Git servers: one over SSH as a Gitea at home, one over HTTPS as the mirror outside."""

from __future__ import annotations

import os
import secrets
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from tests.sandbox.process import Daemon, SandboxError, answers_on_unix, listens, run
from tests.sandbox.proxy import Proxy
from tests.sandbox.world import GIT_USER

REPOSITORY = "homelab.git"
_SSH_PORT, _SSH_BACKEND_PORT = 2222, 2223
_HTTPS_PORT, _HTTPS_BACKEND_PORT = 8443, 8444


class GitServer(ABC):
    """One bare repository, and a server that gives it to those who have the credentials."""

    name: str
    url: str

    def __init__(self, root: Path, *, port: int, backend_port: int) -> None:
        root.mkdir()
        root.chmod(0o755)
        self.root = root
        self.path = root / REPOSITORY
        run(["git", "init", "--quiet", "--bare", "--initial-branch=main", self.path])
        run(["git", "--git-dir", self.path, "config", "receive.autogc", "false"])
        self._daemons = self._configure()
        self.proxy = Proxy(port, backend_port)

    def start(self) -> None:
        """Start the server unless it runs, and let clients through."""
        for daemon in self._daemons:
            daemon.start()
        self.proxy.mode("pass")

    def stop(self) -> None:
        """End the server; its port refuses connections."""
        self.proxy.mode("cut")
        for daemon in reversed(self._daemons):
            daemon.stop()

    @abstractmethod
    def remote_config(self, poll: str = "1s") -> dict[str, Any]:
        """This server as an entry of `remotes:` in the agent's configuration."""

    @abstractmethod
    def _configure(self) -> list[Daemon]:
        """Write credentials and settings; return the daemons in the order of their start."""


class SshGitServer(GitServer):
    """OpenSSH with `git-shell`: public keys only, a read-only account, one pinned host key."""

    name = "gitea"

    def __init__(self, root: Path) -> None:
        self.ssh_key = root / "deploy_key"
        self.known_hosts = root / "known_hosts"
        super().__init__(root, port=_SSH_PORT, backend_port=_SSH_BACKEND_PORT)
        self.url = f"ssh://{GIT_USER}@127.0.0.1:{_SSH_PORT}{self.path}"

    def remote_config(self, poll: str = "1s") -> dict[str, Any]:
        return {
            "name": self.name,
            "url": self.url,
            "ssh_key": str(self.ssh_key),
            "known_hosts": str(self.known_hosts),
            "poll": poll,
        }

    def _configure(self) -> list[Daemon]:
        host_key = self.root / "host_key"
        for path in (host_key, self.ssh_key):
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", path])
        kind, key, _ = host_key.with_suffix(".pub").read_text().split()
        self.known_hosts.write_text(f"[127.0.0.1]:{_SSH_PORT} {kind} {key}\n")
        authorized = self.root / "authorized_keys"
        authorized.write_text(f"restrict {self.ssh_key.with_suffix('.pub').read_text()}")
        # The repository is root's, as are the pushes; the account may read it all the same.
        (self.root / ".gitconfig").write_text(f"[safe]\n\tdirectory = {self.path}\n")
        config = self.root / "sshd_config"
        config.write_text(
            f"""\
ListenAddress 127.0.0.1:{_SSH_BACKEND_PORT}
HostKey {host_key}
PidFile none
AllowUsers {GIT_USER}
AuthenticationMethods publickey
AuthorizedKeysFile {authorized}
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
StrictModes yes
UsePAM no
MaxStartups 100
# The post-quantum exchange that is the default costs more CPU than the rest of a fetch.
KexAlgorithms curve25519-sha256
"""
        )
        command: list[str | Path] = ["/usr/sbin/sshd", "-f", config]
        try:  # OpenSSH 9.8 and later lock an address out that has failed often; here all have one
            run([*command, "-t", "-o", "PerSourcePenalties=no"])
            command += ["-o", "PerSourcePenalties=no"]
        except SandboxError:
            run([*command, "-t"])
        daemon = Daemon(
            "sshd",
            [*command, "-D", "-e"],
            log=self.root / "sshd.log",
            ready=lambda: listens(_SSH_BACKEND_PORT),
        )
        return [daemon]


class HttpsGitServer(GitServer):
    """nginx with `git http-backend`: a certificate of a private CA, a user name and a token."""

    name = "github"

    def __init__(self, root: Path) -> None:
        self.username = "homelab-reader"
        self.token_file = root / "token"
        self.ca_file = root / "ca.crt"
        super().__init__(root, port=_HTTPS_PORT, backend_port=_HTTPS_BACKEND_PORT)
        self.url = f"https://127.0.0.1:{_HTTPS_PORT}/{REPOSITORY}"

    def remote_config(self, poll: str = "1s") -> dict[str, Any]:
        return {
            "name": self.name,
            "url": self.url,
            "username": self.username,
            "token_file": str(self.token_file),
            "ca_file": str(self.ca_file),
            "poll": poll,
        }

    def _configure(self) -> list[Daemon]:
        token = secrets.token_urlsafe(24)
        self.token_file.touch(mode=0o600)
        self.token_file.write_text(f"{token}\n")
        users = self.root / "htpasswd"
        users.write_text(f"{self.username}:{{PLAIN}}{token}\n")
        certificate, key = self._make_certificate()
        gateway = self.root / "fcgiwrap.sock"
        backend = Path(os.fsdecode(run(["git", "--exec-path"]).strip()), "git-http-backend")
        temporary = self.root / "nginx"
        temporary.mkdir()
        config = self.root / "nginx.conf"
        config.write_text(
            f"""\
daemon off;
user root;
worker_processes 1;
pid {temporary}/pid;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {temporary}/body;
  fastcgi_temp_path {temporary}/fastcgi;
  proxy_temp_path {temporary}/proxy;
  scgi_temp_path {temporary}/scgi;
  uwsgi_temp_path {temporary}/uwsgi;
  server {{
    listen 127.0.0.1:{_HTTPS_BACKEND_PORT} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    auth_basic "{self.name}";
    auth_basic_user_file {users};
    location / {{
      fastcgi_pass unix:{gateway};
      fastcgi_param SCRIPT_FILENAME {backend};
      fastcgi_param GIT_PROJECT_ROOT {self.root};
      fastcgi_param GIT_HTTP_EXPORT_ALL "";
      fastcgi_param PATH_INFO $uri;
      fastcgi_param QUERY_STRING $query_string;
      fastcgi_param REQUEST_METHOD $request_method;
      fastcgi_param CONTENT_TYPE $content_type;
      fastcgi_param CONTENT_LENGTH $content_length;
      fastcgi_param REMOTE_USER $remote_user;
      fastcgi_param REMOTE_ADDR $remote_addr;
    }}
  }}
}}
"""
        )
        log = self.root / "nginx.log"
        return [
            Daemon(
                "fcgiwrap",
                ["fcgiwrap", "-f", "-c", "4", "-s", f"unix:{gateway}"],
                log=self.root / "fcgiwrap.log",
                ready=lambda: answers_on_unix(gateway),
                leftover=gateway,
            ),
            Daemon(
                "nginx",
                ["nginx", "-p", self.root, "-e", log, "-c", config],
                log=log,
                ready=lambda: listens(_HTTPS_BACKEND_PORT),
            ),
        ]

    def _make_certificate(self) -> tuple[Path, Path]:
        """Create the CA and, signed by it, the server's certificate; return that and its key.

        The CA is as `openssl req -x509` makes it with Debian's own settings: without key usage.
        """
        settings = self.root / "openssl.cnf"
        settings.write_text(
            """\
[req]
distinguished_name = name
prompt = no
[name]
CN = sandbox
[ca]
basicConstraints = critical, CA:TRUE
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always,issuer
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = IP:127.0.0.1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
"""
        )
        ca_key = self.root / "ca.key"
        certificate, key = self.root / "server.crt", self.root / "server.key"
        request: list[str | Path] = ["openssl", "req", "-x509", "-config", settings, "-days", "2"]
        request += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        run([*request, "-extensions", "ca", "-subj", "/CN=sandbox CA",
             "-keyout", ca_key, "-out", self.ca_file])  # fmt: skip
        run([*request, "-extensions", "server", "-subj", "/CN=127.0.0.1", "-CA", self.ca_file,
             "-CAkey", ca_key, "-keyout", key, "-out", certificate])  # fmt: skip
        return certificate, key

"""What the other system tests rely on: the sandbox is real, private, and gone when it is over."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.sandbox import EngineError, Sandbox, SandboxError, Workspace, agent
from tests.sandbox.forkserver import ROOT
from tests.sandbox.host import Host
from tests.sandbox.process import run, wait_until
from tests.sandbox.swarm import stack_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox import GitServer, Swarm

_SECRET = "DATABASE_PASSWORD=correct horse\n"


@pytest.fixture(autouse=True)
def clean_engine(box: Sandbox) -> Iterator[None]:
    yield
    box.engine.start()
    if box.swarm.active:
        box.swarm.clear()
    box.engine.remove_everything()


@pytest.fixture(scope="module")
def workspace(box: Sandbox) -> Workspace:
    work = Workspace(box)
    work.write({"README.md": "homelab\n", "noise.bin": os.urandom(300_000)})
    work.commit("first")
    work.push(force=True)
    return work


def _clone(
    server: GitServer, config: dict[str, str], target: Path, seconds: float = 60
) -> subprocess.CompletedProcess[bytes]:
    """Clone as an agent with this entry of its configuration would."""
    settings: list[str] = []
    url = config["url"]
    env = os.environ | {"GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_GLOBAL": "/dev/null"}
    if server.name == "gitea":
        env["GIT_SSH_COMMAND"] = (
            f"ssh -F none -i {config['ssh_key']} -o BatchMode=yes -o IdentitiesOnly=yes"
            f" -o UserKnownHostsFile={config['known_hosts']} -o StrictHostKeyChecking=yes"
        )
    else:
        token = Path(config["token_file"]).read_text().strip()
        settings = ["-c", f"http.sslCAInfo={config['ca_file']}"]
        url = url.replace("https://", f"https://{config['username']}:{token}@")
    return subprocess.run(
        ["git", *settings, "clone", "--quiet", url, str(target)],
        env=env,
        timeout=seconds,
        capture_output=True,
        check=False,
    )


def _servers(box: Sandbox) -> tuple[GitServer, GitServer]:
    return box.gitea, box.github


# --- the world ------------------------------------------------------------------------------------


def test_the_engine_answers_and_belongs_to_this_world(box: Sandbox) -> None:
    details = box.engine.api("GET", "/info")
    assert details["DockerRootDir"].startswith(str(box.root))
    assert details["Swarm"]["LocalNodeState"] == "inactive"


@pytest.mark.parametrize("path", ["/run/docker.sock", "/var/run/docker.sock"])
def test_the_engine_of_the_machine_is_out_of_sight(path: str) -> None:
    assert not Path(path).exists()


def test_the_only_network_is_loopback_and_the_engine(box: Sandbox) -> None:
    names = {name for _, name in socket.if_nameindex()}
    assert "lo" in names
    assert all(name.startswith(("lo", "docker", "br-", "veth")) for name in names)
    routes = Path("/proc/net/route").read_text().splitlines()[1:]
    assert all(line.split()[1] != "00000000" for line in routes), "a default route leads outside"
    assert box.engine.pid is not None


def test_settings_of_the_caller_do_not_leak_in() -> None:
    foreign = ("DOCKER_", "COMPOSE_", "GIT_", "SSH_", "SOPS_")
    assert not [name for name in os.environ if name.startswith(foreign)]
    assert Path.home().is_relative_to(os.environ["COMMITD_SANDBOX"])


def test_a_second_sandbox_in_the_same_world_is_refused(box: Sandbox) -> None:
    assert box.root.is_dir()
    with pytest.raises(SandboxError, match="another Sandbox"):
        Sandbox()


def test_outside_of_a_world_the_sandbox_says_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMMITD_SANDBOX")
    with pytest.raises(SandboxError, match=r"python -m tests\.sandbox exec"):
        Sandbox()


_OPEN_A_SANDBOX = """
import signal
from tests.sandbox import Sandbox
with Sandbox() as box:
    image = box.images.build("sleeper", "1")
    box.engine.run("run", "--detach", "--publish", "8080:80", image)
    print(box.root.parent, flush=True)
    signal.pause()
"""


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_however_a_world_ends_nothing_of_it_stays(signal_number: int) -> None:
    # A world inside this one: killed from here, looked for from here.
    command = [sys.executable, "-m", "tests.sandbox", "exec", "--"]
    with subprocess.Popen(
        [*command, sys.executable, "-c", _OPEN_A_SANDBOX], stdout=subprocess.PIPE
    ) as outer:
        assert outer.stdout is not None
        data = Path(os.fsdecode(outer.stdout.readline().strip()))
        assert data.is_dir()
        assert _processes_of(data)
        assert _cgroups_of(data)
        outer.send_signal(signal_number)
        outer.wait(60)
    wait_until(lambda: not data.exists(), what=f"{data} to be removed")
    assert _processes_of(data) == []
    assert _cgroups_of(data) == []
    assert str(data) not in Path("/proc/self/mountinfo").read_text()


def test_the_remains_of_a_world_whose_janitor_was_killed_are_swept_by_the_next() -> None:
    data = Path(f"/var/tmp/commitd-sandbox-stale{os.getpid()}")
    data.mkdir()
    (data / "remains").touch()
    root = Path("/sys/fs/cgroup")
    hierarchy = (
        root if (root / "cgroup.procs").exists() else next(root.glob("*/cgroup.procs")).parent
    )
    (hierarchy / data.name).mkdir()
    subprocess.run([sys.executable, "-m", "tests.sandbox", "exec", "--", "true"], check=True)
    assert not data.exists()
    assert _cgroups_of(data) == []
    assert Path(os.environ["COMMITD_SANDBOX"]).exists(), "this world is held, not stale"


def _processes_of(data: Path) -> list[str]:
    marker = f"COMMITD_SANDBOX={data}".encode()
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if marker in environ.read_bytes().split(b"\0"):
                found.append(environ.parent.name)
        except OSError:  # gone while we looked
            continue
    return found


def _cgroups_of(data: Path) -> list[Path]:
    root = Path("/sys/fs/cgroup")
    return [*root.glob(data.name), *root.glob(f"*/{data.name}")]


def test_exit_codes_pass_through() -> None:
    for script, code in (("exit 7", 7), ("kill -9 $$", 128 + 9)):
        command = [sys.executable, "-m", "tests.sandbox", "exec", "--", "sh", "-c", script]
        assert subprocess.run(command, check=False).returncode == code


def test_the_shell_has_a_host_its_repository_and_the_engine() -> None:
    script = """
        commitd once
        docker ps
        sed -i s/TZ=.*/TZ=UTC/ global/common.env
        git commit --quiet --all --message change
        git push --quiet gitea main
        commitd once
        docker inspect --format '{{.Config.Env}}' web-web-1
    """
    world = [sys.executable, "-m", "tests.sandbox", "exec", "--no-machine", "--"]
    said = run([*world, sys.executable, "-m", "tests.shell", "sh", "-ec", script], cwd=ROOT)
    assert b"proxy-proxy-1" in said
    assert b"TZ=UTC" in said


# --- the agent's processes ------------------------------------------------------------------------


def test_an_agent_that_is_forked_is_as_one_that_is_started(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same words, same environment, same directory: same answers and exit codes."""
    env = {"PATH": "/usr/bin:/bin", "HOME": "/", "LC_ALL": "C.UTF-8", "PYTHONPATH": str(ROOT)}
    (tmp_path / "config.yaml").write_text("host: Ü\nhost: twice\n")

    def answers() -> list[tuple[int, str, str]]:
        results = [
            agent.run(box, words, env=env | more, cwd=tmp_path, stdin="y\n")
            for words in (["--help"], ["statsu"], ["--config", "config.yaml", "status"])
            for more in ({}, {"COLUMNS": "40"})
        ]
        return [(result.returncode, result.stdout, result.stderr) for result in results]

    assert box.forkserver is not None
    forked = answers()
    monkeypatch.setattr(box, "forkserver", None)
    assert forked == answers()
    assert {code for code, _, _ in forked} == {0, 2}


def test_a_forked_agent_takes_signals_and_is_waited_for(box: Sandbox) -> None:
    box.engine.stop()
    with Host(box).running() as first:
        first.says("waiting for the engine")
        assert first.process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            first.process.wait(timeout=0)
        first.process.kill()
        assert first.process.wait(timeout=60) == -signal.SIGKILL
        assert first.process.poll() == -signal.SIGKILL
    with Host(box).running() as second:
        second.says("waiting for the engine")
        assert second.end() == 0


# --- engine, registry, images ---------------------------------------------------------------------


def test_a_digest_is_real_and_can_be_pulled_again(box: Sandbox) -> None:
    image = box.images.build("web", "1.0", files={"/srv/page": "hello"}, command="cat /srv/page")
    assert box.engine.run("run", "--rm", image) == "hello"
    box.engine.run("image", "rm", image)
    with pytest.raises(EngineError) as refusal:
        box.engine.api("GET", f"/images/{image}/json")
    assert refusal.value.status == 404
    box.engine.pull(image)
    details = box.engine.api("GET", f"/images/{image}/json")
    # With containerd's store the tag that was asked for stays in the name.
    assert {name.replace(":1.0@", "@") for name in details["RepoDigests"]} == {
        image.replace(":1.0@", "@")
    }


def test_equal_content_has_the_equal_digest_and_other_content_another(box: Sandbox) -> None:
    first = box.images.build("same", "1", command="true")
    assert box.images.build("same", "1", command="true") == first
    other = box.images.build("same", "1", command="false")
    assert other.partition("@")[0] == first.partition("@")[0]
    assert other != first


def test_a_swarm_of_one_runs_stacks_and_leaves_nothing_behind(box: Sandbox, swarm: Swarm) -> None:
    image = box.images.build("member", "1.0")
    (file := box.root / "setting").write_text("value\n")
    both = {"image": image, "configs": ["setting"], "secrets": ["word"]}
    given = {"file": str(file)}
    stack = stack_file(
        {"near": both, "far": {**both, "networks": ["own"]}},
        networks={"own": {}},
        configs={"setting": given},
        secrets={"word": given},
    )
    swarm.deploy("web", stack)
    swarm.create("by-hand", image)
    swarm.wait_for({"web_near": 1, "web_far": 1, "by-hand": 1})
    assert swarm.names("configs") == {"web_setting"}
    before = swarm.task_ids("web")
    swarm.scale("web_near", 2)
    swarm.wait_for({"web_near": 2, "web_far": 1, "by-hand": 1})
    after = swarm.task_ids("web")
    assert before["web_near"] < after["web_near"]
    assert before["web_far"] == after["web_far"]
    swarm.leave()
    assert not box.engine.containers()
    assert box.engine.api("GET", "/info")["Swarm"]["LocalNodeState"] == "inactive"
    box.engine.remove_everything()
    assert {n["Name"] for n in box.engine.api("GET", "/networks")} == {"bridge", "host", "none"}
    swarm.init()
    swarm.deploy("web", stack)  # makes the same network again
    swarm.wait_for({"web_near": 1, "web_far": 1})


def test_without_the_registry_a_pull_fails_and_later_works(box: Sandbox) -> None:
    image = box.images.build("late", "1", command="echo here")
    box.registry.stop()
    with pytest.raises(SandboxError, match="refused"):
        box.engine.run("pull", image)
    box.registry.start()
    assert box.engine.run("run", "--rm", image) == "here\n"


def test_a_healthcheck_is_reported(box: Sandbox) -> None:
    image = box.images.build("healthy", "1", healthcheck="test -e /tmp")
    identifier = box.engine.run("run", "--detach", image).strip()
    wait_until(
        lambda: box.engine.inspect(identifier)["State"]["Health"]["Status"] == "healthy",
        what="a healthy container",
    )


def test_a_published_port_serves_inside_the_world(box: Sandbox) -> None:
    image = box.images.build("page", "1", files={"/srv/page": "hi"}, command="httpd -f -h /srv")
    box.engine.run("run", "--detach", "--publish", "8081:80", image)

    def greets() -> bool:
        try:
            with urllib.request.urlopen("http://127.0.0.1:8081/page", timeout=5) as answer:
                return bool(answer.read() == b"hi")
        except OSError:
            return False

    wait_until(greets, what="the published port")


def test_the_engine_comes_back_after_stop_kill_and_freeze(box: Sandbox) -> None:
    image = box.images.build("stays", "1")
    box.engine.run("run", "--detach", "--restart=always", "--name", "stays", image)
    for end in (box.engine.stop, box.engine.kill):
        end()
        assert box.engine.pid is None
        with pytest.raises(OSError, match=r"refused|No such file"):
            box.engine.containers()
        box.engine.start()
        wait_until(lambda: box.engine.inspect("stays")["State"]["Running"], what="a restart")
    box.engine.freeze()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(0.3)
        client.connect(str(box.engine.socket))
        client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
        with pytest.raises(TimeoutError):
            client.recv(1)
        box.engine.thaw()
        client.settimeout(60)
        assert client.recv(12) == b"HTTP/1.0 200"


def test_remove_everything_leaves_only_images(box: Sandbox) -> None:
    image = box.images.build("rubbish", "1")
    box.engine.run("network", "create", "leftover")
    box.engine.run("volume", "create", "leftover")
    box.engine.run("run", "--detach", "--network=leftover", "--volume=leftover:/data", image)
    box.engine.run("create", "--volume=/anonymous", image)
    box.engine.remove_everything()
    assert box.engine.containers() == []
    assert box.engine.api("GET", "/volumes")["Volumes"] in (None, [])
    names = {network["Name"] for network in box.engine.api("GET", "/networks")}
    assert names == {"bridge", "host", "none"}
    assert box.engine.api("GET", f"/images/{image}/json")["RepoDigests"]


def test_compose_runs_a_project_on_the_engine(box: Sandbox, tmp_path: Path) -> None:
    image = box.images.build("composed", "1", healthcheck="true")
    (tmp_path / "compose.yaml").write_text(f"services: {{web: {{image: '{image}'}}}}\n")
    subprocess.run(
        [box.compose, "--project-name=demo", "up", "--detach", "--wait", "--quiet-pull"],
        cwd=tmp_path,
        env=os.environ | {"DOCKER_HOST": box.engine.host},
        check=True,
        capture_output=True,
    )
    (container,) = box.engine.containers(all=False)
    assert container["Labels"]["com.docker.compose.project"] == "demo"


# --- Git ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 1], ids=["gitea", "github"])
class TestGitServer:
    @pytest.fixture
    def server(self, box: Sandbox, index: int, workspace: Workspace) -> Iterator[GitServer]:
        assert workspace.path.is_dir()
        server = _servers(box)[index]
        yield server
        server.start()

    def test_serves_a_clone_to_the_right_credentials(
        self, server: GitServer, workspace: Workspace, tmp_path: Path
    ) -> None:
        done = _clone(server, server.remote_config(), tmp_path / "clone")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "clone/README.md").read_text() == "homelab\n"
        assert workspace.git("-C", tmp_path / "clone", "rev-parse", "HEAD") == workspace.git(
            "rev-parse", "HEAD"
        )

    def test_refuses_wrong_credentials(self, server: GitServer, tmp_path: Path) -> None:
        wrong = tmp_path / "wrong"
        if server.name == "gitea":
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", wrong], check=True)
            done = _clone(server, server.remote_config() | {"ssh_key": str(wrong)}, tmp_path / "c")
            assert b"Permission denied" in done.stderr
        else:
            wrong.write_text("no-such-token")
            config = server.remote_config() | {"token_file": str(wrong)}
            assert b"Authentication failed" in _clone(server, config, tmp_path / "c").stderr

    def test_is_not_who_a_stranger_claims_to_be(self, server: GitServer, tmp_path: Path) -> None:
        empty = tmp_path / "empty"
        if server.name == "gitea":
            empty.touch()
            config = server.remote_config() | {"known_hosts": str(empty)}
            assert b"Host key verification failed" in _clone(server, config, tmp_path / "c").stderr
        else:
            config = server.remote_config() | {"ca_file": "/etc/ssl/certs/ca-certificates.crt"}
            assert b"certificate" in _clone(server, config, tmp_path / "c").stderr

    def test_refuses_while_stopped_or_cut_and_serves_again(
        self, server: GitServer, tmp_path: Path
    ) -> None:
        for number, (off, on) in enumerate(
            [(server.stop, server.start), (lambda: server.proxy.mode("cut"), server.start)]
        ):
            off()
            refused = _clone(server, server.remote_config(), tmp_path / f"off{number}")
            assert b"refused" in refused.stderr or b"Failed to connect" in refused.stderr
            on()
            served = _clone(server, server.remote_config(), tmp_path / f"on{number}")
            assert served.returncode == 0

    def test_never_answers_in_a_black_hole(self, server: GitServer, tmp_path: Path) -> None:
        server.proxy.mode("blackhole")
        with pytest.raises(subprocess.TimeoutExpired):
            _clone(server, server.remote_config(), tmp_path / "clone", seconds=1)

    def test_is_too_slow_when_it_drips(self, server: GitServer, tmp_path: Path) -> None:
        server.proxy.mode("drip", 20_000)
        with pytest.raises(subprocess.TimeoutExpired):
            _clone(server, server.remote_config(), tmp_path / "clone", seconds=2)

    def test_breaks_off_in_the_middle_of_a_transfer(
        self, server: GitServer, tmp_path: Path
    ) -> None:
        server.proxy.mode("cut_after", 100_000)
        done = _clone(server, server.remote_config(), tmp_path / "clone")
        assert done.returncode != 0
        assert not (tmp_path / "clone").exists()


def test_a_push_needs_no_network_and_can_go_to_one_server(
    box: Sandbox, workspace: Workspace
) -> None:
    for server in _servers(box):
        server.proxy.mode("cut")
    workspace.write({"README.md": None, "hosts/attic/host.yaml": "{}\n"})
    commit = workspace.commit("move out")
    workspace.push(box.gitea)
    assert workspace.git("ls-remote", box.gitea.path, "main").startswith(commit)
    assert not workspace.git("ls-remote", box.github.path, "main").startswith(commit)
    workspace.push()
    assert workspace.git("ls-remote", box.github.path, "main").startswith(commit)
    assert workspace.git("log", "-1", "--format=%an <%ae>") == "Ada Example <ada@example.org>"
    for server in _servers(box):
        server.start()


# --- secrets --------------------------------------------------------------------------------------


def test_sops_round_trip_with_the_binary(box: Sandbox, tmp_path: Path) -> None:
    other = box.new_age_key()
    secret = tmp_path / "app.sops.env"
    secret.write_bytes(box.encrypt(_SECRET, [other.recipient]))
    assert b"correct horse" not in secret.read_bytes()
    command: list[str | Path] = [
        box.sops,
        "decrypt",
        "--input-type=dotenv",
        "--output-type=dotenv",
        secret,
    ]
    for key, readable in ((other, True), (box.age, False)):
        env = {"SOPS_AGE_KEY_FILE": str(key.private), "PATH": "", "HOME": "/nonexistent"}
        done = subprocess.run(command, env=env, capture_output=True, check=False)
        assert (done.stdout.decode() == _SECRET) is readable
    assert box.age.private.stat().st_mode & 0o777 == 0o600
    assert hashlib.sha256(box.sops.read_bytes()).hexdigest() == box.sops_sha256


@pytest.mark.parametrize(
    ("kind", "plaintext"),
    [
        ("yaml", "password: hidden\n"),
        ("json", '{\n\t"password": "hidden"\n}\n'),
        ("ini", "[db]\npassword = hidden\n"),
        ("binary", "hidden\nbytes"),
    ],
)
def test_sops_encrypts_every_kind_of_file(box: Sandbox, kind: str, plaintext: str) -> None:
    encrypted = box.encrypt(plaintext, kind=kind)  # type: ignore[arg-type]
    assert b"hidden" not in encrypted
    stored = "json" if kind == "binary" else kind
    done = subprocess.run(
        [box.sops, "decrypt", f"--input-type={stored}", f"--output-type={kind}", "/dev/stdin"],
        input=encrypted,
        env={"SOPS_AGE_KEY_FILE": str(box.age.private)},
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == plaintext


def test_sops_round_trip_with_the_image_and_the_key_on_stdin(box: Sandbox, tmp_path: Path) -> None:
    secret = tmp_path / "app.sops.env"
    secret.write_bytes(box.encrypt(_SECRET))
    script = "SOPS_AGE_KEY=$(cat) exec sops decrypt --input-type=dotenv --output-type=dotenv /in"
    command: list[str | Path] = ["docker", "--host", box.engine.host, "run", "--rm"]
    command += ["--interactive", "--network=none", "--read-only", "--log-driver=none"]
    command += ["--user=65534", f"--volume={secret}:/in:ro", "--entrypoint=/bin/sh"]
    decrypted = run([*command, box.images.sops, "-c", script], stdin=box.age.private.read_bytes())
    assert decrypted.decode() == _SECRET

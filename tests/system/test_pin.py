"""`commitd pin` in a person's clone, against real registries; what it writes is pulled."""

from __future__ import annotations

import base64
import http.client
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox import agent
from tests.sandbox.process import run
from tests.system import registries
from tests.system.registries import (
    BASIC,
    BEARER,
    IDENTITY,
    NGINX,
    OUTSIDE,
    PASSWORD,
    USER,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox import Sandbox
    from tests.system.conftest import Nginx

FILE = "stacks/web/compose.yaml"
INDEX = "application/vnd.oci.image.index.v1+json"
DIGEST = "sha256:" + "0" * 64


class Clone:
    """A directory with stacks, and a person at a shell in it."""

    def __init__(self, box: Sandbox, root: Path) -> None:
        self._box = box
        self.root = root
        self.docker = root / "docker"
        self.docker.mkdir()
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(root),
            "DOCKER_CONFIG": str(self.docker),
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }

    def write(self, text: str, path: str = FILE) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def image(self, *images: str) -> Path:
        """A Compose file with these images, the first in line 3."""
        services = "".join(f"  s{i}:\n    image: {image}\n" for i, image in enumerate(images))
        return self.write(f"services:\n{services}")

    def log_in(self, **config: Any) -> None:
        (self.docker / "config.json").write_text(json.dumps(config))

    def pin(self, *words: str, cwd: str = ".") -> subprocess.CompletedProcess[str]:
        return agent.run(
            self._box, ("pin", *words), cwd=self.root / cwd, env=self.environment, timeout_s=100
        )

    def pinned(self, *images: str) -> str:
        """Pin one file with these images, all of them; what is written for the first."""
        file = self.image(*images)
        result = self.pin()
        assert result.returncode == 0, result.stdout + result.stderr
        return file.read_text().splitlines()[2].removeprefix("    image: ")

    def refused(self, image: str, *says: str) -> str:
        """Fail to pin one image, which is left as it was; what is said."""
        file = self.image(image)
        before = file.read_bytes()
        result = self.pin()
        assert result.returncode == 1, result.stdout + result.stderr
        assert result.stdout == ""
        assert result.stderr.startswith(f"commitd: {FILE}:3: ")
        assert "Traceback" not in result.stderr
        for words in says:
            assert words in result.stderr
        assert file.read_bytes() == before
        assert PASSWORD not in result.stderr
        assert IDENTITY not in result.stderr
        return result.stderr


@pytest.fixture
def clone(box: Sandbox) -> Iterator[Clone]:
    (root := Path(tempfile.mkdtemp(prefix="clone-", dir=box.root))).joinpath("stacks").mkdir()
    box.images.build("idle", "latest")
    yield Clone(box, root)
    box.registry.start()


@pytest.fixture(scope="module")
def image(box: Sandbox) -> str:
    """`127.0.0.1:5000/idle:1.0@sha256:…`"""
    return box.images.build("idle", "1.0")


@pytest.fixture(scope="module")
def digest(image: str) -> str:
    return image.partition("@")[2]


@pytest.fixture(scope="module")
def bearer(box: Sandbox, place: Path) -> Iterator[None]:
    certificate, key = registries.certificate(place, "signer", "DNS:signer")
    server = registries.TokenServer(certificate, key)
    daemon = registries.with_tokens(place, box.root / "registry" / "data", certificate)
    daemon.start()
    yield
    daemon.stop()
    server.stop()


def stored(registry: str) -> dict[str, Any]:
    pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    return {"auths": {registry: {"auth": pair}}}


# --- what it writes ---


def test_what_is_written_is_pinned_is_pulled_and_nothing_else_is_changed(
    box: Sandbox, clone: Clone, image: str
) -> None:
    tagged, _, digest = image.partition("@")
    bare = tagged.rpartition(":")[0]
    box.images.build("idle", "latest")
    text = f"""\
# {tagged}
x-image: &shared "{tagged}"  # kept
services:
  web:   {{image: '{tagged}', labels: ["{tagged}"]}}
  app:
    image: *shared
  old:
    image: {image}
  new:
    image: {bare}
  built:
    build: .
"""
    file = clone.write(text)
    file.chmod(0o640)
    result = clone.pin(cwd="stacks/web")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        f"{FILE}:2: {tagged} → {image}",
        f"{FILE}:4: {tagged} → {image}",
        f"{FILE}:10: {bare} → {bare}:latest@{digest}",
    ]
    assert result.stderr.startswith(f"commitd: warning: {FILE}:10: {bare} names no tag")
    assert file.read_text() == (
        text.replace(f'&shared "{tagged}"', f'&shared "{image}"')
        .replace(f"'{tagged}'", f"'{image}'")
        .replace(f"image: {bare}\n", f"image: {bare}:latest@{digest}\n")
    )
    assert file.stat().st_mode & 0o7777 == 0o640
    assert list(file.parent.iterdir()) == [file]
    box.engine.pull(image)
    box.engine.pull(f"{bare}:latest@{digest}")
    again = clone.pin()
    assert (again.returncode, again.stdout) == (0, "Nothing to do: every image is pinned (4).\n")


def test_the_list_of_all_platforms_is_pinned(box: Sandbox, clone: Clone) -> None:
    one = box.images.build("many", "amd64").partition("@")[2]
    connection = http.client.HTTPConnection("127.0.0.1", 5001, timeout=10)
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    connection.request("GET", f"/v2/many/manifests/{one}", headers={"Accept": kind})
    size = len(connection.getresponse().read())
    connection.close()
    platform = {"os": "linux", "architecture": "amd64"}
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [{"mediaType": kind, "digest": one, "size": size, "platform": platform}],
    }
    whole = box.registry.push_manifest("many", "1", json.dumps(index).encode(), INDEX)
    written = clone.pinned("127.0.0.1:5000/many:1")
    assert written == f"127.0.0.1:5000/many:1@{whole}"
    assert whole != one
    if os.uname().machine == "x86_64":
        box.engine.pull(written)


def test_included_files_and_only_the_named_stacks(clone: Clone, image: str) -> None:
    tagged = image.partition("@")[0]
    clone.write("include: [../common/db.yaml, $X/y.yaml]\n")
    common = clone.write(f"services: {{db: {{image: {tagged}}}}}\n", "stacks/common/db.yaml")
    other = clone.write(
        f"services: {{a: {{image: {tagged}}}}}\n", "stacks/other/docker-compose.yml"
    )
    result = clone.pin("web")
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"stacks/common/db.yaml:1: {tagged} → {image}\n"
    assert f"{FILE}:1: $X/y.yaml is not looked at" in result.stderr
    assert image in common.read_text()
    assert image not in other.read_text()


def test_what_can_be_pinned_is_written_when_other_images_cannot(clone: Clone, image: str) -> None:
    tagged = image.partition("@")[0]
    file = clone.image(tagged, "127.0.0.1:5000/idle:9", "nginx:${TAG:-1}", f"a@{DIGEST}", "Bad")
    broken = clone.write("services: [\n", "stacks/broken/compose.yaml")
    result = clone.pin()
    assert result.returncode == 1
    assert result.stdout == f"{FILE}:3: {tagged} → {image}\n"
    assert f"{FILE}:5: 127.0.0.1:5000/idle:9: 127.0.0.1:5000 has no idle:9 (check" in result.stderr
    assert f"{FILE}:7: nginx:${{TAG:-1}} takes its value from a variable" in result.stderr
    assert f"{FILE}:9: a@{DIGEST} has a digest but no tag" in result.stderr
    assert f"{FILE}:11: 'Bad' is not the name of an image" in result.stderr
    assert "stacks/broken/compose.yaml:1: not valid YAML" in result.stderr
    assert len(result.stderr.splitlines()) == 5
    assert image in file.read_text()
    assert broken.read_text() == "services: [\n"


def test_files_that_are_links(clone: Clone, image: str, tmp_path: Path) -> None:
    tagged = image.partition("@")[0]
    inside = clone.write(f"services: {{a: {{image: {tagged}}}}}\n", "common.yaml")
    outside = tmp_path / "compose.yaml"
    outside.write_text(f"services: {{a: {{image: {tagged}}}}}\n")
    for name, target in (("in", "../../common.yaml"), ("out", str(outside))):
        (clone.root / "stacks" / name).mkdir()
        (clone.root / "stacks" / name / "compose.yaml").symlink_to(target)
    result = clone.pin()
    assert result.returncode == 1
    assert result.stdout == f"common.yaml:1: {tagged} → {image}\n"
    assert "stacks/out/compose.yaml: the link leads out of the repository" in result.stderr
    assert (clone.root / "stacks/in/compose.yaml").is_symlink()
    assert image in inside.read_text()
    assert image not in outside.read_text()


def test_a_file_that_cannot_be_written_stays(clone: Clone, image: str) -> None:
    file = clone.image(image.partition("@")[0])
    before = file.read_bytes()
    run(["mount", "--bind", file.parent, file.parent])
    run(["mount", "-o", "remount,ro,bind", file.parent])
    try:
        result = clone.pin()
    finally:
        run(["umount", file.parent])
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"commitd: {FILE}: it cannot be written: Read-only file system\n"
    assert file.read_bytes() == before


# --- before anything is asked ---


def test_check_asks_nobody(box: Sandbox, clone: Clone, image: str) -> None:
    box.registry.stop()
    file = clone.image("nginx:1.27", image, "${IMAGE}", "nginx:1.27")
    before = file.read_bytes()
    result = clone.pin("--check")
    assert result.returncode == 1
    assert result.stdout.splitlines() == [
        f"{FILE}:3: nginx:1.27 is not pinned",
        f"{FILE}:9: nginx:1.27 is not pinned",
    ]
    assert f"commitd: {FILE}:7: ${{IMAGE}} takes its value" in result.stderr
    assert file.read_bytes() == before
    clone.image(image)
    good = clone.pin("--check", "web")
    assert (good.returncode, good.stdout, good.stderr) == (0, "Every image is pinned (1).\n", "")


def test_what_is_not_there(clone: Clone, tmp_path: Path) -> None:
    clone.image("nginx")
    (clone.root / "stacks" / "empty").mkdir()
    for words, code, says in (
        (["wbe"], 2, "there is no stack 'wbe' (did you mean 'web'?)"),
        (["empty"], 1, "stacks/empty: no Compose file (add stacks/empty/compose.yaml)"),
        (["--dir", "/nowhere"], 2, "/nowhere"),
        (["--dir", str(tmp_path)], 2, "there is no directory stacks/ here or above"),
    ):
        result = clone.pin(*words)
        assert (result.returncode, result.stdout) == (code, ""), words
        assert says in result.stderr


# --- registries that are away, busy or elsewhere ---


def test_a_registry_that_is_down_keeps_no_other_from_answering(
    box: Sandbox, clone: Clone, digest: str
) -> None:
    box.registry.proxy.mode("cut")
    file = clone.image(*["127.0.0.1:5000/idle:1.0", "127.0.0.1:5001/idle:1.0"])
    result = clone.pin()
    assert result.returncode == 1
    assert f"127.0.0.1:5001/idle:1.0@{digest}" in file.read_text()
    assert result.stderr == (
        f"commitd: {FILE}:3: 127.0.0.1:5000/idle:1.0: 127.0.0.1:5000: cannot connect: "
        "Connection refused (check the name and the network)\n"
    )


def test_a_name_that_is_unknown(clone: Clone) -> None:
    clone.refused("registry.invalid/a:1", "the name registry.invalid is unknown")


@pytest.mark.usefixtures("nginx")
def test_a_registry_that_hides_the_digest_is_asked_for_the_manifest(
    clone: Clone, digest: str
) -> None:
    image = f"127.0.0.1:{NGINX}/idle:1.0"
    assert clone.pinned(image) == f"{image}@{digest}"


def test_a_busy_registry_gets_the_time_it_asks_for(
    box: Sandbox, clone: Clone, nginx: Nginx
) -> None:
    images = [f"127.0.0.1:{NGINX}/busy/idle:{tag}" for tag in ("1.0", "latest")]
    box.images.build("idle", "1.0")
    clone.pinned(*images)
    lines = [line for line in nginx.asked.read_text().splitlines() if "/busy/" in line]
    assert sorted(line.split('" ')[1][:3] for line in lines) == ["200", "200", "429"]


@pytest.mark.usefixtures("nginx")
def test_no_registry_makes_us_wait_for_an_hour(clone: Clone) -> None:
    clone.refused(f"127.0.0.1:{NGINX}/swamped/a:1", "answers 503: it is too busy")
    clone.refused(f"127.0.0.1:{NGINX}/failed/a:1", "answers 500: it has failed (try later)")


def test_redirects_are_followed_from_https_to_https_only(
    clone: Clone, nginx: Nginx, digest: str
) -> None:
    clone.environment["SSL_CERT_FILE"] = str(nginx.certificate)
    for image in (f"{OUTSIDE}/idle:1.0", f"{OUTSIDE}/moved/idle:1.0"):
        assert clone.pinned(image) == f"{image}@{digest}"
    clone.refused(f"{OUTSIDE}/plain/idle:1.0", "sends us to a place that is not https")


@pytest.mark.usefixtures("nginx")
def test_only_this_machine_is_asked_in_plain_text_and_certificates_count(clone: Clone) -> None:
    clone.refused(f"{OUTSIDE}:80/idle:1.0", "does not speak TLS")
    clone.refused(f"{OUTSIDE}/idle:1.0", "certificate is not trusted")


# --- who asks ---


@pytest.mark.parametrize("port", [BASIC, BEARER])
@pytest.mark.usefixtures("basic", "bearer")
def test_a_login_of_docker_is_used(clone: Clone, digest: str, port: int) -> None:
    registry = f"127.0.0.1:{port}"
    image = f"{registry}/idle:1.0"
    clone.refused(image, f"{registry} does not show idle to us", f"docker login {registry}")
    clone.log_in(**stored(f"http://{registry}/v2/"))
    assert clone.pinned(image, f"{registry}/idle:latest") == f"{image}@{digest}"
    wrong = base64.b64encode(f"{USER}:{PASSWORD}x".encode()).decode()
    clone.log_in(auths={registry: {"auth": wrong}})
    clone.refused(image, f"{registry} does not show idle to us")


@pytest.mark.usefixtures("bearer")
def test_an_identity_token_buys_a_token(clone: Clone, digest: str) -> None:
    registry = f"127.0.0.1:{BEARER}"
    clone.log_in(auths={registry: {"identitytoken": IDENTITY}})
    assert clone.pinned(f"{registry}/idle:1.0").endswith(digest)


@pytest.mark.usefixtures("basic")
def test_a_credential_helper_is_asked_once(clone: Clone, digest: str) -> None:
    registry = f"127.0.0.1:{BASIC}"
    programs = clone.root / "bin"
    programs.mkdir()
    helper = programs / "docker-credential-vault"
    answer = json.dumps({"ServerURL": registry, "Username": USER, "Secret": PASSWORD})
    helper.write_text(f"#!/bin/sh\n{{ cat; echo $1; }} >> {clone.root}/asked\necho '{answer}'\n")
    helper.chmod(0o755)
    clone.environment["PATH"] = f"{programs}:/usr/bin:/bin"
    for config in ({"credsStore": "vault"}, {"credHelpers": {registry: "vault"}}):
        clone.log_in(**config)
        written = clone.pinned(f"{registry}/idle:1.0", f"{registry}/idle:latest")
        assert written.endswith(digest)
        assert (clone.root / "asked").read_text() == f"{registry}get\n"
        (clone.root / "asked").unlink()
    helper.write_text("#!/bin/sh\necho credentials not found in native keychain\nexit 1\n")
    clone.refused(f"{registry}/idle:1.0", f"docker login {registry}")
    helper.write_text(f"#!/bin/sh\necho {PASSWORD} >&2\nexit 1\n")
    clone.refused(f"{registry}/idle:1.0", "docker-credential-vault does not give the login")
    helper.unlink()
    clone.refused(f"{registry}/idle:1.0", "docker-credential-vault cannot be started", "install it")


@pytest.mark.usefixtures("basic")
def test_a_broken_configuration_of_docker_is_named(clone: Clone) -> None:
    registry = f"127.0.0.1:{BASIC}"
    path = clone.docker / "config.json"
    for content in ("{", "[]", f'{{"auths": {{"{registry}": {{"auth": "%"}}}}}}'):
        path.write_text(content)
        clone.refused(f"{registry}/idle:1.0", f"{path}: Docker's configuration")

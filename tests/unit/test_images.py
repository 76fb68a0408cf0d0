"""What an image's name means, where a Compose file names one, and what a rewrite leaves alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent.control.authoring import pin
from agent.domain.errors import PermanentError
from agent.domain.repository import image_reference, image_refs_yaml
from agent.domain.repository.image_refs_yaml import ImageMention

DIGEST = "sha256:" + "0123456789abcdef" * 4
PATH = "stacks/web/compose.yaml"


# --- references ---


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("nginx", "docker.io", "library/nginx", None, None),
        ("nginx:1.27", "docker.io", "library/nginx", "1.27", None),
        ("gitea/gitea:1", "docker.io", "gitea/gitea", "1", None),
        ("docker.io/nginx:1", "docker.io", "library/nginx", "1", None),
        ("index.docker.io/library/nginx", "docker.io", "library/nginx", None, None),
        ("ghcr.io/a/b/c:v1_x-2.3", "ghcr.io", "a/b/c", "v1_x-2.3", None),
        ("localhost/x", "localhost", "x", None, None),
        ("localhost:5000/x", "localhost:5000", "x", None, None),
        ("localhost:5000", "docker.io", "library/localhost", "5000", None),
        ("127.0.0.1:5000/a__b/c-d:t", "127.0.0.1:5000", "a__b/c-d", "t", None),
        ("[::1]:5000/x:1", "[::1]:5000", "x", "1", None),
        ("Host/x:1", "Host", "x", "1", None),
        (f"nginx@{DIGEST}", "docker.io", "library/nginx", None, DIGEST),
        (f"quay.io:443/a/b:1@{DIGEST}", "quay.io:443", "a/b", "1", DIGEST),
    ],
)
def test_parse(
    text: str, registry: str, repository: str, tag: str | None, digest: str | None
) -> None:
    found = image_reference.parse(text)
    assert (found.registry, found.repository) == (registry, repository)
    assert (found.tag, found.digest) == (tag, digest)
    if digest is None:
        assert image_reference.pinned(found.at(DIGEST))
        assert found.at(DIGEST) == (text if tag else f"{text}:latest") + f"@{DIGEST}"


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "Nginx", "nginx:", "nginx:a b", "nginx@", "nginx:1@sha256:abc", "a//b", "/nginx",
        "nginx/", "a..b", "a___b", "-a", "ghcr.io/", "ghcr.io:x/a", "https://ghcr.io/a", "nginx:ä",
        f"nginx:1@{DIGEST}0", f"nginx:1@{DIGEST.upper()}", f"nginx:1@sha512:{'0' * 128}",
        f"nginx:1@{DIGEST}\n", "a" * 600, "nginx\n", "ex_ample.com/a",
    ],
)  # fmt: skip
def test_no_image(text: str) -> None:
    with pytest.raises(PermanentError) as caught:
        image_reference.parse(text)
    assert caught.value.hint
    assert not image_reference.pinned(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"nginx:1@{DIGEST}", True),
        (f"localhost:5000/nginx:1@{DIGEST}", True),
        (f"nginx@{DIGEST}", False),
        (f"localhost:5000/nginx@{DIGEST}", False),
        ("nginx:1", False),
        (f"${{R}}/nginx:1@{DIGEST}", False),
    ],
)
def test_pinned(text: str, expected: bool) -> None:
    assert image_reference.pinned(text) is expected


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("nginx", "latest"),
        ("nginx:1", "1"),
        (f"nginx:1@{DIGEST}", None),
        (f"${{REGISTRY:-docker.io}}/nginx:1@{DIGEST}", None),
    ],
)
def test_question(text: str, asked: str | None) -> None:
    found = image_reference.question(text)
    assert (found and found.asked_tag) == asked


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("nginx:${TAG:-1.27}", "from a variable, which cannot be pinned", "commitd pin"),
        ("${IMAGE}", "(env files are not searched)", "write the reference itself"),
        ("$IMAGE", "(env files are not searched)", "write the reference itself"),
        (f"${{IMAGE:-nginx:1@{DIGEST}}}", "cannot be pinned", "write the reference itself"),
        (f"nginx:$TAG@{DIGEST}", "cannot be pinned", "write the reference itself"),
        (f"nginx@{DIGEST}", "has a digest but no tag", f"nginx:TAG@{DIGEST}"),
        ("Nginx:1", "'Nginx:1' is not the name of an image", "name:tag"),
    ],
)
def test_what_only_a_person_can_pin(text: str, message: str, hint: str) -> None:
    with pytest.raises(PermanentError) as caught:
        image_reference.question(text)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


# --- where a file names them ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("services: {web: {image: nginx}}", [("nginx", 1)]),
        ("services:\n  web:\n    image: nginx:1 # why\n", [("nginx:1", 3)]),
        ("services:\n  a: {build: .}\n  b: {build: ., image: x:1}\n", [("x:1", 3)]),
        ("x-i: &i nginx:1\nservices:\n  a: {image: *i}\n  b: {image: *i}\n", [("nginx:1", 1)]),
        (
            "x-b: &b\n  image: nginx:1\nservices:\n  a:\n    <<: *b\n  b:\n    <<: [*b]\n",
            [("nginx:1", 2)],
        ),
        ("x-b: &b {image: a}\nservices: {a: {<<: *b, image: c}}\n", [("c", 2)]),
        ("services:\n  a:\n    image:\n  b:\n    image: !reset null\n  c:\n", []),
        ("x-other: {image: nginx}\nimage: nginx\nvolumes: {image: {}}\nservices:\n", []),
        ("services:\n  a:\n    environment: {image: nginx}\n    deploy: {image: x}\n", []),
        ("services:\n  web:\n    image: >-\n      nginx:1\n", [("nginx:1", 3)]),
        ("\ufeffservices: {é: {image: 'é'}}", [("é", 1)]),
    ],
)
def test_find(text: str, expected: list[tuple[str, int]]) -> None:
    found = image_refs_yaml.find(text.encode(), PATH)
    assert found == [ImageMention(image, f"{PATH}:{line}") for image, line in expected]


def test_files_that_a_file_leads_to_are_looked_at_too(tmp_path: Path) -> None:
    text = """\
include:
  - more.yaml
  - path: ../common/compose.yaml
  - path: [a.yaml, ./b/c.yaml]
  - ${WHERE}/x.yaml
  - https://example.org/x.git
  - ../../../outside.yaml
  - /etc/x.yaml
  - gone.yaml
services:
  a: {extends: {file: base.yaml, service: a}}
  b: {extends: a}
"""
    web, common = tmp_path / "stacks/web", tmp_path / "stacks/common"
    (web / "b").mkdir(parents=True)
    common.mkdir()
    (web / "compose.yaml").write_text(text)
    others = [web / "more.yaml", common / "compose.yaml", web / "a.yaml", web / "b/c.yaml"]
    others.append(web / "base.yaml")
    for file in others:
        file.write_text("services: {a: {image: nginx:1}}\n")
    found = pin.survey(tmp_path, ["web"])
    assert found.open.keys() == {file.relative_to(tmp_path).as_posix() for file in others}
    assert sorted(warning.partition(" is not looked at")[0] for warning in found.warnings) == [
        f"{PATH}:5: ${{WHERE}}/x.yaml",
        f"{PATH}:6: https://example.org/x.git",
        f"{PATH}:7: ../../../outside.yaml",
        f"{PATH}:8: /etc/x.yaml",
    ]
    (problem,) = found.problems
    assert str(problem).startswith(f"{PATH}:9: include: there is no 'gone.yaml'")


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("services: [", f"{PATH}:1", "not valid YAML"),
        ("- a", f"{PATH}:1", "this is not a Compose file"),
        ("", f"{PATH}:1", "this is not a Compose file"),
        ("a: 1\nservices: 1", f"{PATH}:2", "services: must be a mapping"),
        ("services:\n  a:\n    image: [x]", f"{PATH}:3", "image: must be text"),
        ("services:\n  a:\n    image: x\n    image: y", f"{PATH}:4", "a second time"),
    ],
)
def test_files_that_cannot_be_read(text: str, where: str, message: str) -> None:
    with pytest.raises(PermanentError) as caught:
        image_refs_yaml.find(text.encode(), PATH)
    assert caught.value.where == where
    assert message in caught.value.message


# --- the rewrite ---


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("image: nginx:1", "image: NEW"),
        ("image:   nginx:1   # nginx:1", "image:   NEW   # nginx:1"),
        ("image: 'nginx:1'", "image: 'NEW'"),
        ('"image": "nginx:1"', '"image": "NEW"'),
        ("image: &nginx nginx:1", "image: &nginx NEW"),
        ("image: !!str &x 'nginx:1'", "image: !!str &x 'NEW'"),
        ("image:\n      nginx:1\n    # nginx:1", "image:\n      NEW\n    # nginx:1"),
        ("image: >-\n      nginx:1\n    # nginx:1", "image: >-\n      NEW\n    # nginx:1"),
        ("image: |-\n      nginx:1\n", "image: |-\n      NEW\n"),
        ("image: other:1 # nginx:1", "image: other:1 # nginx:1"),
        ("image: nginx:11", "image: nginx:11"),
    ],
)
def test_rewrite_keeps_the_style(before: str, after: str) -> None:
    wanted = {"nginx:1": f"nginx:1@{DIGEST}"}
    whole = "# nginx:1\nservices:\n  nginx:\n    {}\n    labels: [nginx:1]\n"
    result = image_refs_yaml.rewrite(whole.format(before).encode(), PATH, wanted)
    assert result.decode() == whole.format(after.replace("NEW", wanted["nginx:1"]))


@pytest.mark.parametrize(
    "image", [r'"ngin\x78:1"', r'&nginx "ngin\x78:1"', '"nginx\\\n      :1"', '&x "\\u006eginx:1"']
)
def test_a_spelling_that_cannot_be_changed_is_left(image: str) -> None:
    text = f"services:\n  a: {{image: other}}\n  b:\n    image: {image}\n"
    with pytest.raises(PermanentError, match="the value is spelled") as caught:
        image_refs_yaml.rewrite(text.encode(), PATH, {"nginx:1": f"nginx:1@{DIGEST}"})
    assert caught.value.where == f"{PATH}:4"


NAMES = st.sampled_from(
    ["nginx", "nginx:1", "nginx:1.27", "ghcr.io/a/b:1", "localhost:5000/x", f"nginx:1@{DIGEST}"]
)
BLANKS = st.sampled_from(["", "\n", "  # nginx:1 é\n", "# 'image: nginx'\n", "    \n"])


@st.composite
def services(draw: st.DrawFn, number: int) -> str:
    """One service as people write them, its image spelled in one of many ways."""
    name = draw(NAMES)
    image = draw(
        st.sampled_from(
            [
                "    image: {}\n", "    image: '{}' # nginx\n", '    "image": "{}"\n',
                "    image:   {}   # nginx:1\n", f"    image: &i{number} {{}}\n",
                "    image: !!str '{}'\n", "    image:\n      {}\n", "    image: >-\n      {}\n",
                "    image: |-\n      {}\n\n", "    <<: *base\n", "    build: . # {}\n",
                "    image: *shared\n",
            ]
        )
    )  # fmt: skip
    flow = f"  s{number}: {{image: {{}}, labels: ['{{}}', nginx]}}\n"
    block = f"  s{number}:\n{draw(BLANKS)}    labels: [😀, nginx:1, 'nginx']\n{image}{draw(BLANKS)}"
    return draw(st.sampled_from([block, block, flow])).replace("{}", name)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    count = draw(st.integers(1, 5))
    text = (
        f"{draw(BLANKS)}x-nginx: &shared {draw(NAMES)}\nx-base: &base\n  image: {draw(NAMES)}\n"
        f"services:\n{''.join(draw(services(number)) for number in range(count))}"
    )
    text = text.replace("\n", draw(st.sampled_from(["\n", "\r\n"])))
    return (draw(st.sampled_from(["", "\ufeff"])) + text).encode()


def replaced(value: Any, wanted: dict[str, str]) -> Any:
    """The data of a Compose file with its images changed, by way of the parsed data alone."""
    for service in value["services"].values():
        if "image" in service:
            service["image"] = wanted.get(service["image"], service["image"])
    # What stands outside of the services may be shared with them.
    return value["services"]


@given(content=files(), chosen=st.sets(NAMES))
def test_a_rewrite_changes_the_images_and_nothing_else(content: bytes, chosen: set[str]) -> None:
    wanted = {name: f"NEW{index}" for index, name in enumerate(sorted(chosen))}
    result = image_refs_yaml.rewrite(content, PATH, wanted)
    restored = result
    for name, new in wanted.items():
        restored = restored.replace(new.encode(), name.encode())
    assert restored == content
    before, after = yaml.safe_load(content.decode("utf-8-sig")), yaml.safe_load(result)
    assert after["services"] == replaced(before, wanted)
    assert image_refs_yaml.rewrite(result, PATH, wanted) == result


@given(content=files())
def test_what_is_found_is_what_the_services_have(content: bytes) -> None:
    found = {mention.text for mention in image_refs_yaml.find(content, PATH)}
    data = yaml.safe_load(content.decode("utf-8-sig"))
    assert found == {s["image"] for s in data["services"].values() if "image" in s}

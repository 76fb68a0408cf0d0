"""What Compose is given is the model that was judged, with its mounts in the checkout."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml

from agent.domain.compose import given

ROOT, CHECKOUT = "/var/lib/commitd/export", "/var/lib/commitd/repo"


def _model(**service: Any) -> dict[str, Any]:
    return {"name": "web", "services": {"app": {"image": "x", **service}}}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            _model(volumes=[{"type": "bind", "source": f"{ROOT}/stacks/web/data", "target": "/d"}]),
            _model(
                volumes=[{"type": "bind", "source": f"{CHECKOUT}/stacks/web/data", "target": "/d"}]
            ),
        ),
        (_model(volumes=[{"source": ROOT}]), _model(volumes=[{"source": CHECKOUT}])),
        (
            {"configs": {"a": {"file": f"{ROOT}/a"}}, "secrets": {"b": {"file": f"{ROOT}/b"}}},
            {
                "configs": {"a": {"file": f"{CHECKOUT}/a"}},
                "secrets": {"b": {"file": f"{CHECKOUT}/b"}},
            },
        ),
        (
            {"volumes": {"v": {"driver_opts": {"o": "bind", "device": f"{ROOT}/v"}}}},
            {"volumes": {"v": {"driver_opts": {"o": "bind", "device": f"{CHECKOUT}/v"}}}},
        ),
        (
            _model(develop={"watch": [{"path": f"{ROOT}/stacks/web"}]}),
            _model(develop={"watch": [{"path": f"{CHECKOUT}/stacks/web"}]}),
        ),
        (
            _model(pre_start=[{"volumes": [{"source": f"{ROOT}/x"}]}]),
            _model(pre_start=[{"volumes": [{"source": f"{CHECKOUT}/x"}]}]),
        ),
    ],
)
def test_what_is_mounted_is_of_the_checkout(before: dict[str, Any], after: dict[str, Any]) -> None:
    known = copy.deepcopy(before)
    assert given.placed(before, ROOT, CHECKOUT) == after
    assert before == known
    assert given.placed(before, ROOT, ROOT) == known


@pytest.mark.parametrize(
    "model",
    [
        _model(build={"context": f"{ROOT}/stacks/web", "dockerfile": f"{ROOT}/Dockerfile"}),
        _model(volumes=[{"source": f"{ROOT}s/data"}, {"source": "/var/lib/commitd"}]),
        _model(labels={f"{ROOT}/a": f"see {ROOT}/a"}, scale=2, init=True, command=None),
    ],
)
def test_all_else_stays_as_it_was_judged(model: dict[str, Any]) -> None:
    assert given.placed(model, ROOT, CHECKOUT) == model


def test_a_secret_that_only_builds_use_is_read_where_no_container_writes() -> None:
    used = {"a": {"build": {"secrets": [{"source": "npm"}, {"source": "both"}, {"source": "run"}]}}}
    used["b"] = {"secrets": [{"source": "both"}], "pre_start": [{"secrets": [{"source": "run"}]}]}  # type: ignore[dict-item]
    model = {
        "services": used,
        "secrets": {name: {"file": f"{ROOT}/{name}"} for name in ("npm", "both", "run", "none")},
    }
    found = given.placed(model, ROOT, CHECKOUT)["secrets"]
    assert {name: secret["file"] for name, secret in found.items()} == {
        "npm": f"{ROOT}/npm",
        "both": f"{CHECKOUT}/both",
        "run": f"{CHECKOUT}/run",
        "none": f"{CHECKOUT}/none",
    }


def test_a_service_called_build_is_no_build() -> None:
    model = {"services": {"build": {"volumes": [{"source": f"{ROOT}/a"}]}}}
    found = given.placed(model, ROOT, CHECKOUT)
    assert found["services"]["build"]["volumes"] == [{"source": f"{CHECKOUT}/a"}]


def test_a_directory_may_have_a_dollar_in_its_name() -> None:
    model = _model(volumes=[{"source": "/srv/$$a/export/x"}])
    found = given.placed(model, "/srv/$a/export", "/srv/$a/repo")
    assert found["services"]["app"]["volumes"] == [{"source": "/srv/$$a/repo/x"}]


def test_only_values_have_their_dollars_doubled() -> None:
    output = json.dumps(_model(labels={"a$$b": "c$$d"}, environment={"$$": None})).encode()
    assert given.printed(output) == _model(labels={"a$b": "c$$d"}, environment={"$": None})
    assert json.loads(given.text(given.printed(output))) == given.printed(output)


def test_no_file_is_left_to_be_read() -> None:
    output = json.dumps(_model(label_file=["/x"], labels={"a": "b"})).encode()
    assert given.printed(output) == _model(labels={"a": "b"})


def test_services_that_are_off_are_there_for_those_that_would_come_after_them() -> None:
    needs = {
        "off": {"condition": "service_started", "required": False},
        "db": {"condition": "service_started", "required": True},
    }
    model = _model(depends_on=needs)
    model["services"]["db"] = {"image": "y"}
    found = json.loads(given.text(model))
    assert found["services"].pop("off")["profiles"]
    assert found == model
    gone = _model(depends_on={"lost": {"condition": "service_started", "required": True}})
    assert json.loads(given.text(gone)) == gone  # Compose says so


def test_variables_are_looked_up_where_they_are_used() -> None:
    model = {
        "services": {
            "a": {"secrets": [{"source": "s"}], "configs": [{"source": "inline"}]},
            "b": {"build": {"secrets": [{"source": "built"}]}},
        },
        "secrets": {
            "s": {"environment": "TOKEN"},
            "built": {"environment": "NPM"},
            "unused": {"environment": "X"},
            "file": {"file": "/x"},
        },
        "configs": {"inline": {"content": "x"}},
    }
    assert given.variables(model) == {
        "NPM": ("secrets", "built", "environment"),
        "TOKEN": ("secrets", "s", "environment"),
    }
    assert given.variables({}) == {}


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("seccomp:./p.json", "./p.json"),
        ("seccomp=p.json", "p.json"),
        ("seccomp:/etc/$$p.json", "/etc/$p.json"),
        ("seccomp:unconfined", None),
        ("seccomp=builtin", None),
        ("no-new-privileges:true", None),
        ("no-new-privileges", None),
        ("label=type:seccomp", None),
        ("apparmor:seccomp", None),
    ],
)
def test_seccomp_profiles_are_named_by_what_is_in_them(option: str, name: str | None) -> None:
    model = _model(security_opt=["label:x", option])
    model["services"]["app"]["pre_start"] = [{"security_opt": [option]}]
    assert given.seccomp(model) == ([name] if name else [])
    named = given.with_seccomp(model, {name: "/run/$/12.json"} if name else {})
    expected = "seccomp=/run/$$/12.json" if name else option
    hook = {"security_opt": [expected]}
    assert named == _model(security_opt=["label:x", expected], pre_start=[hook])
    assert model == _model(security_opt=["label:x", option], pre_start=[{"security_opt": [option]}])
    assert given.with_seccomp({}, {}) == {}


def test_all_that_is_mounted_of_the_host_is_known() -> None:
    model = {
        "services": {
            "a": {
                "volumes": [
                    {"type": "bind", "source": "/a$$b"},
                    {"type": "volume", "source": "v", "volume": {"subpath": "below"}},
                    {"type": "volume", "source": "r"},
                    {"type": "volume", "source": "w"},
                    {"type": "tmpfs"},
                ],
                "pre_start": [{"volumes": [{"type": "bind", "source": "/hook"}]}],
            }
        },
        "configs": {"c": {"file": "/c"}, "d": {"content": "x"}},
        "volumes": {
            "v": {"driver_opts": {"o": "ro,bind", "device": "/v"}},
            "r": {"driver_opts": {"o": "rbind", "device": "/r$$"}},
            "w": {"driver_opts": {"type": "nfs", "device": ":/w"}},
            "x": None,
        },
    }
    assert list(given.sources(model)) == [
        ("a", "/a$b"),
        ("a", "/v/below"),
        ("a", "/r$"),
        ("a: pre_start[0]", "/hook"),
        ("configs: c", "/c"),
    ]
    assert list(given.sources({})) == []


@pytest.mark.parametrize(
    "value",
    [
        "\U0001f600",
        "\U0010ffff x",
        "\\ud83d\\ude00",
        "\\\U0001f600",
        "\x7f",
        "\x01\r\t",
        "\u00e9\u2028\ufeff",
    ],
)
def test_compose_reads_as_yaml_what_is_written_as_json(value: str) -> None:
    written = given.text(_model(labels={"a": value}))
    assert yaml.safe_load(written)["services"]["app"]["labels"] == {"a": value}

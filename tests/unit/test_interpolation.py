"""Which values of Git Compose can be given, and how; the system tests ask Compose itself."""

from __future__ import annotations

from typing import Any

import pytest

from agent.domain.repository import interpolation


@pytest.mark.parametrize(
    ("key", "is_refused"),
    [
        ("COMPOSE_FILE", True),
        ("COMPOSE_PROJECT_NAME", True),
        ("PWD", True),
        ("COMPOSER", False),
        ("DOCKER_HOST", False),
        ("LD_PRELOAD", False),
        ("PATH", False),
        ("HOME", False),
        ("DB_PASSWORD", False),
    ],
)
def test_only_what_compose_sets_itself_is_refused(key: str, is_refused: bool) -> None:
    problem = interpolation.refused(key)
    assert bool(problem) is is_refused
    assert problem is None or key in problem


@pytest.mark.parametrize(
    ("name", "steers"),
    [
        ("DOCKER_HOST", True),
        ("LD_PRELOAD", True),
        ("BUILDKIT_HOST", True),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", True),
        ("https_proxy", True),
        ("GOGC", True),
        ("PATH", True),
        ("DOCKER_X Y", False),  # no variable of an env file
        ("GOOGLE_KEY", False),
        ("DB_PATH", False),
        ("DB_PASSWORD", False),
    ],
)
def test_no_secret_gets_into_an_environment_where_its_name_means_something(
    name: str, steers: bool
) -> None:
    assert interpolation.steers(name) is steers


MODEL: dict[str, Any] = {
    "services": {
        "web": {
            "environment": {"A": "1"},
            "volumes": [{"source": "/repo/stacks/web/~/data", "target": "/data"}],
        }
    }
}


def _changed(*, environment: str = "1", source: str) -> dict[str, Any]:
    service = {
        "environment": {"A": environment},
        "volumes": [{"source": source, "target": "/data"}],
    }
    return {"services": {"web": service}}


@pytest.mark.parametrize(
    ("own", "moved"),
    [
        (MODEL, []),
        (_changed(source="/root/data"), []),
        (_changed(source="/root/other"), [("services", "web", "volumes", 0, "source")]),
        (
            _changed(environment="/root", source="/root/data"),
            [("services", "web", "environment", "A")],
        ),
        ({"services": {}}, [("services", "web")]),
    ],
)
def test_a_model_is_the_same_as_long_as_only_the_home_directory_was_put_in(
    own: dict[str, Any], moved: list[interpolation.Path]
) -> None:
    assert list(interpolation.moved(MODEL, own, "/root")) == moved


@pytest.mark.parametrize("kind", ["configs", "secrets"])
def test_a_secret_from_the_environment_is_none_of_the_agents_variables(kind: str) -> None:
    """The model is the same with and without them: what counts is the environment of ``up``."""
    model = {**MODEL, kind: {"mine": {"environment": "TOKEN"}, "theirs": {"environment": "PATH"}}}
    own = {"PATH": "/bin", "HOME": "/root"}
    assert list(interpolation.used(model, model, own)) == [(kind, "theirs", "environment")]
    assert list(interpolation.used(MODEL, _changed(source="/root/other"), own)) != []

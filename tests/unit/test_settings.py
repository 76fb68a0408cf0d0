from __future__ import annotations

import pytest

from agent.domain import documents
from agent.domain.errors import PermanentError
from agent.domain.repository import stack_settings
from agent.domain.repository.stack_settings import HEALTH_TIMEOUT_S, Settings

FILE = "stacks/web/compose.yaml"
SERVICES = ("web", "worker")


def read(text: str, services: tuple[str, ...] = SERVICES) -> Settings:
    return stack_settings.read(documents.load(text.encode(), FILE), services)


@pytest.mark.parametrize(
    "text", ["services: {}", "x-commitd:", "x-commitd: {}", "x-commitd: {after: , on_change: }"]
)
def test_without_a_word_everything_has_its_default(text: str) -> None:
    found = read(text)
    assert found == Settings(after=(), health_timeout=HEALTH_TIMEOUT_S, rollback=True, on_change={})
    assert found.reload("web") == "restart"


def test_all_settings_are_read() -> None:
    found = read(
        """\
x-commitd:
  after: [traefik, db, traefik]
  health_timeout: 1.5m
  rollback: false
  on_change: {web: "signal:HUP", worker: none}
"""
    )
    reloads = {"web": "signal:HUP", "worker": "none"}
    assert found == Settings(
        after=("traefik", "db"), health_timeout=90.0, rollback=False, on_change=reloads
    )
    assert [found.reload(name) for name in ("web", "worker", "else")] == [
        "signal:HUP",
        "none",
        "restart",
    ]


@pytest.mark.parametrize("word", ["none", "null", "~", ""])
def test_none_may_be_written_as_yaml_reads_it(word: str) -> None:
    assert read(f"x-commitd: {{on_change: {{web: {word}}}}}").reload("web") == "none"


@pytest.mark.parametrize("word", ["restart", "recreate", "none", "signal:USR1", "signal:9"])
def test_every_reaction_is_known(word: str) -> None:
    assert read(f'x-commitd: {{on_change: {{web: "{word}"}}}}').reload("web") == word


def test_services_of_included_files_may_be_named() -> None:
    assert read("x-commitd: {on_change: {far: none}}", ()).reload("far") == "none"


@pytest.mark.parametrize(
    ("line", "text", "says"),
    [
        (1, "x-commitd: yes", "x-commitd must be a mapping (known keys: after, health_timeout"),
        (1, "x-commitd: [after]", "x-commitd must be a mapping"),
        (2, "x-commitd:\n  afer: [db]", "unknown key 'afer' (did you mean 'after'?)"),
        (2, "x-commitd:\n  wait: 1s", "unknown key 'wait' (there are after, health_timeout"),
        (3, "x-commitd:\n  rollback: true\n  1: 2", "unknown key '1'"),
        (2, "x-commitd:\n  health_timeout: 5", "'5' is not a duration: write 10s, 5m or 24h"),
        (2, "x-commitd:\n  health_timeout: soon", "'soon' is not a duration"),
        (2, "x-commitd:\n  health_timeout: -1s", "'-1s' is not a duration"),
        (2, "x-commitd:\n  health_timeout: [1s]", "is not a duration"),
        (2, "x-commitd:\n  rollback: 'no'", "rollback must be true or false"),
        (2, "x-commitd:\n  rollback: ~", "rollback must be true or false"),
        (2, "x-commitd:\n  after: db", "after must be a list of stacks (write after: [traefik])"),
        (2, "x-commitd:\n  after: {db: }", "after must be a list of stacks"),
        (4, "x-commitd:\n  after:\n  - db\n  - 1", "'1' cannot be the name of a stack"),
        (3, "x-commitd:\n  after:\n  - ../x", "'../x' cannot be the name of a stack"),
        (3, "x-commitd:\n  after:\n  - ''", "'' cannot be the name of a stack"),
        (3, "x-commitd:\n  after:\n  - Web", "'Web' cannot be the name of a stack"),
        (3, "x-commitd:\n  after:\n  - [db]", "'[db]' cannot be the name of a stack"),
        (2, "x-commitd:\n  on_change: restart", "on_change must map services (write on_change: {"),
        (3, "x-commitd:\n  on_change:\n    wep: none", "no service 'wep' (did you mean 'web'?)"),
        (3, "x-commitd:\n  on_change:\n    zzz: none", "'zzz' (there are web, worker)"),
        (3, "x-commitd:\n  on_change:\n    web: kill", "'kill' is no reaction (write restart, rec"),
        (3, "x-commitd:\n  on_change:\n    web: 'signal:'", "'signal:' is no reaction"),
        (3, "x-commitd:\n  on_change:\n    web: signal:hup", "'signal:hup' is no reaction"),
        (3, "x-commitd:\n  on_change:\n    web: [none]", "is no reaction"),
        (3, "x-commitd:\n  on_change:\n    web: true", "'true' is no reaction"),
        (4, "x-commitd:\n  on_change:\n    web: none\n    web: none", "web"),
    ],
)
def test_what_is_wrong_is_said_with_its_line_and_what_to_write(
    line: int, text: str, says: str
) -> None:
    with pytest.raises(PermanentError) as caught:
        read(text)
    assert str(caught.value).startswith(f"{FILE}:{line}: ")
    assert says in str(caught.value)


@pytest.mark.parametrize("value", ["0s", "0ms", "0.0m"])
def test_a_wait_of_no_time_is_refused(value: str) -> None:
    with pytest.raises(PermanentError):
        read(f"x-commitd: {{health_timeout: {value}}}")


@pytest.mark.parametrize("value", ["0", "[]", "{}", "''"])
def test_what_python_takes_for_false_is_not_taken_for_none(value: str) -> None:
    with pytest.raises(PermanentError):
        read(f"x-commitd: {{on_change: {{web: {value}}}}}")

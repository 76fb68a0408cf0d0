"""What the engine says of a start that fails, in the messages of the agent: no secret."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from agent.adapters.engine import words
from agent.adapters.engine.engine import Engine
from agent.adapters.tasks import task_group
from agent.domain.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Collection

VALUE = "lives-of-others"


async def _refused(root: Path, status: int, said: str, secrets: Collection[str] | None) -> str:
    """What comes out of a start to which an engine answers so, in a task of its own."""

    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            body = f'{{"message": "{said}"}}'
            head = f"HTTP/1.1 {status} No\r\nContent-Type: application/json\r\n"
            await stream.send(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())

    socket = root / "engine.sock"
    async with (
        await anyio.create_unix_listener(socket) as listener,
        task_group() as serving,
        Engine(f"unix://{socket}") as engine,
    ):
        serving.start_soon(listener.serve, answer)
        try:
            with words.concealed(secrets):
                async with task_group() as group:
                    group.start_soon(engine.start, "abc")
        except (PermanentError, TransientError) as err:
            return str(err)
        finally:
            serving.cancel_scope.cancel()
    raise AssertionError("it was started")


@pytest.mark.parametrize("status", [400, 404, 500])
def test_a_start_that_fails_shows_no_secret_of_its_stack(tmp_path: Path, status: int) -> None:
    said = f"No such user: unable to find user {VALUE}"
    shown = anyio.run(_refused, tmp_path, status, said, [VALUE])
    assert shown == "cannot start a container: No such user: unable to find user [redacted]"


@pytest.mark.parametrize("status", [400, 404, 500])
def test_of_a_stack_whose_secrets_are_not_known_here_no_word_is_quoted(
    tmp_path: Path, status: int
) -> None:
    shown = anyio.run(_refused, tmp_path, status, f"No such user: {VALUE}", None)
    assert shown == f"cannot start a container: {words.WITHHELD}"


def test_of_a_stack_without_secrets_all_is_said(tmp_path: Path) -> None:
    assert anyio.run(_refused, tmp_path, 400, VALUE, []) == f"cannot start a container: {VALUE}"


def test_what_the_agent_says_of_things_that_are_named_by_a_secret_does_not_show_it() -> None:
    place = "stacks/web/compose.yaml:3"
    with pytest.raises(PermanentError) as caught, words.concealed([VALUE]):
        raise PermanentError(f"no {VALUE}", where=place, hint=f"docker network create {VALUE}")
    assert str(caught.value) == f"{place}: no [redacted] (docker network create [redacted])"
    assert VALUE not in repr(caught.value)

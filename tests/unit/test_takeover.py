"""Writing a project that was taken over, when that fails in the middle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio

from agent.adapters.clone.clone import Clone
from agent.control.adopt.adopt import Draft, Taken, Takeover
from agent.control.adopt.adopted_secrets import AdoptedSecrets
from agent.domain.adopt.convert import Converted


def test_what_cannot_be_written_as_a_whole_is_not_written_at_all(tmp_path: Path) -> None:
    nothing: Any = None  # what runs has no part in it
    files = {"stacks/web/.env": b"A=1\n", "stacks/web/.env/in-the-way": b""}
    draft = Draft(Taken(name="web"), Converted(files))
    clone = Clone(tmp_path)
    takeover = Takeover(clone, "media", nothing, sealing=None)
    anyio.run(takeover._write, draft, AdoptedSecrets(clone, None, {}))
    assert "stacks/web/.env/in-the-way" in (draft.taken.refused or "")
    assert draft.taken.files == []
    assert not (tmp_path / "stacks/web").exists()

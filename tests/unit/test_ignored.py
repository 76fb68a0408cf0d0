"""What looks as if it had an effect on a stack, and has none."""

from __future__ import annotations

import pytest

from agent.domain.repository import ignored, layout
from agent.domain.repository.ignored import NAME, OVERRIDE
from tests.unit import builders
from tests.values import replace

WEB = "stacks/web/compose.yaml"
MORE = "stacks/web/compose.override.yaml"
RUNS = "services: {app: {image: x}}\n"


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({WEB: RUNS}, []),
        ({WEB: f"name: web\n{RUNS}"}, []),
        ({WEB: f"name: ${{COMPOSE_PROJECT_NAME}}\n{RUNS}"}, []),
        ({WEB: f"{RUNS}name: homelab\n"}, [(NAME, f"{WEB}:2")]),
        ({WEB: f"{RUNS}name: 7\n"}, [(NAME, f"{WEB}:2")]),
        ({WEB: RUNS, MORE: RUNS}, [(OVERRIDE, MORE)]),
        *(
            ({WEB: RUNS, f"stacks/web/{name}": RUNS}, [(OVERRIDE, f"stacks/web/{name}")])
            for name in ignored.OVERRIDES
        ),
        ({WEB: RUNS, "stacks/web/deep/compose.override.yaml": RUNS}, []),
        ({WEB: f"include: [{{path: [a.yaml, {MORE.rpartition('/')[2]}]}}]\n",
          "stacks/web/a.yaml": RUNS, MORE: RUNS}, []),
    ],
)  # fmt: skip
def test_what_compose_is_not_told_is_noted_and_the_stack_runs_on(
    files: dict[str, str], found: list[tuple[str, str]]
) -> None:
    files = {"host/media/stacks.yaml": "- web\n", **files}
    tree = builders.tree(files)
    contents = {path: text.encode() for path, text in files.items()}
    state = layout.read(tree, contents, builders.revision(), "media")
    [stack] = state.stacks
    assert [(note.rule, note.where) for note in stack.notes] == found
    assert bool(stack.called) is any(rule == NAME for rule, _ in found)


def test_data_under_the_other_name_is_named() -> None:
    stack = replace(builders.stack("web"), called="homelab")
    said = ignored.left_behind(stack, ["homelab_db", "homelab_data"])
    assert said == (
        "there are volumes of homelab, which web does not use: homelab_data, homelab_db"
    )
    assert ignored.left_behind(stack, []) is None
    assert ignored.left_behind(builders.stack("web"), ["web_data"]) is None

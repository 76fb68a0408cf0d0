"""Finding what a word means, and where the files say what runs."""

from __future__ import annotations

from agent.domain.repository.tree import Snapshot
from agent.domain.status import why
from tests.unit.builders import container, desired, release, stack, tree
from tests.values import replace

IDS = ("aaaa1", "aaaa2", "bbbb1")


def test_a_container_is_found_by_its_name_or_the_only_id_that_begins_so() -> None:
    known = [replace(container(name), id=i) for name, i in zip("abc", IDS, strict=True)]
    assert why.find("a", known) == known[0]
    assert why.find("/c", known) == known[2]
    assert why.find("bbbb", known) == known[2]
    assert why.find("aaaa", known) is None  # two of them
    assert why.find("bbb", known) is None  # as short as any word
    assert why.find("nobody", known) is None


def test_the_image_of_a_service_is_found_in_the_file_that_names_it() -> None:
    web = replace(
        stack("web"),
        compose="stacks/web/compose.yaml",
        inputs=tuple((p, "oid") for p in ("stacks/web/compose.yaml", "stacks/web/db.yml", "x.env")),
    )
    contents = {
        "stacks/web/compose.yaml": b"include: [db.yml]\nservices:\n  app:\n    image: a\n",
        "stacks/web/db.yml": b"services:\n  db:\n    init: true\n    image: b\n  app: {}\n",
    }
    assert why.places(web, Snapshot(tree(contents), contents)) == {
        "app": "stacks/web/compose.yaml:4", "db": "stacks/web/db.yml:4",
    }  # fmt: skip
    broken = contents | {"stacks/web/db.yml": b"services: ["}
    assert why.places(web, Snapshot(tree(broken), broken)) == {"app": "stacks/web/compose.yaml:4"}


def test_services_are_those_of_the_file_the_release_and_the_engine() -> None:
    app = container("web-app-1", "web", "app")
    declared = replace(stack("web"), services=frozenset({"new"}))
    found = why.services(
        "web", desired(declared), release("web"), [app, container("x", "other", "y")]
    )
    assert found == {
        "app": ("img", (app,)), "new": (None, ()), "web": ("img:1@sha256:0", ()),
    }  # fmt: skip

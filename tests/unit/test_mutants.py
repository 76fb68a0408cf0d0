"""Whoever moves a safety rule hears here that the table of `make mutants` names its old place."""

from __future__ import annotations

import re

import pytest

from tests.mutants import table
from tests.mutants.table import ROOT, Mutant

MUTANTS = table.read()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)
def test_each_rule_is_where_the_table_has_it_and_so_is_its_test(mutant: Mutant) -> None:
    text = mutant.source()
    changed = mutant.applied(text)
    assert changed != text
    compile(changed, mutant.file, "exec", dont_inherit=True)
    file, _, name = mutant.test.partition("::")
    function = name.partition("[")[0]
    assert re.search(rf"^def {function}\(", (ROOT / file).read_text(), re.MULTILINE)


def test_each_entry_has_a_name_of_its_own() -> None:
    assert len({mutant.id for mutant in MUTANTS}) == len(MUTANTS)

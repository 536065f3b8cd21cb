"""The ledger's chain."""

from __future__ import annotations

from dataclasses import replace

import pytest

from everfit.errors import LedgerTampered
from everfit.facts import FACTS, Paused
from everfit.ledger import verify
from tests.unit.builders import chained, going_live, training

ENTRIES = chained(("renew-1", training(1)), ("release-1", going_live(1)))


def test_an_untouched_chain_holds() -> None:
    verify(ENTRIES)


@pytest.mark.parametrize("place", range(len(ENTRIES)))
def test_a_changed_entry_is_found(place: int) -> None:
    changed = [replace(e, body=e.body | {"said": "another"}) if i == place else e for i, e in enumerate(ENTRIES)]
    with pytest.raises(LedgerTampered, match=f"entry {place + 1} of m"):
        verify(changed)


@pytest.mark.parametrize("place", range(len(ENTRIES) - 1))
def test_a_removed_entry_is_found(place: int) -> None:
    with pytest.raises(LedgerTampered):
        verify(ENTRIES[:place] + ENTRIES[place + 1 :])


def test_an_entry_in_between_is_found() -> None:
    (extra,) = chained(("people", [Paused("holiday")]))
    with pytest.raises(LedgerTampered):
        verify([*ENTRIES[:3], replace(extra, number=4), *ENTRIES[3:]])


def test_every_fact_has_a_name_of_its_own() -> None:
    assert len(FACTS) == len(set(FACTS.values()))

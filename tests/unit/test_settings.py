"""Settings from the environment: what is set is read with its unit, and what cannot be is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from everfit.errors import UsageError
from everfit.serve.serving import Trying
from everfit.settings import settings_for


def test_what_a_challenger_may_take_is_set_with_units() -> None:
    told = {"EVERFIT_CHALLENGER_MEMORY": "4GB", "EVERFIT_CHALLENGER_CPU": "25%"}
    settings = settings_for(Path("project"), told)
    assert (settings.challenger_memory, settings.challenger_cpu) == (4 * 10**9, 0.25)
    plain = settings_for(Path("project"), {"EVERFIT_CHALLENGER_MEMORY": "500000000", "EVERFIT_CHALLENGER_CPU": "1"})
    assert (plain.challenger_memory, plain.challenger_cpu) == (500_000_000, 1.0)
    unset = settings_for(Path("project"), {})
    assert (unset.challenger_memory, unset.challenger_cpu) == (Trying().memory, Trying().share)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("EVERFIT_CHALLENGER_MEMORY", "much"),
        ("EVERFIT_CHALLENGER_MEMORY", "2MB"),
        ("EVERFIT_CHALLENGER_CPU", "half"),
        ("EVERFIT_CHALLENGER_CPU", "half%"),
        ("EVERFIT_CHALLENGER_CPU", "0"),
        ("EVERFIT_CHALLENGER_CPU", "-1"),
        ("EVERFIT_CHALLENGER_CPU", "150%"),
        ("EVERFIT_CHALLENGER_CPU", "nan"),
    ],
)
def test_what_no_challenger_can_work_with_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(UsageError, match=name):
        settings_for(Path("project"), {name: text})

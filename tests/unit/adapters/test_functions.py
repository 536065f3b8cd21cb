"""Functions that a spec names."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from everfit.adapters.functions import functions_of
from everfit.errors import UsageError


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    before = list(sys.path)
    (tmp_path / "shop_rules.py").write_text("def should_retrain(past, now):\n    return True\n")
    (tmp_path / "shop_broken.py").write_text("1 / 0\n")
    (tmp_path / "shop_needy.py").write_text("import a_library_that_nobody_has\n")
    yield tmp_path
    sys.path[:] = before


def test_a_function_is_found_in_the_projects_folder_and_leaves_nothing_there(project: Path) -> None:
    found = functions_of(["shop_rules:should_retrain"] * 2, project)
    assert list(found) == ["shop_rules:should_retrain"]
    assert found["shop_rules:should_retrain"](None, None) is True
    assert not (project / "__pycache__").exists()


@pytest.mark.parametrize(
    "named, said",
    [
        pytest.param("shop_rules:shuld_retrain", "did you mean 'should_retrain'", id="a slip of the pen"),
        pytest.param("shop_nowhere:f", "there is no module 'shop_nowhere'", id="no such module"),
        pytest.param("shop_broken:f", "ZeroDivisionError", id="a module that raises"),
        pytest.param("shop_needy:f", "a_library_that_nobody_has", id="a module that needs what is not there"),
    ],
)
def test_what_cannot_be_found_is_named_with_a_remedy(project: Path, named: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        functions_of([named], project)

"""What `everfit init` writes can be read."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from everfit.app.project import Wanted, begin
from everfit.spec import read_spec


@pytest.mark.parametrize("name", ["null", "no", "2013", "on", "1e3", "shop", "läden"])
def test_a_name_that_means_something_to_yaml_stays_a_name(tmp_path: Path, name: str) -> None:
    rows = pl.DataFrame({
        "at": [datetime(2026, 1, 1) + timedelta(minutes=n) for n in range(600)],
        name: [float(n % 7) for n in range(600)],
        "target": [n % 2 for n in range(600)],
    })  # fmt: skip
    data = tmp_path / f"{name}.csv"
    rows.write_csv(data)
    if name == "läden":
        begun = begin(tmp_path / "p", Wanted(data, "at", "target", None, "shops", None))
    else:
        begun = begin(tmp_path / "p", Wanted(data, "at", name if name == "no" else "target", None, None, None))
    spec = read_spec(begun.spec)
    assert spec.model == ("shops" if name == "läden" else name)
    assert spec.target == (name if name == "no" else "target")

"""The tails of our own are those of scipy, near and far."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import special

from everfit.detect.tails import binomial_tail, chi_square_tail, kolmogorov_tail

SHARES = (1e-9, 1e-6, 1e-3, 0.05, 0.25, 0.5, 0.9, 0.999)


def test_kolmogorov_is_that_of_scipy_on_both_sides_of_the_middle() -> None:
    for z in (*np.linspace(0.0, 0.999, 60), *np.linspace(1.0, 18.0, 200)):
        assert kolmogorov_tail(z) == pytest.approx(special.kolmogorov(z), rel=1e-12, abs=1e-300), z


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 15, 64, 301, 3000])
def test_chi_square_is_that_of_scipy(freedom: int) -> None:
    for statistic in freedom * np.array([0.0, 1e-6, 0.01, 0.5, 0.9, 1.0, 1.1, 1.5, 3.0, 10.0, 100.0]):
        theirs = special.chdtrc(freedom, statistic)
        assert chi_square_tail(freedom, statistic) == pytest.approx(theirs, rel=1e-10, abs=1e-290), statistic


@pytest.mark.parametrize("whole", [1, 2, 3, 17, 200, 5000, 1_000_000])
@pytest.mark.parametrize("share", SHARES)
def test_binomial_is_that_of_scipy(whole: int, share: float) -> None:
    spread = np.sqrt(whole * share * (1 - share))
    wanted = np.round(whole * share + spread * np.array([-20, -5, -1, -0.1, 0, 0.1, 1, 3, 8, 20]))
    for least in {1, 2, whole - 1, whole, *wanted.clip(1, whole).astype(int).tolist()} - {0}:
        theirs = special.bdtrc(least - 1, whole, share)
        near = 1e-10 if whole <= 5000 else 2e-8  # of a million rows scipy keeps eight digits; see below
        assert binomial_tail(least, whole, share) == pytest.approx(theirs, rel=near, abs=1e-290), least


def test_binomial_is_exact_where_scipy_loses_digits() -> None:
    # Sums of exact fractions; scipy 1.17 is off by 1.3e-9, 5.7e-12 and 5.0e-13 of the value.
    assert binomial_tail(1032, 1_000_000, 0.001) == pytest.approx(0.15945697061354763, rel=1e-13)
    assert binomial_tail(300, 5000, 0.05) == pytest.approx(0.0008783392813567539, rel=1e-13)
    assert binomial_tail(950, 1000, 0.9) == pytest.approx(5.995167632379695e-09, rel=1e-13)


def test_binomial_knows_its_borders() -> None:
    assert binomial_tail(0, 10, 0.3) == binomial_tail(10, 10, 1.0) == 1
    assert binomial_tail(1, 10, 0.0) == binomial_tail(11, 10, 0.5) == binomial_tail(11, 10, 1.0) == 0


def test_a_comparison_without_windows_does_not_wait_for_scipy() -> None:
    told = """
import sys, polars as pl
from everfit.detect.compare import compare
then = pl.DataFrame({"x": range(400), "c": list("ab") * 200}).with_columns(n=pl.col("x") % 7).with_columns(
    n=pl.when(pl.col("n") > 0).then("n"))
assert compare(then, then).windows == 0
print("scipy.special" in sys.modules)
"""
    found = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"

"""Distances equal those of scipy; groups of bins do not mistake luck for drift."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import spatial, stats

from everfit.detect.distribution import (
    category_groups,
    chi_square,
    debiased_psi,
    holm,
    jensen_shannon,
    ks,
    merged,
    number_groups,
    psi,
    psi_noise,
    wasserstein,
)
from everfit.errors import UsageError

CHANCE = np.random.default_rng(3)
COUNTS = [
    (
        CHANCE.multinomial(2000, CHANCE.dirichlet(np.ones(20))),
        CHANCE.multinomial(300, CHANCE.dirichlet(np.ones(20))),
    )
    for _ in range(20)
]


@pytest.mark.parametrize(("expected", "actual"), COUNTS)
def test_distances_are_those_of_scipy(expected: np.ndarray, actual: np.ndarray) -> None:
    values = np.arange(20.0) ** 1.5
    rows = np.repeat(values, expected), np.repeat(values, actual)
    theirs = stats.ks_2samp(*rows, method="asymp")
    assert ks(expected, actual).value == pytest.approx(theirs.statistic)
    assert jensen_shannon(expected, actual) == pytest.approx(spatial.distance.jensenshannon(expected, actual, base=2))
    far = stats.wasserstein_distance(values, values, expected, actual)
    assert wasserstein(expected, actual, values, scale=3.0) == pytest.approx(far / 3)


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.1, 0.2])
def test_ks_agrees_with_scipy_on_raw_rows(shift: float) -> None:
    chance = np.random.default_rng(0)
    then, now = chance.normal(size=20_000), chance.normal(shift, 1, size=1000)
    edges = np.quantile(then, np.arange(1, 256) / 256)
    found = ks(
        np.bincount(np.searchsorted(edges, then), minlength=256),
        np.bincount(np.searchsorted(edges, now), minlength=256),
    )
    theirs = stats.ks_2samp(then, now, method="asymp")
    assert found.value == pytest.approx(theirs.statistic, abs=0.005)
    assert found.p_value == pytest.approx(theirs.pvalue, rel=0.5)


def test_chi_square_is_that_of_scipy_when_no_bin_is_rare() -> None:
    table = np.array([[100, 200, 300], [30, 20, 40]])
    found, theirs = chi_square(*table), stats.chi2_contingency(table, correction=False)
    assert found.p_value == pytest.approx(theirs.pvalue)
    assert found.value == pytest.approx(stats.contingency.association(table, method="cramer"))


def test_rare_bins_are_merged_before_they_are_tested() -> None:
    assert chi_square([1000, 1000, 0], [100, 100, 1]).p_value > 0.5, "one new category in 201 rows is no drift"
    assert chi_square([1000, 3, 2, 1], [100, 0, 0, 0]).p_value > 0.4
    assert chi_square([1000], [100]).p_value == 1
    assert chi_square([1000, 0], [100, 100]).p_value < 1e-9


def test_a_constant_column_has_no_distance() -> None:
    assert psi([5], [500]) == 0
    assert debiased_psi([5], [500]) == 0
    assert ks([5], [500]).p_value == 1
    assert wasserstein([5], [5], [1.0], scale=0.0) == 0


def test_psi_is_the_formula_without_empty_bins() -> None:
    p, q = np.array([0.2, 0.3, 0.5]), np.array([0.3, 0.3, 0.4])
    assert psi(p * 1e6, q * 1e6) == pytest.approx(((q - p) * np.log(q / p)).sum(), rel=1e-4)


def test_the_noise_taken_off_is_what_chance_gives() -> None:
    chance, shares = np.random.default_rng(1), np.full(16, 1 / 16)
    drawn = [(chance.multinomial(5000, shares), chance.multinomial(400, shares)) for _ in range(400)]
    noise = np.mean([psi(*two) for two in drawn])
    assert noise == pytest.approx(psi_noise(*drawn[0]), rel=0.08)


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        pytest.param([1, 2], [1, 2, 3], id="unlike bins"),
        pytest.param([0, 0], [1, 2], id="no reference"),
        pytest.param([1, 2], [0, 0], id="no rows"),
    ],
)
@pytest.mark.parametrize("distance", [psi, ks, jensen_shannon, chi_square])
def test_distances_of_nothing_are_refused(
    distance: Callable[..., object], expected: list[int], actual: list[int]
) -> None:
    with pytest.raises(UsageError):
        distance(expected, actual)


def test_neighbouring_bins_are_merged_to_equal_mass() -> None:
    groups = number_groups(np.full(256, 100))
    assert merged(np.full(256, 100), groups).tolist() == [1600] * 16
    assert number_groups([0, *[100] * 256, 0]).tolist() == [0, *groups.tolist(), 15]
    assert number_groups([0, 900, *[1] * 100, 0])[:3].tolist() == [0, 1, 2]
    assert number_groups([0, 7, 0]).tolist() == [0, 1, 2], "a constant that changed its value is seen"


def test_many_categories_do_not_look_drifted_by_luck() -> None:
    chance = np.random.default_rng(5)
    small = 0
    for _ in range(200):
        seen, now = (np.bincount(chance.integers(0, 1500, rows), minlength=1500) for rows in (6000, 600))
        order = np.argsort(-seen, kind="stable")
        known = seen[order] > 0
        top, rest = order[known][:1000], order[known][1000:]
        unseen = order[~known]
        e = [*seen[top], seen[rest].sum(), 0]
        a = [*now[top], now[rest].sum(), now[unseen].sum()]
        small += chi_square(*category_groups(e, a)).p_value < 0.05
    assert small <= 22, "5 % of 200 is 10; the chance of more than 22 is below 0.001"


def test_a_category_that_takes_rows_from_the_others_is_seen() -> None:
    e, a = category_groups([500, 300, 100, 50, 30, 20, 0, 0], [400, 300, 100, 50, 30, 20, 0, 100])
    assert e.sum() == a.sum() == 1000
    assert chi_square(e, a).p_value < 1e-6


@pytest.mark.parametrize("p_values", [[0.01, 0.04, 0.03, 0.005], [0.5, 0.01], [1.0], [], [0.0125, 0.0166, 0.02, 0.9]])
def test_holm_by_its_definition(p_values: list[float]) -> None:
    alpha, rejected = 0.05, []
    ordered = sorted(p_values)
    for done, p in enumerate(ordered):
        if all(q <= alpha / (len(ordered) - i) for i, q in enumerate(ordered[: done + 1])):
            rejected.append(p)
    assert [p for p, no in zip(p_values, holm(p_values, alpha), strict=True) if no] == [
        p for p in p_values if p in rejected
    ]

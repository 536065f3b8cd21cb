"""Windows as scores."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import scipy
from tests.days import days, part, plain_lens, portrayed

from everfit.detect.scores import (
    BINS,
    FAMILIES,
    Counted,
    bin_name,
    learn_ruler,
    look_through,
    mid_p_scores,
    polynomials,
    straightened,
)
from everfit.errors import UsageError
from everfit.observe.options import Kind
from everfit.observe.schema import Column, Schema
from everfit.profile.table import learn_bins, portray


def test_every_column_has_at_most_ten_bins_and_loses_no_row() -> None:
    windows = portrayed(days(np.random.default_rng(1), 6))
    lens = look_through(windows)
    counted = lens.count(windows)
    assert lens.columns == ("warmth", "carrier", "wet")
    assert (lens.sizes <= BINS).all()
    assert lens.sizes.tolist()[::2] == [10, 2]
    present = np.add.reduceat(counted.bins, lens.starts, axis=1)
    assert (present + counted.absent == 400).all()
    assert counted.absent[:, 0].sum() > 0


def test_categories_are_told_apart_where_ten_rows_are_expected() -> None:
    frame = pl.DataFrame({"c": ["a"] * 60 + ["b"] * 30 + [f"rare {i}" for i in range(10)]})
    bins = learn_bins(frame, Schema((Column("c", Kind.CATEGORY),), ()))
    window = portray(frame, bins)
    lens = look_through([window] * 5)
    view = lens.views[0]
    counts = view.gather(window.columns["c"]).tolist()
    assert counts == [60, 30, 10]
    assert [bin_name(view, window.columns["c"], i) for i in range(3)] == ["a", "b", "other categories"]


def test_a_category_that_was_never_there_is_seen_among_the_others() -> None:
    frame = pl.DataFrame({"c": ["a"] * 60 + ["b"] * 40})
    bins = learn_bins(frame, Schema((Column("c", Kind.CATEGORY),), ()))
    lens = look_through([portray(frame, bins)] * 5)
    now = portray(pl.DataFrame({"c": ["a"] * 60 + ["b"] * 30 + ["new"] * 10}), bins)
    assert lens.views[0].gather(now.columns["c"]).tolist() == [60, 30, 10]


def test_the_bins_of_a_number_are_named_by_their_values() -> None:
    frame = pl.DataFrame({"x": [float(i) for i in range(100)]})
    window = portray(frame, learn_bins(frame, Schema((Column("x", Kind.NUMBER),), ())))
    view = look_through([window]).views[0]
    names = [bin_name(view, window.columns["x"], i) for i in range(view.bins)]
    assert names == ["up to 9", *[f"{i}9 to {i + 1}9" if i else "9 to 19" for i in range(8)], "over 89"]


def test_windows_on_other_bins_are_refused() -> None:
    rng = np.random.default_rng(2)
    first, second = portrayed(days(rng, 2)), portrayed(days(rng, 2))
    with pytest.raises(UsageError, match="different bins"):
        look_through([first[0], second[0]])
    with pytest.raises(UsageError, match="other bins"):
        look_through(first).count(second)
    with pytest.raises(UsageError, match="without a healthy window"):
        look_through([])


def test_mid_p_scores_are_the_normal_quantiles_of_exact_tails() -> None:
    n, p = 30, 0.2
    pmf = np.array([scipy.special.binom(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)])
    middle = np.cumsum(pmf) - pmf / 2
    inside = np.arange(0, 20)
    got = mid_p_scores(inside, np.full(20, float(n)), np.full(20, p))
    assert got == pytest.approx(scipy.special.ndtri(middle[:20]), abs=1e-6)


def test_far_tails_go_on_without_a_jump_and_without_end() -> None:
    counts = np.arange(100, 100_000, 100)
    got = mid_p_scores(counts, np.full(len(counts), 100_000.0), np.full(len(counts), 0.001))
    assert np.isfinite(got).all()
    assert (np.diff(got) > 0).all()
    assert got[-1] > 500
    assert mid_p_scores(np.array([0]), np.array([0.0]), np.array([0.5])).tolist() == [0.0]


def test_polynomials_have_mean_zero_variance_one_and_are_not_related() -> None:
    counts = np.array([500.0, 120, 80, 300, 50, 90])
    contrasts, skewness = polynomials(counts, least=10)
    shares = counts / counts.sum()
    assert contrasts @ shares == pytest.approx([0, 0, 0], abs=1e-12)
    assert (contrasts * shares) @ contrasts.T == pytest.approx(np.eye(3), abs=1e-9)
    assert skewness == pytest.approx((contrasts**3) @ shares)
    assert contrasts[0, -1] > contrasts[0, 0]


def test_a_bin_without_rows_weighs_no_more_than_its_neighbour() -> None:
    contrasts, _ = polynomials(np.array([1.0, 99, 100, 100, 0]), least=50)
    assert contrasts[0, 0] == contrasts[0, 1]
    assert contrasts[0, 3] == contrasts[0, 4]
    assert not polynomials(np.array([1.0, 500, 1]), least=50)[0].any()


def test_skewness_is_taken_off() -> None:
    rng = np.random.default_rng(3)
    contrasts, skewness = polynomials(np.array([850.0, 100, 50]), least=10)
    draws = rng.multinomial(300, [0.85, 0.1, 0.05], 100_000) @ contrasts[0] / np.sqrt(300)
    straight = straightened(draws, np.full(len(draws), skewness[0] / np.sqrt(300)))
    assert abs(float((draws**3).mean())) > 0.1
    assert abs(float((straight**3).mean())) < 0.03


def test_the_parts_of_a_column_add_up_to_one() -> None:
    windows = portrayed(days(np.random.default_rng(4), 6))
    lens = look_through(windows)
    ruler = learn_ruler(lens, lens.count(windows))
    assert np.bincount(ruler.column_of, weights=ruler.weights) == pytest.approx([1, 1, 1])
    assert not ruler.weights[~ruler.used].any()
    assert {FAMILIES[i] for i in ruler.family[ruler.used & (ruler.column_of == 1)]} == {"category", "absent"}


def test_a_window_without_values_has_scores() -> None:
    windows = portrayed(days(np.random.default_rng(5), 6))
    lens = look_through(windows)
    counted = lens.count(windows)
    none = part(counted, slice(0, 1))
    empty = Counted(none.bins * 0, none.absent * 0)
    values, sizes = learn_ruler(lens, counted).scores(empty)
    assert np.isfinite(values).all()
    assert (sizes >= 1).all()


def test_a_column_of_one_value_is_one_bin_that_may_be_left() -> None:
    constant = Counted(np.full((5, 1), 100), np.zeros((5, 1), dtype=np.int64))
    ruler = learn_ruler(plain_lens(1, bins=1), constant)
    assert not ruler.used[:4].any()
    scores, _ = ruler.scores(constant)
    assert not scores[:, :4].any()
    assert np.ptp(scores) == pytest.approx(abs(scores[0, 4]))

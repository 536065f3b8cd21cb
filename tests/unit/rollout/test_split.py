"""Who is answered by whom."""

from __future__ import annotations

import pytest

from everfit.errors import UsageError
from everfit.rollout.split import key_of, share_of, variant_of


@pytest.mark.parametrize(
    ("key", "salt", "place"),
    [("customer-17", "release-3", 0.8090600), ("customer-17", "release-4", 0.6750323), ("", "", 0.3548498)],
)
def test_places_are_the_same_for_ever(key: str, salt: str, place: float) -> None:
    """These were written down once; a change would move every customer of every release under way."""
    assert share_of(key, salt) == pytest.approx(place, abs=1e-6)


@pytest.mark.parametrize(
    "shares",
    [
        [("a", 0.1), ("b", 0.1), ("c", 0.1)],
        [("a", 1.1)],
        [("a", -0.1)],
        [("a", 0.6), ("b", 0.6)],
        [("a", float("nan"))],
    ],
    ids=["three at once", "above 1", "below 0", "more than all", "missing"],
)
def test_shares_that_make_no_sense_are_refused(shares: list[tuple[str, float]]) -> None:
    with pytest.raises(UsageError):
        variant_of("k", "s", shares)


def test_nothing_and_everything() -> None:
    keys = [f"c{i}" for i in range(500)]
    assert {variant_of(key, "s", [("new", 0.0)]) for key in keys} == {"champion"}
    assert {variant_of(key, "s", [("new", 1.0)]) for key in keys} == {"new"}
    assert {variant_of(key, "s", [("new", 0.4), ("other", 0.6)]) for key in keys} == {"new", "other"}
    assert {variant_of(key, "s", []) for key in keys} == {"champion"}


def test_a_key_and_a_request_of_the_same_name_do_not_meet() -> None:
    assert key_of("r-1", "r-2") != key_of(None, "r-1")

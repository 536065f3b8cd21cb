"""Rows of the shadow table that a server elsewhere brings: what a model said of a copy, and where a model failed.

Takes rows as they came; gives rows of the shadow table, and the refused ones with their reason; never looks at
features: the prediction beside a copy has them, and where a model failed there is nothing to learn from them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import polars as pl

from everfit.errors import Refused
from everfit.observe.intake import SHADOW_COLUMNS, Rules, Taken, take_predictions

FAILURES = ("crash", "error", "memory", "timeout")  # what `_failed` says
MARKS = ("_copy", "_failed")  # either makes a row one of these
_KEPT = [name for name in SHADOW_COLUMNS if name != "_day"]  # the mover adds it
_ANSWER = ("_score", "_prediction")
_OURS = ("_id", "_time", "_model", "_latency_ms")


def is_shadow(rows: pl.DataFrame) -> pl.Series:
    """Which rows belong to the shadow table.

    >>> is_shadow(pl.DataFrame({"_copy": [True, None, None], "_failed": [None, "crash", None]})).to_list()
    [True, True, False]

    Raises:
        Refused: `_copy` is neither true nor false.
    """
    aside = pl.repeat(False, rows.height, dtype=pl.Boolean, eager=True)
    if "_copy" in rows.columns:
        if rows["_copy"].dtype not in {pl.Boolean, pl.Null}:
            raise Refused("column '_copy' must be true or false")
        aside |= rows["_copy"].cast(pl.Boolean).fill_null(False)
    if "_failed" in rows.columns:
        aside |= rows["_failed"].is_not_null()
    return aside


def take_shadow(rows: pl.DataFrame, rules: Rules, now: datetime | None, issue: Callable[[], str]) -> Taken:
    """Take rows with the id and time of a prediction and `_model`: answers to copies, or `_failed` (how).

    `now` None means a replay, as for predictions.

    >>> rules = Rules("binary", target="late", time="at", id="flight")
    >>> sent = pl.DataFrame({"flight": [7], "at": ["2013-01-01T05:00"], "_model": ["c2"], "_failed": ["timeout"]})
    >>> take_shadow(sent, rules, None, issue=lambda: "issued").rows.select("_id", "_model", "_failed").to_dicts()
    [{'_id': '7', '_model': 'c2', '_failed': 'timeout'}]

    Raises:
        Refused: nobody says whose it is, or it failed in a way that there is none.
    """
    if "_model" not in rows.columns or rows["_model"].null_count():
        raise Refused("a row with '_copy' or '_failed' needs '_model': the id of the candidate whose it is")
    said = rows["_failed"].cast(pl.String) if "_failed" in rows.columns else pl.lit(None, pl.String)
    told = rows.with_columns(_failed=said)
    hows = told["_failed"].unique().sort().to_list()
    if unknown := [how for how in hows if how is not None and how not in FAILURES]:
        raise Refused(f"column '_failed': {unknown[0][:40]!r} is none of {', '.join(FAILURES)}")
    known = [name for name in (rules.id, rules.time, *_OURS) if name in rows.columns]
    answer = [name for name in _ANSWER if name in rows.columns]
    parts = []
    for how in hows:
        some = told.filter(pl.col("_failed").eq_missing(pl.lit(how, pl.String)))
        parts.append(take_predictions(some.select(known + ([] if how else answer)), rules, now, issue))
    taken = [_shadow(part.rows, how) for part, how in zip(parts, hows, strict=True)]
    return Taken(pl.concat(taken), pl.concat([part.refused for part in parts]))


def _shadow(taken: pl.DataFrame, how: str | None) -> pl.DataFrame:
    told = taken.with_columns(_failed=pl.lit(how, pl.String))
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in SHADOW_COLUMNS.items() if name not in told.columns]
    return told.with_columns(missing).select(_KEPT)

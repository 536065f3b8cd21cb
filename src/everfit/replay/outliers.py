"""Values of a number so far out that a mean error is about them alone.

Takes a target; gives a sentence, or nothing; never leaves a row out: some of them are what the model is for.
"""

from __future__ import annotations

import numpy as np
import polars as pl

FEW = 0.01  # share of the rows, the farthest from the median
MOST = 0.5  # share of the whole distance that they may have; of normal values they have 0.04, of lognormal ones 0.13


def outliers(target: pl.Series) -> tuple[str, ...]:
    """A sentence when one row in a hundred holds most of the distance from the median.

    >>> outliers(pl.Series("price", [1.0, 2.0, 3.0] * 100))
    ()
    >>> outliers(pl.Series("price", [*[1.0, 2.0, 3.0] * 100, 1e6]))[0][:60]
    "4 of 301 rows hold 100 % of how far 'price' is from its medi"
    """
    values = target.to_numpy()
    far = np.sort(np.abs(values - np.median(values)))[::-1]
    many = max(1, -(-len(far) // round(1 / FEW)))
    share = float(far[:many].sum() / far.sum()) if far.sum() > 0 else 0.0
    if share <= MOST:
        return ()
    return (
        f"{many:,} of {len(far):,} rows hold {100 * share:.0f} % of how far {target.name!r} is from its median, up to "
        f"{far[0]:,.4g}: scores are about these rows. If they are mistakes, mend them; if not, train on a logarithm",
    )

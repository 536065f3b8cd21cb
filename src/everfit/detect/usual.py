"""What is usual: how healthy windows differ from each other, and how unusual a window is beside them.

Takes profiles of windows without fault or drift; gives `Usual`, and for a new window one test per column; never decides
what an alarm is (`promise.py`).

The window, not the row, is the unit. A new window differs from the mean of `h` healthy ones by the spread of one and by
the error of the mean, so its score is read against a t distribution widened by sqrt(1 + 1/h) (a prediction t; Geisser
1993, Predictive Inference). A column's p-value is the smallest of its scores' over their weights (Bonferroni). Assumed:
healthy windows are like those to come, and their serial memory is short against the history.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from everfit.detect.scores import (
    FAMILIES,
    POLYNOMIALS,
    Counted,
    Lens,
    Ruler,
    View,
    bin_name,
    learn_ruler,
    look_through,
)
from everfit.detect.season import find_season, phase_means
from everfit.detect.spread import Spread, learn_spread, left_out
from everfit.errors import Refused, UsageError
from everfit.profile.table import Profile

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

FEWEST = 5  # healthy windows; with fewer nothing is known of how they differ
FULL = 20  # with fewer the promise is kept by each score's own variance alone, and power is low
RATE = 1 / 365  # one false alarm in a year of days
POWER = 0.84  # normal quantile of 80 %
RANK = 0.967  # what the first polynomial on ten bins sees of a shift of a normal's mean, in standard deviations
MAGIC = b"everfit usual 1\n"


@dataclass(frozen=True, slots=True)
class ColumnTest:
    """How unusual one column of a window is beside healthy windows."""

    column: str
    p_value: float  # chance of a healthy window this far out in any score of the column
    t: float  # of the score that is furthest out
    score: str  # what that score looks at: "place", "spread", "skew", "absent", or the name of a bin
    smallest_shift: float  # found in one window with a chance of 80 %
    unit: str  # of `smallest_shift`: "sd" of the column, or "share" of its rows
    rows: int  # values behind the test


@dataclass(frozen=True, slots=True, eq=False)
class Apart:
    """Windows beside the healthy mean, all windows x scores, in scores per square root of rows."""

    far: Floats  # score less the mean of its phase
    within: Floats  # variance of a window about the true mean
    error: Floats  # variance of the healthy mean about the true one

    @property
    def t(self) -> Floats:
        """The prediction t of every score."""
        found: Floats = self.far / np.sqrt(self.within + self.error)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Usual:
    """What healthy windows of a champion are like. Made by `learn_usual` or `usual_of`."""

    lens: Lens
    healthy: Counted
    places: Places  # of each healthy window on the grid of event time
    periods: tuple[int, ...]  # seasons that were looked for, in windows
    period: int  # the season that was found or declared; 1 = none
    declared: bool  # whether the season was told and not found
    ruler: Ruler
    means: Floats  # phases x scores
    seen: Floats  # healthy windows per phase
    rows: Floats  # rows behind each score in a healthy window (harmonic mean)
    spread: Spread
    back: Floats  # per healthy window, the chance of one this unusual among the others, over all columns

    @property
    def windows(self) -> int:
        """How many healthy windows there are."""
        return len(self.healthy)

    @property
    def learning(self) -> str | None:
        """Why there is no full promise yet, or None."""
        return None if self.windows >= FULL else f"{self.windows} of {FULL} healthy windows"

    def shocks(self, rate: float) -> int:
        """How many healthy windows would have been an alarm beside the others, at a rate per window."""
        return int((self.back <= rate).sum())

    def shocked(self, rate: float) -> bool:
        """Whether one-window shocks are normal here, so that a single window proves nothing."""
        return self.shocks(rate) >= (1 if self.windows < 60 else 2)

    def joined(self, window: Profile, place: int | None = None) -> Usual:
        """Add a benign window to the history."""
        return self.joined_counts(self.lens.count([window]), place)

    def joined_counts(self, counted: Counted, place: int | None = None) -> Usual:
        """Add a benign window's counts to the history."""
        latest = int(self.places[-1]) + 1 if place is None else place
        places = np.append(self.places, latest)
        declared = self.period if self.declared else None
        return usual_of(self.lens, self.healthy.and_then(counted), places, self.periods, declared)

    def apart(self, windows: Counted, places: Places) -> Apart:
        """How far windows are from the healthy mean."""
        scores, sizes = self.ruler.scores(windows)
        phases = places % self.period
        leverage = (1 / self.seen[phases])[:, None]
        variance = self.spread.variance
        within = 1 / np.minimum(sizes, self.rows) + (variance - 1) / self.rows
        error = variance * leverage * self.spread.memory / self.rows
        return Apart(scores / np.sqrt(sizes) - self.means[phases], within, error)

    def to_bytes(self) -> bytes:
        """Write the counts of the healthy windows; everything else follows from them."""
        lens = self.lens
        head = {
            "columns": lens.columns,
            "ordered": lens.ordered.tolist(),
            "sizes": lens.sizes.tolist(),
            "key": lens.key,
            "views": [[v.bin_of.tolist(), v.own.tolist(), v.own_bucket.tolist()] for v in lens.views],
            "places": self.places.tolist(),
            "periods": self.periods,
            "period": self.period if self.declared else None,
        }
        text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
        counts = np.concatenate([self.healthy.bins, self.healthy.absent], axis=1).astype("<u4")
        # The bytes of equal weight stand together: the high ones are nearly all zero.
        raw = np.ascontiguousarray(counts.T).view(np.uint8).reshape(-1, 4).T.tobytes()
        return MAGIC + zlib.compress(len(text).to_bytes(4, "little") + text + raw, level=6)

    @classmethod
    def from_bytes(cls, data: bytes) -> Usual:
        """Read what `to_bytes` wrote, and learn from it again.

        Raises:
            Refused: these are not such bytes.
        """
        if not data.startswith(MAGIC):
            raise Refused("these bytes are not what is usual of a model; judge its champion again to write them")
        try:
            plain = zlib.decompress(data[len(MAGIC) :])
            size = int.from_bytes(plain[:4], "little")
            head = json.loads(plain[4 : 4 + size])
        except (zlib.error, ValueError) as error:
            raise Refused(f"what is usual of a model is damaged ({error}); judge its champion again") from error
        sizes = np.array(head["sizes"], dtype=np.int64)
        windows, bins, columns = len(head["places"]), int(sizes.sum()), len(sizes)
        raw = np.frombuffer(plain, dtype=np.uint8, offset=4 + size).reshape(4, -1)
        counts = np.ascontiguousarray(raw.T).view("<u4").reshape(bins + columns, windows).T.astype(np.int64)
        named = zip(head["columns"], head["ordered"], head["sizes"], head["views"], strict=False)
        views = tuple(_view(*each) for each in named)
        lens = Lens(tuple(head["columns"]), np.array(head["ordered"], dtype=np.bool_), sizes, views, head["key"])
        places = np.array(head["places"], dtype=np.intp)
        return usual_of(lens, Counted(counts[:, :bins], counts[:, bins:]), places, head["periods"], head["period"])


def learn_usual(
    windows: Sequence[Profile],
    *,
    places: Sequence[int] | None = None,
    periods: Sequence[int] = (),
    period: int | None = None,
) -> Usual:
    """Learn what is usual from healthy windows, oldest first.

    >>> import polars as pl
    >>> from everfit.observe.options import Kind
    >>> from everfit.observe.schema import Column, Schema
    >>> from everfit.profile.table import learn_bins, portray
    >>> days = [pl.DataFrame({"x": np.random.default_rng(i).normal(size=300)}) for i in range(21)]
    >>> bins = learn_bins(pl.concat(days), Schema((Column("x", Kind.NUMBER),), ()))
    >>> learn_usual([portray(day, bins) for day in days[:12]]).learning
    '12 of 20 healthy windows'

    Args:
        windows: Their profiles, on the bins of one reference.
        places: Number of each on the grid of event time (window start // length); without, they follow each other.
        periods: Seasons to look for, in windows: 7 for days, 24 and 168 for hours.
        period: A season that the user declared; it is taken as told.

    Raises:
        UsageError: there is no window, or `places` are not as many.
    """
    kept = [i for i, window in enumerate(windows) if window.rows] or [0]
    lens = look_through([windows[i] for i in kept] if windows else windows)
    if places is not None and len(places) != len(windows):
        raise UsageError(f"{len(windows)} windows have {len(places)} places on the grid of time; give one for each")
    numbers = np.array([i if places is None else places[i] for i in kept], dtype=np.intp)
    return usual_of(lens, lens.count([windows[i] for i in kept]), numbers, periods, period)


def usual_of(
    lens: Lens, healthy: Counted, places: Places, periods: Sequence[int] = (), period: int | None = None
) -> Usual:
    """Learn what is usual from counts; see `learn_usual`."""
    ruler = learn_ruler(lens, healthy)
    scores, sizes = ruler.scores(healthy)
    rows = _middle_rows(sizes)
    scaled = scores / np.sqrt(sizes) * np.sqrt(rows)  # as if every window had `rows`
    declared = period is not None
    if period is None:
        period = find_season(scaled[:, ruler.used], places, periods)
    phases = places % period
    means, seen = phase_means(scaled, phases, period)
    apart = scaled - means[phases]
    after = np.flatnonzero(np.diff(places, prepend=places[0] - 2) == 1)
    spread = learn_spread(apart, after, period, _families(ruler, healthy), full=len(healthy) >= FULL)
    back = np.ones(len(healthy))
    if len(healthy) >= FEWEST:
        t, freedom = left_out(apart, 1 / seen[phases], spread, period)
        back = np.minimum(1.0, len(lens.columns) * column_chances(ruler, t, freedom).min(axis=1))
    means = means / np.sqrt(rows)
    return Usual(lens, healthy, places, tuple(periods), period, declared, ruler, means, seen, rows, spread, back)


def column_chances(ruler: Ruler, t: Floats, freedom: Floats) -> Floats:
    """The chance of any of a column's scores being as far out (weighted Bonferroni): windows x columns.

    Args:
        ruler: Says which scores there are, and whose.
        t: Windows x scores.
        freedom: Degrees of freedom, per score or windows x scores.
    """
    parts = np.where(ruler.used, ruler.weights, 1.0)
    chances = np.where(ruler.used, 2 * scipy.special.stdtr(freedom, -np.abs(t)) / parts, 1.0)
    order = np.argsort(ruler.column_of, kind="stable")
    starts = np.flatnonzero(np.diff(ruler.column_of[order], prepend=-1))
    found: Floats = np.minimum(1.0, np.minimum.reduceat(chances[:, order], starts, axis=1))
    return found


def read_window(
    current: Profile, usual: Usual, *, place: int | None = None, rate: float = RATE
) -> tuple[ColumnTest, ...]:
    """Test every column of a window against what is usual.

    >>> import polars as pl
    >>> from everfit.observe.options import Kind
    >>> from everfit.observe.schema import Column, Schema
    >>> from everfit.profile.table import learn_bins, portray
    >>> days = [pl.DataFrame({"x": np.random.default_rng(i).normal(size=300)}) for i in range(21)]
    >>> bins = learn_bins(pl.concat(days), Schema((Column("x", Kind.NUMBER),), ()))
    >>> usual = learn_usual([portray(day, bins) for day in days[:20]])
    >>> found = read_window(portray(days[20] + 1, bins), usual)[0]
    >>> found.score, found.p_value < 1e-6
    ('place', True)

    Args:
        current: The window, on the same bins.
        usual: At least five healthy windows.
        place: Its number on the grid of event time; needed where there is a season.
        rate: Of false alarms per window, for which `smallest_shift` is told.

    Raises:
        UsageError: too few healthy windows, no place where there is a season, or other bins.
    """
    if usual.windows < FEWEST:
        raise UsageError(f"{usual.windows} healthy windows say nothing of how they differ; wait for {FEWEST}")
    counted = usual.lens.count([current])
    apart = usual.apart(counted, np.array([place_on_grid(usual, place)], dtype=np.intp))
    t = apart.t[0]
    chances = column_chances(usual.ruler, apart.t, usual.spread.freedom)[0]
    needed = reach(usual, apart, rate)
    parts = np.where(usual.ruler.used, usual.ruler.weights, 0.1)
    single = np.where(usual.ruler.used, scipy.special.stdtr(usual.spread.freedom, -np.abs(t)) / parts, np.inf)
    tests = []
    for column, view in enumerate(usual.lens.views):
        mine = np.flatnonzero(usual.ruler.column_of == column)
        furthest = int(mine[np.lexsort((-np.abs(t[mine]), single[mine]))[0]])
        shift, unit = _smallest_shift(usual.ruler, mine, needed)
        seen = current.columns[view.name]
        score = _score_name(usual.ruler, furthest, view, current)
        tests.append(
            ColumnTest(view.name, float(chances[column]), float(t[furthest]), score, shift, unit, seen.present)
        )
    return tuple(tests)


def place_on_grid(usual: Usual, place: int | None) -> int:
    """The place of a window; 0 where there is no season and it plays no role.

    Raises:
        UsageError: there is a season and no place.
    """
    if place is None and usual.period > 1:
        raise UsageError(
            f"healthy windows follow a season of {usual.period}; say the window's place on the grid of time"
        )
    return place or 0


def reach(usual: Usual, apart: Apart, rate: float) -> Floats:
    """What each score must move to be found with 80 %, in scores per square root of rows."""
    line = rate / len(usual.lens.columns) * np.where(usual.ruler.used, usual.ruler.weights, 1.0) / 2
    critical = -scipy.special.stdtrit(usual.spread.freedom, line)
    found: Floats = (critical + POWER) * np.sqrt(apart.within + apart.error)[0]
    return found


def _smallest_shift(ruler: Ruler, mine: Places, reach: Floats) -> tuple[float, str]:
    """In standard deviations where the column has a polynomial of place, else the worst of its bins in shares."""
    place = mine[ruler.family[mine] == 0]
    if len(place) and ruler.used[place[0]]:
        return float(reach[place[0]]) / RANK, "sd"
    bins = mine[ruler.bin_of[mine] >= 0]
    first = POLYNOMIALS * len(ruler.lens.columns)
    shares = ruler.shares[bins - first]
    return float(min(1.0, (reach[bins] * np.sqrt(shares * (1 - shares))).max())), "share"


def _score_name(ruler: Ruler, score: int, view: View, current: Profile) -> str:
    place = int(ruler.bin_of[score])
    return FAMILIES[ruler.family[score]] if place < 0 else bin_name(view, current.columns[view.name], place)


def _families(ruler: Ruler, healthy: Counted) -> Places:
    """Families of scores that say something of each other: not those that expect no row in a window."""
    lens, windows = ruler.lens, len(healthy)
    bins, absent = healthy.bins.sum(axis=0), healthy.absent.sum(axis=0)
    present = np.add.reduceat(bins, lens.starts)
    rare = np.minimum(bins, present[lens.column_of_bin] - bins), np.minimum(absent, present)
    enough = np.concatenate([np.ones(POLYNOMIALS * len(lens.columns)), rare[0] >= windows, rare[1] >= windows])
    return np.where(ruler.used & (enough > 0), ruler.family, -1)


def _middle_rows(sizes: Floats) -> Floats:
    """Harmonic mean of the rows behind each score; a nearly empty window counts as a tenth of the usual one."""
    found: Floats = 1 / (1 / np.maximum(sizes, 0.1 * np.median(sizes, axis=0))).mean(axis=0)
    return found


def _view(name: str, ordered: bool, bins: int, arrays: Sequence[Sequence[int]]) -> View:
    bin_of, own, own_bucket = (np.array(each, dtype=np.intp) for each in arrays)
    return View(name, ordered, bins, bin_of, own, own_bucket)

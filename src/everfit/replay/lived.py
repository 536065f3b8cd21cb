"""What the live flows did, put beside the policies of the matrix: the same windows, the same rows, the same points.

Takes what a spec lived through and the history that was played; gives a `Played`; never counts a row that nobody
answered.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise

import numpy as np
import polars as pl

from everfit.adapters.cell_files import scored_rows
from everfit.detect.catalogue import metric_named
from everfit.detect.outcomes import Outcomes, outcomes_from
from everfit.detect.performance import level
from everfit.errors import TrainingFailed
from everfit.facts import CandidateTrained, RecipeChosen, RenewBegan, RenewEnded
from everfit.observe.window import Span
from everfit.replay.history import History
from everfit.replay.live import Lived
from everfit.replay.matrix import Cell, Floats
from everfit.replay.play import Decision, Played
from everfit.standing import Story


def played(name: str, lived: Lived, history: History) -> Played:
    """What a spec did, in the windows and points of a backtest.

    Rows before the first champion were answered by nobody; windows without answers score NaN.

    Raises:
        TrainingFailed: no model ever served.
    """
    if not lived.standing.releases:
        raise TrainingFailed(f"no model ever served; {_last_words(lived)}")
    answered = _answered(lived, history)
    cut = history.cut
    kept, begins = scored_rows(cut.edges, cut.most)
    scores, missed = np.full(len(cut.scored), np.nan), np.full(len(cut.scored), np.nan)
    for at, window in enumerate(cut.scored):
        rows = answered[kept[begins[window] : begins[window + 1]]].drop_nulls("_score")
        if rows.height:
            scores[at], missed[at] = _read(rows, lived, history)
    stories = _runs(lived)
    spent = [found.candidate.train_rows for s in stories if (found := s.find(CandidateTrained))]
    seconds = [found.seconds for s in stories if (found := s.find(CandidateTrained))]
    decisions = [each for s in stories if (each := _decision(s, history)) is not None]
    served = _served(lived, history)
    return Played(name, cut.start, scores, missed, served, tuple(decisions), sum(spent), sum(seconds))


def _last_words(lived: Lived) -> str:
    """What became of the last run; without one, what the last decision waited for."""
    ended = [f.said for story in _runs(lived) for f in story.facts if isinstance(f, RenewEnded)]
    if ended:
        return f"the last run: {ended[-1]}"
    reasons = [reason.said for _, _, each in lived.standing.decisions[-1:] for reason in each.because]
    fewer = "the first model waits for as many labelled rows as train.at_least asks for"
    return f"no run began: {'; '.join(reasons) or fewer}"


def _answered(lived: Lived, history: History) -> pl.DataFrame:
    """Every row of the history, in its order, with its answer and the truth."""
    truth = history.rows[history.target]
    known = {"_value": truth} if history.task == "regression" else {"_label": truth}
    rows = pl.DataFrame({"_place": np.arange(history.rows.height), **known})
    said = lived.rows.select(pl.col("_id").cast(pl.Int64).alias("_place"), "_score", "_time")
    return rows.join(said, on="_place", how="left", maintain_order="left")


def _read(rows: pl.DataFrame, lived: Lived, history: History) -> tuple[float, float]:
    """Points and mean miss of answered rows."""
    first = next(iter(lived.standing.bench.values())).candidate
    outcomes = outcomes_from(rows, task=history.task, classes=first.classes, positive=first.positive)
    found = level(metric_named(history.metric), outcomes)
    points = np.nan if found is None else found if history.cut.greater_is_better else 1 - found / history.cut.unit
    return float(points), float(_misses(outcomes, history).mean()) if outcomes.rows else np.nan


def _misses(outcomes: Outcomes, history: History) -> Floats:
    if history.task == "regression":
        truth = history.rows[history.target].to_numpy()
        spread = float(np.abs(truth - np.median(truth)).mean()) or 1.0
        off: Floats = np.clip(np.abs(outcomes.scores[:, 0] - outcomes.truth) / spread, 0, 1)
        return off
    wrong: Floats = (outcomes.scores.argmax(axis=1) != outcomes.truth).astype(np.float64)
    return wrong


def _runs(lived: Lived) -> list[Story]:
    """Training runs in the order in which they began, without those before the first champion."""
    since = lived.standing.releases[0][0] if lived.standing.releases else None
    stories = [story for run, story in lived.standing.stories.items() if run.startswith("renew-")]
    return [story for story in stories if since is None or story.times[0] > since]


def _decision(story: Story, history: History) -> Decision | None:
    began, chosen, ended = story.find(RenewBegan), story.find(RecipeChosen), story.find(RenewEnded)
    if began is None:
        return None
    why = "; ".join(dict.fromkeys(reason.said for reason in began.because))
    trained = _cell(chosen.recipe.train, history) if chosen else (0, 0)
    failed = ended.said if ended is not None and ended.outcome in ("failed", "blocked") else ""
    return Decision(_window(story.times[0].timestamp(), history) - 1, trained, why, failed)


def _served(lived: Lived, history: History) -> tuple[Cell, ...]:
    """The training windows of the model that served at the end of each scored window."""
    releases = lived.standing.releases
    changes = [at.timestamp() for at, _ in releases]
    cells = [_cell(lived.standing.bench[fact.candidate].recipe.train, history) for _, fact in releases]
    ends = [end.timestamp() for _, end in pairwise(history.begins)]
    found = [bisect_right(changes, ends[window]) - 1 for window in history.cut.scored]
    return tuple(cells[max(0, place)] for place in found)


def _cell(span: Span, history: History) -> Cell:
    """The windows that a span of time touches."""
    return _window(span.start.timestamp(), history), max(0, _window(span.end.timestamp() - 1e-6, history))


def _window(moment: float, history: History) -> int:
    begins = [each.timestamp() for each in history.begins[:-1]]
    return min(max(0, bisect_right(begins, moment) - 1), history.cut.windows - 1)

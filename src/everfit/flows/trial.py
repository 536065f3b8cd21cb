"""What the guard sees of a release: rows of both models, counted once each, as soon as they can be compared.

Takes the lake, both models and a span of arrivals; gives what came in it, paired or apart; never decides, and never
counts a missing label as an error.

A row counts in the span in which the last of its parts arrived: answer, copy, label. Rows are compared only within the
stage in which they were answered: when a share rises, the champion's rows are older than the challenger's, and labels
that come late are other labels (bad debts are known last). Labels later than their window's maturity do not count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from everfit.detect import losses, metrics
from everfit.detect.outcomes import outcomes_from, with_outcome
from everfit.errors import UsageError
from everfit.flows.arrivals import Arrivals, Pair, Stretch, columns_in, slices_of
from everfit.flows.keyed import Keyed, keyed
from everfit.observe.intake import FAILED
from everfit.observe.window import Span
from everfit.ports import Lake, Table
from everfit.rollout.checks import Check, Guarding
from everfit.rollout.guard import ALL, Compared, Seen
from everfit.rollout.keys import effect_of
from everfit.rollout.plan import Stage
from everfit.rollout.sequential import Floats, Sample, rate_of
from everfit.rollout.suited import is_guarded, suited, takes
from everfit.spec import Spec
from everfit.standing import Kept, Standing

EARLY = timedelta(days=7)  # an event may have happened so long before it was sent
FAILED_BY = "failed_by_"  # crash, error, memory, timeout: as a name of what people are shown
MOMENT = "250ms"  # a process that waits for its turn or collects its garbage does so for less
CUT = 4.0  # times the mean error of numbers, above which a loss counts no more: of Laplace errors under 2 % lie there
COLUMNS = ("_id", "_time", "_arrived", "_model", "_score", "_prediction", "_latency_ms")


@dataclass(frozen=True, slots=True)
class Sight:
    """What came in a span."""

    seen: Seen
    shown: dict[str, float] = field(default_factory=dict)  # what people want to know and no check compares

    @property
    def is_new(self) -> bool:
        """Whether anything came."""
        return any(self.seen.requests) or bool(self.seen.compared)


@dataclass(frozen=True, slots=True)
class Trial:
    """Reads the rows of one release."""

    spec: Spec
    lake: Lake

    # ---- before a release --------------------------------------------------------------------------------------------
    def usual(self, champion: Kept, now: datetime) -> dict[str, float]:
        """The champion's level before, by check, from the rows of the last windows; without rows without a level."""
        span = Span(now - 2 * self._reach, now)
        rows = self._rows(Table.PREDICTIONS, span, [champion])
        failed = self._refused(span).height
        found = {"errors": failed / (failed + rows.height)} if rows.height else {}
        each = self._losses(self._labelled(rows, span.end), champion)["_loss"]
        return found | ({"loss": float(np.mean(each.to_numpy()))} if each.len() else {})

    def bounded(self, guard: Guarding, champion: Kept, usual: dict[str, float]) -> Guarding:
        """The guard with a bound for losses of numbers, which have no bound of their own, where the spec gives none."""
        if self.spec.task != "regression":
            return guard
        proven = champion.verdict.evidence.candidate_levels if champion.verdict else {}
        mean = usual.get("loss") or proven.get("mae") or proven.get("rmse")
        checks = tuple(
            check.model_copy(update={"largest": CUT * mean})
            if mean and check.of == "loss" and "largest" not in check.model_fields_set else check
            for check in guard.checks
        )  # fmt: skip
        return guard.model_copy(update={"checks": checks})

    # ---- during a release --------------------------------------------------------------------------------------------
    def look(self, pair: Pair, guard: Guarding, span: Span) -> Sight:
        """What arrived in a span, for every check that looks at such rows.

        Raises:
            Refused: a score or latency that cannot be.
        """
        answered = self._rows(Table.PREDICTIONS, span, [pair.champion, pair.challenger])
        copies = self._rows(Table.SHADOW, span, [pair.champion, pair.challenger])
        came = Arrivals(pair, answered, copies, self._refused(span), self._by(answered))
        keys = self._keyed(pair, span)
        compared: list[Compared] = []
        for stretch, part in pair.within(span):
            here = came.during(part)
            found = [*self._errors(here, stretch, _check(guard, "errors"))]
            if 0 < stretch.share < 1 and (check := _check(guard, "latency")) is not None:
                found += self._latency(here, check)
            compared += [replace(_hung(each, keys, here), earlier=stretch is not pair.stretches[-1]) for each in found]
        if (check := _check(guard, "loss")) is not None and pair.stretches:
            compared += self._loss(came, check, span, keys)
        return Sight(Seen(came.requests, tuple(compared)), self._shown(came))

    def _keyed(self, pair: Pair, span: Span) -> Keyed:
        """The keys of all answers since the release began."""
        since = pair.stretches[0].since if pair.stretches else span.start
        models = [pair.champion.candidate.id, pair.challenger.candidate.id]
        return keyed(self.lake, self.spec.rollout.key, Span(since, span.end), models, EARLY)

    @property
    def _reach(self) -> timedelta:
        """How far back a label may reach: the maturity of its window, counted from the window's beginning."""
        window = self.spec.observe.window
        return self.spec.observe.labels_mature_after + (window if isinstance(window, timedelta) else timedelta(days=1))

    def _rows(self, table: Table, span: Span, models: list[Kept], ids: pl.Series | None = None) -> pl.DataFrame:
        """Rows of a table that models answered and that arrived in a span, each id and model once."""
        rows = self.lake.read(table, since=span.start - EARLY, until=None)
        asked = pl.col("_model").is_in([kept.candidate.id for kept in models])
        rows = rows.filter(asked & pl.col("_arrived").is_between(span.start, span.end, closed="left"))
        if ids is not None:
            rows = rows.filter(pl.col("_id").is_in(ids.implode()))
        if table is Table.SHADOW:
            return rows.select(*COLUMNS, "_failed").collect().unique(["_id", "_model"], maintain_order=True)
        by = [pl.col(name).cast(pl.String) for name in self._by(rows)]
        return rows.select(*COLUMNS, *by).collect().unique(["_id", "_model"], maintain_order=True)

    def _by(self, rows: pl.LazyFrame | pl.DataFrame) -> tuple[str, ...]:
        """The columns that slices are named by, where rows have them."""
        known = rows.collect_schema().names()
        return tuple(name for name in self.spec.judge.slices.by if name in known)

    def _refused(self, span: Span) -> pl.DataFrame:
        """Requests that the model which answers failed on: `_arrived`, and the columns that slices are named by."""
        refused = self.lake.read(Table.REFUSED, since=span.start, until=span.end)
        rows = refused.filter(pl.col("_reason") == FAILED).select("_arrived", "_payload").collect()
        schema = self.lake.read(Table.PREDICTIONS, since=span.start, until=span.end).collect_schema()
        types = {name: dtype for name, dtype in schema.items() if name in self.spec.judge.slices.by}
        return rows.select("_arrived").hstack(columns_in(rows["_payload"], types))

    # ---- errors and latency ------------------------------------------------------------------------------------------
    def _errors(self, came: Arrivals, stretch: Stretch, check: Check | None) -> Iterator[Compared]:
        """Failed over asked, over all rows, then by slice."""
        paired = stretch.share == 0
        if check is None or not takes(check, paired=paired):
            return
        sides = came.tried(stretch.share)
        if any(side.height for side in sides):
            yield Compared("errors", *_failures(sides, paired=paired), paired=paired)
        for name, value in slices_of(sides, came.by) if check.slices else ():
            here = tuple(side.filter(pl.col(name) == value) for side in sides)
            if all(side.height for side in here):
                yield Compared("errors", *_failures(here, paired=paired), slice=f"{name}={value}", paired=paired)

    def _latency(self, came: Arrivals, check: Check) -> Iterator[Compared]:
        """Of answers. The server logs them without the way to the challenger's process (docs/why/0028).

        What the champion answered because the challenger failed waited for that, and is nobody's. Rows of one moment
        wait for the same things, each model's for others, so they count as one: with one model on both sides and two
        busy cores the guard took it back after 98 rows when each counted.
        """
        sides = (came.own, came.by_challenger)
        old, new = (_numbers(rows, "_latency_ms") for rows in sides)
        effect = _bursts(sides)
        if old.size or new.size:
            yield Compared("latency", old, new, effect=effect)
        for name, value in slices_of([came.answered], came.by) if check.slices else ():
            at = pl.col(name) == value
            old, new = (_numbers(rows.filter(at), "_latency_ms") for rows in (came.own, came.by_challenger))
            if old.size and new.size:
                yield Compared("latency", old, new, slice=f"{name}={value}", effect=effect)

    # ---- losses ------------------------------------------------------------------------------------------------------
    def _loss(self, came: Arrivals, check: Check, span: Span, keys: Keyed) -> Iterator[Compared]:
        """Losses of rows whose last part arrived in the span, stage by stage."""
        pair = came.pair
        oldest = max(pair.stretches[0].since, span.start - self._reach)
        labels = self.lake.read(Table.LABELS, since=span.start, until=span.end).select("_id").collect()["_id"]
        ids = pl.concat([labels, came.answered["_id"], came.copies["_id"]]).unique()
        whole, both = Span(oldest, span.end), [pair.champion, pair.challenger]
        answered = self._labelled(self._rows(Table.PREDICTIONS, whole, both, ids), span.end)
        copies = self._rows(Table.SHADOW, whole, both, ids)
        every = Arrivals(pair, answered, copies, came.refused, came.by)
        for stretch, part in pair.within(whole):
            here = every.during(part)
            if not takes(check, paired=stretch.share in (0, 1)):
                continue
            manner = self._paired if stretch.share in (0, 1) else self._apart
            for compared in manner(here, stretch, check, span):
                yield replace(_hung(compared, keys, here), earlier=stretch is not pair.stretches[-1])

    def _paired(self, came: Arrivals, stretch: Stretch, check: Check, span: Span) -> Iterator[Compared]:
        """Answers of one model beside the copies of the other, by id."""
        answers, copies = (
            (came.by_champion, came.copies_of_challenger) if stretch.share == 0
            else (came.by_challenger, came.copies_of_champion)
        )  # fmt: skip
        told = answers.select("_id", "_label", "_value", "_labelled_at", _first="_arrived")
        copied = copies.join(told, on="_id", maintain_order="left")
        last = pl.max_horizontal("_arrived", "_first", "_labelled_at")
        copied = copied.filter(last.is_between(span.start, span.end, closed="left"))
        pair = came.pair
        mine, other = (pair.champion, pair.challenger) if stretch.share == 0 else (pair.challenger, pair.champion)
        shared = self._losses(copied, other).join(
            self._losses(answers, mine).rename({"_loss": "_answer"}), on="_id", maintain_order="left"
        )
        sides = ("_answer", "_loss") if stretch.share == 0 else ("_loss", "_answer")
        yield from self._each(came, check, shared, shared, sides)

    def _apart(self, came: Arrivals, _: Stretch, check: Check, span: Span) -> Iterator[Compared]:
        """Answers of each model to its own keys."""
        last = pl.max_horizontal("_arrived", "_labelled_at")
        sides = [
            self._losses(rows.filter(last.is_between(span.start, span.end, closed="left")), kept)
            for rows, kept in ((came.own, came.pair.champion), (came.by_challenger, came.pair.challenger))
        ]
        yield from self._each(came, check, sides[0], sides[1], ("_loss", "_loss"))

    def _each(
        self, came: Arrivals, check: Check, champion: pl.DataFrame, challenger: pl.DataFrame, named: tuple[str, str]
    ) -> Iterator[Compared]:
        """Over all rows, then by slice; both sides are the same rows where they are one frame."""
        paired = champion is challenger
        if champion.height or challenger.height:
            yield Compared("loss", champion[named[0]].to_numpy(), challenger[named[1]].to_numpy(), paired=paired)
        for name, value in slices_of([came.answered], came.by) if check.slices else ():
            rows = came.answered.filter(pl.col(name) == value)["_id"]
            at = pl.col("_id").is_in(rows.implode())
            old, new = champion.filter(at)[named[0]].to_numpy(), challenger.filter(at)[named[1]].to_numpy()
            if old.size and new.size:
                yield Compared("loss", old, new, slice=f"{name}={value}", paired=paired)

    def _labelled(self, rows: pl.DataFrame, until: datetime) -> pl.DataFrame:
        """The rows whose label came before a moment and before it was too late; the first label of an id counts."""
        oldest = rows["_arrived"].min()
        labels = self.lake.read(Table.LABELS, since=oldest if isinstance(oldest, datetime) else None, until=until)
        known = labels.filter(pl.col("_id").is_in(rows["_id"].implode())).collect()
        first = known.sort("_arrived", "_label", "_value", nulls_last=True).unique("_id", keep="first")
        joined = rows.join(
            first.select("_id", "_label", "_value", _labelled_at="_arrived"), on="_id", maintain_order="left"
        )
        return joined.filter(pl.col("_labelled_at") <= pl.col("_arrived") + self._reach)

    def _losses(self, rows: pl.DataFrame, kept: Kept) -> pl.DataFrame:
        """`_id` and `_loss`: half the Brier score over all classes, 1 for a wrong class, or the absolute error."""
        candidate = kept.candidate
        told = with_outcome(rows, task=candidate.task, classes=candidate.classes)
        outcomes = outcomes_from(told, task=candidate.task, classes=candidate.classes, positive=candidate.positive)
        each: Floats
        if candidate.task == "regression":
            each = metrics.misses(1)(outcomes)[:, 1]
        elif self.spec.primary == "accuracy":
            each = losses.errors(outcomes)
        else:
            terms = metrics.squared_chances(outcomes)[:, 1]
            each = terms if candidate.task == "binary" else terms / 2
        return told.select("_id").with_columns(_loss=pl.Series(each, dtype=pl.Float64))

    # ---- for people --------------------------------------------------------------------------------------------------
    def _shown(self, came: Arrivals) -> dict[str, float]:
        """How the challenger failed, and how unlike both models answered the same request; nobody decides by it."""
        ways = came.copies_of_challenger["_failed"].drop_nulls().value_counts(sort=True)
        failed = {f"{FAILED_BY}{way}": float(count) for way, count in ways.sort("_failed").iter_rows()}
        copies = came.copies.filter(pl.col("_failed").is_null())
        paired = copies.join(came.answered, on="_id", suffix="_answer").filter(
            pl.col("_model") != pl.col("_model_answer")
        )
        if paired.is_empty():
            return failed
        score, answer = (pl.col(name).list.last() for name in ("_score", "_score_answer"))
        found = {
            "pairs": pl.len(),
            "disagreement": (pl.col("_prediction") != pl.col("_prediction_answer")).mean(),
            "score_shift": pl.lit(None) if self.spec.task == "multiclass" else (score - answer).mean(),
            "copy_latency_p99_ms": pl.col("_latency_ms").quantile(0.99),
        }
        told = paired.select(**found).row(0, named=True)
        return failed | {name: float(value) for name, value in told.items() if value is not None}


def prepared(
    spec: Spec, lake: Lake, standing: Standing, stages: Sequence[Stage], now: datetime
) -> tuple[Guarding | None, dict[str, float]]:
    """The guard of a release and what is usual for the champion; None where nothing will be compared."""
    champion = standing.champion
    if champion is None or not is_guarded(stages):
        return None, {}
    reading = Trial(spec, lake)
    usual = reading.usual(champion, now)
    guard = suited(spec.rollout.guard, stages, spec.observe.labels_mature_after)
    return reading.bounded(guard, champion, usual), usual


def _check(guard: Guarding, of: str) -> Check | None:
    try:
        return guard.check(of)
    except UsageError:
        return None


def _failures(sides: tuple[pl.DataFrame, ...], *, paired: bool) -> tuple[Floats | Sample, Floats | Sample]:
    """Failures of both sides: 0 or 1 for each row where the rows are the same, else their counts."""
    first, second = (side["_failed"] for side in sides)
    if paired:
        return first.cast(pl.Float64).to_numpy(), second.cast(pl.Float64).to_numpy()
    return rate_of(int(first.sum()), len(first)), rate_of(int(second.sum()), len(second))


def _hung(compared: Compared, keys: Keyed, came: Arrivals) -> Compared:
    """With the design effect of its rows: those of one key hang together."""
    rows = came.answered
    if compared.slice != ALL:
        name = next(name for name in came.by if compared.slice.startswith(f"{name}="))
        rows = rows.filter(pl.col(name) == compared.slice.removeprefix(f"{name}="))
    return replace(compared, effect=max(compared.effect, keys.effect(rows["_id"])))


def _bursts(sides: Sequence[pl.DataFrame]) -> float:
    """The design effect of rows of both models of which those of one moment count as one."""
    if any(side.is_empty() for side in sides):
        return 1.0
    counts = [side["_arrived"].dt.truncate(MOMENT).value_counts()["count"] for side in sides]
    effects = [effect_of(count, count) / side.height for count, side in zip(counts, sides, strict=True)]
    return sum(effects) / sum(1 / side.height for side in sides)  # of the variance of their difference


def _numbers(rows: pl.DataFrame, column: str) -> Floats:
    found: Floats = rows[column].drop_nulls().to_numpy()
    return found

"""The effects of runs: each method is one step, keyed by content, so that twice is once.

Takes a spec, a place for runs and the ports; gives what the step brought, as a value for the ledger; never appends to
the ledger itself, except to begin the release of a proven candidate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl

from everfit.clock import rest, ticks
from everfit.decide.worth import worth_after_probe
from everfit.detect.catalogue import Metric
from everfit.detect.harm import Permuted, importance_from, permuted
from everfit.detect.metrics import UserFunction
from everfit.detect.outcomes import Outcomes, outcomes_from
from everfit.detect.performance import level, paired_gain
from everfit.errors import DataBlocked, LeaseLost, ModelUnusable
from everfit.facts import CandidateTrained, DataChecked, Judged, Probed, ReleasePlanned, RenewBegan
from everfit.flows.answers import keep_scores, kept_scores
from everfit.flows.durable import Alive, Desk, Worker, begin
from everfit.flows.proof import Proving, backdrop
from everfit.flows.rules import rules_of
from everfit.ids import content_key
from everfit.judge.evidence import BASELINE, Case, Measured, trivial_baseline
from everfit.judge.prove import judge_candidate
from everfit.observe.labels import join
from everfit.observe.window import cut_windows
from everfit.ports import Job, Ports, Registration, Route, Table
from everfit.profile.table import Profile
from everfit.retrain.candidate import Candidate, ModelFile
from everfit.retrain.dataset import Dataset, cut, feature_frame, trained_on, training_frame
from everfit.retrain.options import DEFAULT_TRAINER, Last
from everfit.retrain.recipe import Known, Recipe, Subject, plan_recipe
from everfit.retrain.validate import blocked, inspect
from everfit.rollout.plan import plan_release
from everfit.spec import Spec, metrics_of
from everfit.standing import Kept, Standing, Story

SWAP_AT_MOST = 60.0  # seconds that servers have to answer with a new model before the release fails
TIMED_ROWS = 50  # single rows that are timed when the spec limits latency


@dataclass(frozen=True, slots=True)
class Steps:
    """What runs of one model do to the world."""

    spec: Spec
    project: Path
    runs: Path
    ports: Ports
    never: datetime = datetime(9999, 1, 1, tzinfo=UTC)
    swap_at_most: float = SWAP_AT_MOST
    functions: Mapping[str, UserFunction] = field(default_factory=dict)  # metrics of the user's own
    _at_hand: dict[str, tuple[pl.DataFrame, pl.DataFrame, Dataset]] = field(default_factory=dict)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What is measured, the primary metric first."""
        return metrics_of(self.spec, self.functions)

    def now(self) -> datetime:
        """The model's time."""
        return self.ports.clock.now()

    # ---- a training run ----------------------------------------------------------------------------------------------
    def choose_recipe(self, standing: Standing) -> Recipe:
        """Fix everything that determines the run."""
        if standing.schema is None:
            raise DataBlocked("no columns are known yet; send rows first")
        spec, lake = self.spec, self.ports.lake
        times = lake.read(Table.PREDICTIONS, since=None, until=None)
        first, last = times.select(pl.col("_time").min(), pl.col("_time").max().alias("last")).collect().row(0)
        if first is None:
            raise DataBlocked("the lake holds no rows yet; send rows first")
        matures, champion = spec.observe.labels_mature_after, standing.champion
        seen_until = last + timedelta(microseconds=1) + matures  # a past that ended long ago is judged at its own end
        trained_until = champion.candidate.trained_until if champion else None
        now = min(self.now(), seen_until)
        known = Known(now, first, matures, trained_until, self._split(now - matures))
        code = _code_key(spec.train.trainer, self.project)
        subject = Subject(spec.model, spec.task, spec.target, standing.schema, code, lake.version())
        return plan_recipe(subject, known, spec.train, spec.judge)

    def _split(self, mature: datetime) -> datetime | None:
        """Where the held-out share of the labelled rows begins: a share of rows, for streams pause and grow."""
        held_out, rows = self.spec.judge.holdout, self.spec.train.rows
        if isinstance(held_out, timedelta):
            return None
        since = mature - rows.last if isinstance(rows, Last) else None
        known = self.ports.lake.read(Table.LABELS, since=None, until=None).select("_id").unique()
        times = self.ports.lake.read(Table.PREDICTIONS, since=since, until=mature).select("_id", "_time")
        labelled = times.join(known, on="_id", how="semi").collect()["_time"].sort()
        return labelled[int(labelled.len() * (1 - held_out))] if labelled.len() else None

    def pin(self, run: str, recipe: Recipe) -> Dataset:
        """Name the rows for ever."""
        return self._rows(recipe)[2]

    def check_data(self, standing: Standing, run: str, recipe: Recipe) -> DataChecked:
        """Inspect the rows before anything is learned from them."""
        train, holdout, _ = self._rows(recipe)
        champion = standing.champion
        reference = None
        if champion is not None and champion.reference is not None:
            reference = Profile.from_bytes(self.ports.notes.get(champion.reference))
        findings = inspect(
            train, holdout, recipe, at_least=self.spec.train.at_least, reference=reference,
            quality=self.spec.watch.quality,
        )  # fmt: skip
        return DataChecked(findings, fit=not blocked(findings))

    def train(self, standing: Standing, run: str, recipe: Recipe, dataset: Dataset, alive: Alive) -> CandidateTrained:
        """Train in a child process; the model lies on the shelf afterwards."""
        train, holdout, _ = self._rows(recipe)
        folder = self.runs / run
        folder.mkdir(parents=True, exist_ok=True)
        training_frame(train, recipe).write_parquet(folder / "train.parquet")
        asked, _ = _asked(holdout, recipe)
        feature_frame(asked, recipe).write_parquet(folder / "holdout.parquet")
        made = self.ports.trainer.train(self._job(folder, recipe, dataset.classes), alive)
        file = self.ports.models.keep(made.folder, made.format)
        if made.scores is not None:
            keep_scores(folder, file, asked, made.scores)
        # The rows are pinned in the lake; a copy a run would fill the disk. Another worker may have come first.
        (folder / "train.parquet").unlink(missing_ok=True)
        candidate = Candidate(
            recipe.id, file, recipe.task, recipe.schema, dataset.classes, self._positive(dataset.classes),
            recipe.train.end, dataset.train_rows,
        )  # fmt: skip
        return CandidateTrained(candidate, round(made.seconds, 3))

    def probe(self, standing: Standing, run: str, recipe: Recipe, dataset: Dataset, alive: Alive) -> Probed:
        """Train on few rows, the newest, and ask whether training on all of them can be worth it."""
        champion, options = standing.champion, self.spec.decide.worth.probe
        if champion is None or options is None:
            return Probed(None, go_on=True, said="nothing to probe against")
        train, holdout, _ = self._rows(recipe)
        folder = self.runs / run / "probe"
        folder.mkdir(parents=True, exist_ok=True)
        training_frame(train.sort("_time").tail(options.rows), recipe).write_parquet(folder / "train.parquet")
        feature_frame(holdout, recipe).write_parquet(folder / "holdout.parquet")
        made = self.ports.trainer.train(replace(self._job(folder, recipe, dataset.classes), timed_rows=0), alive)
        tried = Candidate(
            recipe.id, ModelFile("probe", made.format, 0), recipe.task, recipe.schema, dataset.classes,
            self._positive(dataset.classes), recipe.train.end, min(options.rows, dataset.train_rows),
        )  # fmt: skip
        if made.scores is None:
            return Probed(None, go_on=True, said="the probe left no scores of the held-out rows")
        mine = self._outcomes(holdout.drop(made.scores.columns, strict=False).hstack(made.scores), tried)
        theirs = self._scored(run, champion.candidate, holdout, recipe, alive)
        against = self._outcomes(_same_order(theirs, champion.candidate, tried), tried)
        gain = paired_gain(self.metrics[0], mine, against)
        if gain is None:
            return Probed(None, go_on=True, said=f"{self.spec.primary} is not defined on the held-out rows")
        return Probed(gain, *worth_after_probe(gain, standing.history, rules_of(self.spec)))

    def register(self, story: Story, recipe: Recipe, dataset: Dataset, candidate: Candidate) -> int:
        """Let people look the candidate up."""
        began = story.find(RenewBegan)
        tags = {
            "everfit.run": story.run,
            "everfit.recipe": recipe.id,
            "everfit.data": f"predictions@{recipe.lake.predictions} labels@{recipe.lake.labels}",
            "everfit.rows": dataset.fingerprint,
            "everfit.code": recipe.code,
            "everfit.cause": "; ".join(dict.fromkeys(reason.said for reason in began.because)) if began else "",
        }
        parameters = {name: str(value) for name, value in recipe.parameters.items()} | {
            "trainer": recipe.trainer, "seed": str(recipe.seed), "train": str(recipe.train),
            "holdout": str(recipe.holdout),
        }  # fmt: skip
        metrics = {"train_rows": float(dataset.train_rows), "holdout_rows": float(dataset.holdout_rows)}
        folder = self.ports.models.path(candidate.file)
        return self.ports.registry.add(self.spec.model, Registration(candidate, folder, parameters, metrics, tags))

    def judge(self, standing: Standing, run: str, candidate: Candidate, alive: Alive) -> Judged:
        """Compare on rows that nobody trained on: with the champion, or the trivial baseline if there is none."""
        recipe = standing.bench[candidate.id].recipe
        train, holdout, _ = self._rows(recipe)
        asked, moved = _asked(holdout, recipe)
        answered = self._scored(run, candidate, asked, recipe, alive)
        scored = answered[: holdout.height]
        outcomes, champion = self._outcomes(scored, candidate), standing.champion
        if champion is None:
            against, name = self._baseline(train, scored, candidate), BASELINE
        else:
            theirs = self._scored(run, champion.candidate, holdout, recipe, alive)
            against, name = (
                self._outcomes(_same_order(theirs, champion.candidate, candidate), candidate),
                champion.candidate.id,
            )
        case = Case(candidate.id, name, self.metrics[0], self.metrics, recipe.holdout)
        verdict = judge_candidate(case, outcomes, against, self.spec.judge, self._measured(scored, candidate))
        importance = {}
        if outcomes.rows == holdout.height:
            scores = np.array(answered["_score"][holdout.height :].to_list(), dtype=np.float64)
            importance = importance_from(moved, scores, outcomes, self.metrics[0])
        proving = Proving(train, scored, candidate)
        reference, rest = backdrop(proving, self.spec, self.ports.notes, importance)
        return Judged(verdict, reference, self._per_window(scored, candidate), rest)

    def _per_window(self, scored: pl.DataFrame, candidate: Candidate) -> dict[str, float]:
        """The mean level in windows of the proving rows. A metric of a week is not the mean of its days'.

        On the demo's year ROC AUC is 0.757 over all rows and 0.695 as the mean of the days: `everfit demo` prints both.
        """
        parts = cut_windows(scored, self.spec.observe, at_least=self.spec.watch.at_least)
        whole = [self._outcomes(part, candidate) for part in parts]
        levels = {metric.name: [level(metric, each) for each in whole] for metric in self.metrics}
        found = {metric: [value for value in values if value is not None] for metric, values in levels.items()}
        return {metric: sum(values) / len(values) for metric, values in found.items() if values}

    def shadow(self, kept: Kept, rows: pl.DataFrame) -> pl.DataFrame:
        """What a kept model would have answered to rows that it did not serve, made in a child."""
        folder = self.runs / "shadow"
        folder.mkdir(parents=True, exist_ok=True)
        features = folder / "rows.parquet"
        feature_frame(rows, kept.recipe).write_parquet(features)
        job = self._job(folder, kept.recipe, kept.candidate.classes)
        return self.ports.trainer.score(self.ports.models.path(kept.candidate.file), features, job, lambda: True)

    def describe(self, version: int, judged: Judged) -> None:
        """Tell the registry how the candidate did."""
        evidence = judged.verdict.evidence
        metrics = {f"proven_{name}": value for name, value in evidence.candidate_levels.items()}
        if evidence.gain is not None:
            metrics |= {
                "gain": evidence.gain.value,
                "gain_low": evidence.gain.low,
                "gain_high": evidence.gain.high,
            }
        tags = {"everfit.verdict": judged.verdict.kind, "everfit.said": judged.verdict.said,
                "everfit.reference": judged.reference or ""}  # fmt: skip
        self.ports.registry.describe(self.spec.model, version, metrics, tags)

    def plan_release(self, standing: Standing, candidate: Candidate, version: int, run: str) -> None:
        """Begin the release of a proven candidate. Its name is its cause: planning twice is planning once."""
        live = standing.history.champion
        previous = live.candidate if live else None
        stages = plan_release(candidate.id, previous, self.spec.rollout)
        plan = ReleasePlanned(candidate.id, version, previous, stages, run, back=False)
        desk = Desk(self.ports.ledger, self.ports.leases, self.now, Worker("worker"))
        begin(desk, self.spec.model, f"release-{content_key(candidate.id, run)}", plan)

    # ---- a release ---------------------------------------------------------------------------------------------------
    def publish(self, kept: Kept) -> None:
        """Put the model's files where servers load them, and name it challenger."""
        folder = self.ports.models.path(kept.candidate.file)
        self.ports.gateway.publish(kept.candidate, kept.version, folder)
        self.ports.registry.alias(self.spec.model, {"challenger": kept.version})  # until it goes live

    def go_live(self, kept: Kept, before: Kept | None, key: str, alive: Alive) -> None:
        """Point all traffic to a model and see that every server answers with it. If one cannot, point back.

        What to point back to comes from the plan: after a crash within this step the gateway names the new model.

        Raises:
            ModelUnusable: a server does not answer with it; traffic goes where it went before.
        """
        gateway, model = self.ports.gateway, self.spec.model
        gateway.point(model, Route(kept.candidate.id, kept.version, key))
        since = ticks()
        while not gateway.confirmed(model):
            if not alive():
                raise LeaseLost(f"the lease of {key} was lost while servers swapped; whoever took it goes on")
            if ticks() > since + self.swap_at_most:
                if before is not None:
                    gateway.point(model, Route(before.candidate.id, before.version, f"{key}-undone"))
                raise ModelUnusable(
                    f"version {kept.version} was not answered with after {self.swap_at_most:g} s; see the servers' log"
                )
            rest(0.01)

    def alias(self, standing: Standing, champion: str) -> None:
        """Name champion, challenger and previous in the registry."""
        versions = {name: kept.version for name, kept in standing.bench.items()}
        previous = versions.get(standing.history.previous or "")
        aliases = {"champion": versions[champion], "previous": previous, "challenger": None}
        self.ports.registry.alias(self.spec.model, aliases)

    def tidy(self, standing: Standing, keep: int) -> None:
        """Drop the files of versions beyond those that are kept. The ledger and the registry remember them."""
        safe = {standing.history.previous, standing.history.champion and standing.history.champion.candidate}
        newest = sorted(standing.bench.values(), key=lambda kept: -kept.version)
        going = [kept for kept in newest[keep:] if kept.candidate.id not in safe]
        staying = {kept.candidate.file.key for kept in newest if kept not in going}  # equal models share their file
        for kept in going:
            self.ports.gateway.withdraw(self.spec.model, kept.candidate.id)
            if kept.candidate.file.key not in staying:
                self.ports.models.drop(kept.candidate.file)

    # ---- parts -------------------------------------------------------------------------------------------------------
    def _rows(self, recipe: Recipe) -> tuple[pl.DataFrame, pl.DataFrame, Dataset]:
        """The rows that a recipe names, from the pinned version of the lake; the last ones are kept at hand."""
        if recipe.id not in self._at_hand:
            self._at_hand.clear()
            self._at_hand[recipe.id] = self._read(recipe)
        return self._at_hand[recipe.id]

    def _read(self, recipe: Recipe) -> tuple[pl.DataFrame, pl.DataFrame, Dataset]:
        lake = self.ports.lake
        since, until = recipe.train.start, recipe.holdout.end
        rows = lake.read(Table.PREDICTIONS, since=since, until=until, version=recipe.lake.predictions).collect()
        labels = lake.read(
            Table.LABELS, since=since - timedelta(days=1), until=None, version=recipe.lake.labels
        ).collect()
        joined = join(rows, labels, as_of=recipe.as_of)
        train, holdout, dataset = cut(joined, recipe)
        return train, holdout, dataset

    def _job(self, folder: Path, recipe: Recipe, classes: Sequence[str]) -> Job:
        options = self.spec.train
        categories = tuple(column.name for column in recipe.schema.features if column.kind == "category")
        return Job(
            folder=folder, project=self.project, trainer=recipe.trainer, parameters=recipe.parameters, seed=recipe.seed,
            task=recipe.task, target=recipe.target, features=trained_on(recipe), categories=categories,
            classes=tuple(classes), timeout=options.timeout, memory=options.memory, positive=self._positive(classes),
            timed_rows=TIMED_ROWS if self.spec.judge.limits.latency_p99 else 0,
        )  # fmt: skip

    def _positive(self, classes: Sequence[str]) -> str | None:
        if self.spec.task != "binary":
            return None
        return self.spec.positive or (classes[-1] if classes else None)

    def _scored(
        self, run: str, candidate: Candidate, holdout: pl.DataFrame, recipe: Recipe, alive: Alive
    ) -> pl.DataFrame:
        """Held-out rows with a model's scores: as its training left them, else made in a child.

        A model that crashes must not take the worker along.
        """
        folder = self.runs / run
        folder.mkdir(parents=True, exist_ok=True)
        job = self._job(folder, recipe, candidate.classes)
        kept = None if job.timed_rows else kept_scores(folder, candidate.file, holdout)
        if kept is not None:
            return holdout.drop(kept.columns, strict=False).hstack(kept)
        rows = folder / "holdout.parquet"
        feature_frame(holdout, recipe).write_parquet(rows)
        scores = self.ports.trainer.score(self.ports.models.path(candidate.file), rows, job, alive)
        return holdout.drop(scores.columns, strict=False).hstack(scores)

    def _outcomes(self, scored: pl.DataFrame, candidate: Candidate) -> Outcomes:
        return outcomes_from(scored, task=candidate.task, classes=candidate.classes, positive=candidate.positive)

    def _baseline(self, train: pl.DataFrame, scored: pl.DataFrame, candidate: Candidate) -> Outcomes:
        truth = "_value" if candidate.task == "regression" else "_label"
        scores = trivial_baseline(train[truth].to_list(), scored.height, task=candidate.task, classes=candidate.classes)
        return self._outcomes(
            scored.with_columns(_score=pl.Series(scores.tolist(), dtype=pl.List(pl.Float64))), candidate
        )

    def _measured(self, scored: pl.DataFrame, candidate: Candidate) -> Measured:
        slices = {name: scored[name].to_numpy() for name in self.spec.judge.slices.by if name in scored.columns}
        latency = None
        if "_latency_ms" in scored.columns and (timed := scored["_latency_ms"].drop_nulls()).len():
            latency = timedelta(milliseconds=float(np.quantile(timed.to_numpy(), 0.99)))
        return Measured(slices=slices, size=candidate.file.size, latency_p99=latency)


def _asked(holdout: pl.DataFrame, recipe: Recipe) -> tuple[pl.DataFrame, Permuted]:
    """Rows that a candidate is asked about: the held-out ones, then some of them with one column permuted."""
    moved = permuted(holdout, trained_on(recipe))
    return pl.concat([holdout, moved.frame]), moved


def _same_order(scored: pl.DataFrame, theirs: Candidate, ours: Candidate) -> pl.DataFrame:
    """Scores of another model in our order of classes; a class that it does not know has no chance."""
    if theirs.classes == ours.classes:
        return scored
    places = [theirs.classes.index(name) if name in theirs.classes else None for name in ours.classes]
    parts = [pl.lit(0.0) if place is None else pl.col("_score").list.get(place) for place in places]
    return scored.with_columns(_score=pl.concat_list(parts))


def _code_key(trainer: str, project: Path) -> str:
    """The version of the trainer's code: its module's content, or our own version for the default."""
    if trainer == DEFAULT_TRAINER:
        return f"everfit {version('everfit')}"
    module = project / f"{trainer.split(':', maxsplit=1)[0].replace('.', '/')}.py"
    return content_key(module.read_text()) if module.exists() else "installed"

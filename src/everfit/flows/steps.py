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

import polars as pl

from everfit.clock import rest, ticks
from everfit.decide.decision import BenchRun
from everfit.decide.worth import worth_after_probe
from everfit.detect.catalogue import Metric
from everfit.detect.metrics import UserFunction
from everfit.detect.performance import paired_gain
from everfit.errors import Conflict, DataBlocked, LeaseLost, ModelUnusable
from everfit.facts import CandidateTrained, DataChecked, Judged, Probed, RecallBegan, ReleasePlanned, RenewBegan
from everfit.flows.answers import keep_scores
from everfit.flows.bench import span_of_rows, spans_for, turns_of
from everfit.flows.durable import Alive, Desk, Worker, begin
from everfit.flows.judging import Judge, Matter, asked_of
from everfit.flows.rules import rules_of
from everfit.flows.scoring import Scoring, outcomes_of, same_order
from everfit.flows.shadows import labelled_rows
from everfit.flows.trial import prepared
from everfit.ids import content_key
from everfit.judge.gates import BenchWord
from everfit.observe.labels import join
from everfit.observe.window import Span
from everfit.ports import Ports, Registration, Route, Table
from everfit.profile.table import Profile
from everfit.retrain.candidate import Candidate, ModelFile
from everfit.retrain.dataset import Dataset, cut, feature_frame, training_frame
from everfit.retrain.options import DEFAULT_TRAINER, Last
from everfit.retrain.recipe import Known, Recipe, Subject, bench_recipe, plan_recipe
from everfit.retrain.validate import blocked, inspect
from everfit.rollout.plan import plan_release
from everfit.spec import Spec, metrics_of
from everfit.standing import Kept, Standing, Story

SWAP_AT_MOST = 60.0  # seconds that servers have to answer with a new model before the release fails


@dataclass(frozen=True, slots=True)
class Steps:
    """What runs of one model do to the world."""

    spec: Spec
    project: Path
    runs: Path
    ports: Ports
    never: datetime = datetime(9999, 1, 1, tzinfo=UTC)
    swap_at_most: float = SWAP_AT_MOST
    replay: bool = False  # time is the events': releases are looked at when windows end, and every row is in the lake
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
    @property
    def scoring(self) -> Scoring:
        """Asks models about rows."""
        return Scoring(self.spec, self.project, self.runs, self.ports)

    @property
    def judging(self) -> Judge:
        """Judges candidates."""
        return Judge(self.spec, self.scoring, self.metrics)

    def choose_recipe(self, standing: Standing, asked: BenchRun | None) -> Recipe:
        """Fix everything that determines the run."""
        if standing.schema is None:
            raise DataBlocked("no columns are known yet; send rows first")
        spec, lake = self.spec, self.ports.lake
        times = lake.read(Table.PREDICTIONS, since=None, until=None)
        first, last = times.select(pl.col("_time").min(), pl.col("_time").max().alias("last")).collect().row(0)
        if first is None:
            raise DataBlocked("the lake holds no rows yet; send rows first")
        code = _code_key(spec.train.trainer, self.project)
        subject = Subject(spec.model, spec.task, spec.target, standing.schema, code, lake.version())
        if asked is not None:
            return bench_recipe(subject, self._bench_rows(standing, asked), self.now(), spec.train)
        matures, champion = spec.observe.labels_mature_after, standing.champion
        seen_until = last + timedelta(microseconds=1) + matures  # a past that ended long ago is judged at its own end
        trained_until = champion.candidate.trained_until if champion else None
        now = min(self.now(), seen_until)
        known = Known(now, first, matures, trained_until, self._split(now - matures))
        return plan_recipe(subject, known, spec.train, spec.judge)

    def _bench_rows(self, standing: Standing, asked: BenchRun) -> Span:
        turns = turns_of(standing, self.spec.decide.bench, self.spec.observe)
        if turns is None:
            raise DataBlocked("there is no bench yet: no model went live")
        if "rows" in self.spec.train.model_fields_set:  # the spec names them: `bench_recipe` cuts them
            asked = replace(asked, first=0)
        rows = self.ports.lake.read(Table.PREDICTIONS, since=None, until=None).select("_id", "_time")
        return span_of_rows(asked, turns, self.spec.observe, rows.collect().unique("_id")["_time"].sort())

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
        asked, _ = asked_of(holdout, recipe)
        feature_frame(asked, recipe).write_parquet(folder / "holdout.parquet")
        made = self.ports.trainer.train(self.scoring.job(folder, recipe, dataset.classes), alive)
        file = self.ports.models.keep(made.folder, made.format)
        if made.scores is not None and recipe.holds_out:
            keep_scores(folder, file, asked, made.scores)
        # The rows are pinned in the lake; a copy a run would fill the disk. Another worker may have come first.
        (folder / "train.parquet").unlink(missing_ok=True)
        candidate = Candidate(
            recipe.id, file, recipe.task, recipe.schema, dataset.classes, self.scoring.positive(dataset.classes),
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
        made = self.ports.trainer.train(replace(self.scoring.job(folder, recipe, dataset.classes), timed_rows=0), alive)
        tried = Candidate(
            recipe.id, ModelFile("probe", made.format, 0), recipe.task, recipe.schema, dataset.classes,
            self.scoring.positive(dataset.classes), recipe.train.end, min(options.rows, dataset.train_rows),
        )  # fmt: skip
        if made.scores is None:
            return Probed(None, go_on=True, said="the probe left no scores of the held-out rows")
        mine = outcomes_of(holdout.drop(made.scores.columns, strict=False).hstack(made.scores), tried)
        theirs = self.scoring.scored(run, champion.candidate, holdout, recipe, alive)
        against = outcomes_of(same_order(theirs, champion.candidate, tried), tried)
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
            "holdout": str(recipe.holdout) if recipe.holds_out else "none",
        }  # fmt: skip
        metrics = {"train_rows": float(dataset.train_rows), "holdout_rows": float(dataset.holdout_rows)}
        folder = self.ports.models.path(candidate.file)
        return self.ports.registry.add(self.spec.model, Registration(candidate, folder, parameters, metrics, tags))

    def judge(self, standing: Standing, run: str, candidate: Candidate, alive: Alive) -> Judged:
        """Compare on rows that nobody trained on: with the champion, or the trivial baseline if there is none."""
        recipe = standing.bench[candidate.id].recipe
        train, holdout, _ = self._rows(recipe)
        matter = Matter(run, candidate, recipe, train, holdout, recipe.holdout, standing.champion)
        return self.judging.judged(matter, alive)

    def judge_recalled(self, standing: Standing, story: Story, began: RecallBegan, alive: Alive) -> Judged:
        """Compare a kept model with the champion, on the bench's windows that came after both had been trained."""
        kept, against = standing.bench[began.candidate], standing.bench[began.against]
        spans = spans_for(standing, began, self.spec.decide.bench.look)
        if not spans:
            raise ModelUnusable(f"no window of the bench came after version {kept.version} and the champion")
        rows = labelled_rows(self.ports.lake, spans, as_of=story.times[0])
        span = Span(spans[0].start, spans[-1].end)
        # A person asks for a verdict, not for the bench's word: the paired interval decides.
        word = None if began.by else BenchWord(began.gain, began.margin, len(spans))
        train, _, _ = self._rows(kept.recipe)
        matter = Matter(story.run, kept.candidate, kept.recipe, train, rows, span, against, word)
        return self.judging.judged(matter, alive)

    def shadow(self, kept: Kept, rows: pl.DataFrame) -> pl.DataFrame:
        """What a kept model would have answered to rows that it did not serve, made in a child."""
        return self.scoring.one(kept, rows)

    def shadows(self, kept: Sequence[Kept], rows: pl.DataFrame) -> dict[str, pl.DataFrame | str]:
        """What several kept models would have answered, or why one of them could not, made in one child."""
        return self.scoring.each(kept, rows)

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

    def plan_release(self, standing: Standing, candidate: Candidate, version: int, run: str, *, by: str = "") -> None:
        """Begin the release of a proven candidate. Its name is its cause: planning twice is planning once.

        A version that a person recalls (`by`) has their approval already.
        """
        live = standing.history.champion
        previous = live.candidate if live else None
        rolling = self.spec.rollout.model_copy(update={"approve": False}) if by else self.spec.rollout
        stages = plan_release(candidate.id, previous, rolling)
        guard, usual = prepared(self.spec, self.ports.lake, standing, stages, self.now())
        plan = ReleasePlanned(
            candidate.id, version, previous, stages, run, back=False, guard=guard, usual=usual, by=by
        )  # fmt: skip
        desk = Desk(self.ports.ledger, self.ports.leases, self.now, Worker("worker"))
        begin(desk, self.spec.model, release_of(candidate.id, run), plan)

    # ---- a release ---------------------------------------------------------------------------------------------------
    def publish(self, kept: Kept) -> str:
        """Put the model's files where servers load them, and name it challenger; the key that is live now, or ""."""
        folder = self.ports.models.path(kept.candidate.file)
        self.ports.gateway.publish(kept.candidate, kept.version, folder)
        self.ports.registry.alias(self.spec.model, {"challenger": kept.version})  # until it goes live
        live = self.ports.gateway.live(self.spec.model)
        return live.key if live else ""

    def disown(self) -> None:
        """No version is the challenger any more."""
        self.ports.registry.alias(self.spec.model, {"challenger": None})

    def go_live(self, kept: Kept, before: Kept | None, key: str, alive: Alive, *, after: str | None = None) -> None:
        """Point all traffic to a model and see that every server answers with it. If one cannot, point back.

        What to point back to comes from the plan: after a crash within this step the gateway names the new model.
        `after` is the key that must be live still, so that a step which slept does not point after a person has.

        Raises:
            ModelUnusable: a server does not answer with it; traffic goes where it went before.
        """
        gateway, model = self.ports.gateway, self.spec.model
        try:
            gateway.point(model, Route(kept.candidate.id, kept.version, key), after=after)
        except Conflict as error:
            raise ModelUnusable(f"traffic was pointed elsewhere meanwhile: {error}") from error
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
        champion, previous = standing.history.champion, standing.history.previous
        behind = {past.previous for _, past in standing.releases if past.candidate == previous}  # after going back
        safe = {previous, champion and champion.candidate, *behind}
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


def release_of(candidate: str, run: str) -> str:
    """The name of the release that a run plans for a candidate: planning twice is planning once.

    >>> release_of("c1", "renew-1") == release_of("c1", "renew-1") != release_of("c1", "renew-2")
    True
    """
    return f"release-{content_key(candidate, run)}"


def _code_key(trainer: str, project: Path) -> str:
    """The version of the trainer's code: its module's content, or our own version for the default."""
    if trainer == DEFAULT_TRAINER:
        return f"everfit {version('everfit')}"
    module = project / f"{trainer.split(':', maxsplit=1)[0].replace('.', '/')}.py"
    return content_key(module.read_text()) if module.exists() else "installed"

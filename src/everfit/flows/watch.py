"""The watch: a plain idempotent loop over moments. Windows close, labels mature, the bench is scored, runs are begun.

Takes the ports, the spec and the time; gives facts in the ledger; never trains or releases (it begins the runs that
do). Every fact is keyed by its place in the watch's story: running it twice changes nothing, and after an outage it
catches up moment by moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum

from everfit.decide.decision import Decision, Recall, Retrain, RollBack, Wait
from everfit.decide.history import History
from everfit.decide.options import Asked, OnAll, OnAny, OnSchedule, Trigger, write_rules
from everfit.decide.policy import Rules, decide
from everfit.decide.schedule import next_fire
from everfit.facts import Decided, Fact, RecallBegan, RenewBegan, SchemaLearned, Silence, WindowClosed, WindowMatured
from everfit.flows.bench import Turns, began_of, turns_of, with_bench
from everfit.flows.durable import Desk, Follower, begin
from everfit.flows.fleet import fleet_record
from everfit.flows.measure import Measure
from everfit.flows.release import way_back
from everfit.flows.rules import rules_of
from everfit.flows.shadows import score_turn
from everfit.ids import content_key
from everfit.observe.options import Rows
from everfit.observe.schema import Schema
from everfit.observe.window import Span, mature_at, next_windows, skip_silence, window_of
from everfit.ports import Write
from everfit.spec import Spec
from everfit.standing import WATCH, Standing, run_of


class What(IntEnum):
    """What is to be looked at, in the order at one moment: the bench comes after every window that ended is closed."""

    MATURE = 1  # a window's labels have had the time to arrive
    WAKE = 2  # a schedule fires, or a run goes on
    WINDOW = 3  # a window ends
    BENCH = 4  # all labels of a window of the bench are there


@dataclass(frozen=True, slots=True, order=True)
class Due:
    """A moment at which something is to be looked at."""

    at: datetime
    what: What
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Watch:
    """The watch of one model."""

    spec: Spec
    desk: Desk
    measure: Measure
    follower: Follower
    functions: Mapping[str, Asked] = field(default_factory=dict)  # triggers of the user's own
    _fleet: dict[str, Follower] = field(default_factory=dict)  # of the other models

    # ---- what is due -------------------------------------------------------------------------------------------------
    def due(self, until: datetime) -> list[Due]:
        """Every window to close and every window that matured, up to a moment, in the order of time."""
        standing = self.follower.standing()
        found = [Due(mature_at(w.span, self.spec.observe), What.MATURE, w.span) for w in standing.immature]
        ends = self._closing(standing, until)
        found += [Due(span.end + self.spec.observe.late_by, What.WINDOW, span) for span in ends]
        turn = turns.due if (turns := self._turns(standing)) is not None else None
        if turn is not None:
            found.append(Due(mature_at(turn.span, self.spec.observe), What.BENCH, turn.span))
        return sorted(due for due in found if due.at <= until)

    def _turns(self, standing: Standing) -> Turns | None:
        """The windows of the bench, if anybody can score its models."""
        if self.measure.shadows is None:
            return None
        return turns_of(standing, self.spec.decide.bench, self.spec.observe)

    def next_alarm_clock(self, after: datetime, until: datetime) -> Due | None:
        """The next moment at which a schedule fires or a run wakes."""
        wakes = [wake for wake in self.desk.ledger.sleepers(self.spec.model).values() if after < wake <= until]
        fires = [fire for fire in self._fires(after) if fire <= until]
        return Due(min(wakes + fires), What.WAKE) if wakes or fires else None

    def _fires(self, after: datetime) -> Iterator[datetime]:
        if after.year < 2:  # before the first event there is no time to schedule in
            return
        for trigger in _schedules(self.spec.triggers):
            yield next_fire(trigger.schedule, trigger.timezone, after)

    def _closing(self, standing: Standing, until: datetime) -> list[Span]:
        cursor = self._cursor(standing)
        if cursor is None:
            return []
        times = self.measure.times(cursor, until) if isinstance(self.spec.observe.window, Rows) else None
        return next_windows(self.spec.observe, cursor=cursor, watermark=until, times=times)

    def _cursor(self, standing: Standing) -> datetime | None:
        """Where the next window begins: the watch begins with the window in which the first champion went live."""
        if standing.closed_until is not None:
            return standing.closed_until
        if not standing.releases:
            return None
        first = standing.releases[0][0]
        return first if isinstance(self.spec.observe.window, Rows) else window_of(first, self.spec.observe).start

    # ---- doing it ----------------------------------------------------------------------------------------------------
    def learn(self, schema: Schema) -> None:
        """Freeze the columns."""
        self._write(SchemaLearned(schema))

    def catch_up(self) -> None:
        """Decide on a window whose decision a crash prevented, and what a recall left open."""
        standing = self.follower.standing()
        if standing.undecided is not None:
            self.decide(standing.undecided)
        elif standing.decisions and isinstance(standing.decisions[-1][2], Recall):
            self.decide()

    def visit(self, due: Due) -> None:
        """Do what a moment asks for, then decide."""
        standing = self.follower.standing()
        match due:
            case Due(what=What.MATURE, span=Span() as span):
                self._write(self._matured(standing, span))
            case Due(what=What.BENCH):
                if not self._scored(standing):
                    return
            case Due(what=What.WINDOW, span=Span() as span):
                if self._skipped(standing, span):
                    return
                self._write(self._closed(standing, span))
                if span.start.isocalendar().week != span.end.isocalendar().week:
                    self.measure.lake.tidy(span.start)  # once a week the small files of old days are merged
        self.decide(due.span)

    def decide(self, window: Span | None = None) -> Decision:
        """Ask the policy. Its answer is recorded with every window, and between windows when it says something new."""
        standing = self.follower.standing()
        if standing.unstarted is not None:  # a crash came between the decision and the first fact of its run
            self._begin(standing, standing.unstarted)
            standing = self.follower.standing()
        rules, now = rules_of(self.spec, self.functions), self.desk.now()
        decision = decide(self._known(standing, rules, now), rules, now)
        if window is not None or not (isinstance(decision, Wait) or _same(standing, decision)):
            self._write(Decided(decision, window, self.measure.hand.notes.put(write_rules(rules))), now)
        if isinstance(decision, Retrain | Recall | RollBack):
            self._begin(self.follower.standing(), decision)
        # A recall and a training run of one look at the bench are two decisions; the evidence of the first is used now.
        return self.decide() if isinstance(decision, Recall) else decision

    def _known(self, standing: Standing, rules: Rules, now: datetime) -> History:
        """The history, with what a decision needs and the model's own ledger does not say."""
        past, fleet = with_bench(standing, rules.limits.bench), rules.limits.fleet
        if past.champion is None:
            past = replace(past, labels=self.measure.labelled(now))
        if fleet is not None:
            past = replace(
                past, fleet=fleet_record(self.desk.ledger, self._fleet, self.spec.model, fleet, self.desk.now())
            )
        return past

    def _closed(self, standing: Standing, span: Span) -> WindowClosed:
        return self.measure.close(standing, span)

    def _matured(self, standing: Standing, span: Span) -> WindowMatured:
        return self.measure.mature(standing, span, mature_at(span, self.spec.observe))

    def _scored(self, standing: Standing) -> bool:
        """Score the models of the bench on its next window; False if somebody else has."""
        turns = self._turns(standing)
        if turns is None or turns.due is None:
            return False
        self._write(score_turn(standing, turns, turns.due, self.measure))
        return True

    def _skipped(self, standing: Standing, span: Span) -> bool:
        """Pass over a silence in one step instead of recording every empty window of it."""
        first = self.measure.first_after(span.start)
        if first is not None and first < span.end:
            return False
        before = standing.history.windows[-1] if standing.history.windows else None
        if before is None or before.rows > 0:
            return False  # the first empty window is recorded: missing data is a signal
        limit = first if first is not None else self.desk.now()
        end = skip_silence(span.start, limit, self.spec.observe)
        if end <= span.end:
            return False
        self._write(Silence(Span(span.start, end)))
        return True

    def _begin(self, standing: Standing, decision: Retrain | Recall | RollBack) -> None:
        """Begin the run that a decision asks for."""
        if isinstance(decision, RollBack):
            self._go_back(standing, decision)
            return
        begin(self.desk, self.spec.model, run_of(decision), self._began(standing, decision))

    def _began(self, standing: Standing, decision: Retrain | Recall) -> RenewBegan | RecallBegan:
        """The first fact of a run."""
        if isinstance(decision, Recall):
            return began_of(standing, decision, self.spec.decide.bench, self.spec.judge.better_by)
        return RenewBegan(decision.because, standing.history.champion is None, decision.probe, decision.bench)

    def _go_back(self, standing: Standing, decision: RollBack) -> None:
        """Begin the way back to the previous champion: the one thing that is done without asking."""
        champion, live, previous = standing.champion, standing.history.champion, standing.history.previous
        if champion is None or live is None or previous is None:
            return
        if content_key("release", live.release) not in {reason.evidence for reason in decision.because}:
            return  # it left meanwhile, by a person's word
        said = "; ".join(reason.said for reason in decision.because)
        plan = way_back(champion, standing.bench[previous], f"everfit: {said}")
        begin(self.desk, self.spec.model, run_of(decision), plan)

    def _write(self, fact: Fact, at: datetime | None = None) -> None:
        number = self.follower.standing().watch_step + 1
        write = Write(self.spec.model, WATCH, number, fact, at or self.desk.now(), self.desk.worker.name, ends=True)
        self.desk.ledger.append(write)


def _schedules(triggers: Iterable[Trigger]) -> Iterator[OnSchedule]:
    """Schedules at the top and inside `all` and `any`."""
    for trigger in triggers:
        match trigger:
            case OnSchedule():
                yield trigger
            case OnAll(all=parts) | OnAny(any=parts):
                yield from _schedules(parts)


def _same(standing: Standing, decision: Decision) -> bool:
    """Whether this was the last decision already: a question or a data fault is said once, not at every look."""
    if not standing.decisions or isinstance(decision, Retrain | Wait):
        return False
    last = standing.decisions[-1][2]
    return type(last) is type(decision) and _evidence(last) == _evidence(decision)


def _evidence(decision: Decision) -> set[str]:
    return {reason.evidence for reason in decision.because}

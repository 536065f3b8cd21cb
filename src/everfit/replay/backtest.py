"""What would each policy have done for this model? One frame of history in, scores and costs of all policies out.

Takes a labelled frame and options; gives a `Backtest`; never trains a model twice, and starts nothing anew after a
kill: what was trained lies in the cache folder by its content.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from threading import Event

import numpy as np
import polars as pl

from everfit.adapters.pool import CellPool, Progress
from everfit.detect.catalogue import metric_named
from everfit.errors import DiskFull, EverfitError, Refused, TrainingFailed, UsageError
from everfit.replay.advise import Worth, advise, ageing_words
from everfit.replay.apart import unit_of
from everfit.replay.delays import best_fixed, delay_costs, delay_words
from everfit.replay.gains import Prices, Result, ages, lost_by_age, results
from everfit.replay.history import History, cell_task, prepare
from everfit.replay.leaks import leaks
from everfit.replay.matrix import Matrix
from everfit.replay.options import BacktestOptions
from everfit.replay.oracle import best_schedules
from everfit.replay.outliers import outliers
from everfit.replay.play import Played
from everfit.replay.policies import is_known, play_policy
from everfit.replay.policy_file import LivePolicy, Policy, play_own
from everfit.replay.portrait import Portrait
from everfit.replay.ranges import range_gains
from everfit.replay.recommended import said_by_spec, spec_text
from everfit.replay.record import Backtest, DelayCost, Read, Slice, Unplayed
from everfit.replay.slices import slice_scores

__all__ = ["Backtest", "BacktestOptions", "History", "cell_task", "play_all", "prepare", "run"]

ORACLE = (1, 2, 3, 5, 8, 12, 18)  # retrains of the best schedules in hindsight
THREADS = 4  # policies that are played side by side
LOOK = 0.25  # seconds between two looks at them
Asked = tuple[str, int]  # a policy's name, and windows until labels come


def run(
    frame: pl.DataFrame,
    options: BacktestOptions,
    tell: Callable[[Progress], None] = lambda _: None,
    history: History | None = None,
) -> Backtest:
    """Train what is not in the cache, and play every policy.

    Args:
        frame: labelled rows.
        options: what to replay.
        tell: told how far it is.
        history: the frame made ready, where somebody did that already.

    Raises:
        Refused: the frame cannot be replayed; the column is named.
        UsageError: an option does not fit the frame.
        TrainingFailed: there is no first model.
        DiskFull: the cache's disk is full; run again when there is space, nothing is lost.
    """
    history = history or prepare(frame, options)
    with CellPool(cell_task(history, options), options.limits, tell) as cells:
        matrix = Matrix(cells, history.cut)
        matrix.want(matrix.every())  # before the columns are counted: the children begin meanwhile
        return play_all(matrix, Portrait(history.rows.drop(history.target), history.cut), history, options)


def play_all(matrix: Matrix, portrait: Portrait, history: History, options: BacktestOptions) -> Backtest:
    """Play the policies over a matrix, Everfit's first: it waits for one model after the other, and meanwhile the
    recent models that all others need are trained beside it.

    Raises:
        UsageError: there is no policy of a name, or two have the same.
        Refused: the metric is defined in no window.
    """
    matrix.want(matrix.every())
    suspicious = leaks(history)  # now, while the children train
    if history.task == "regression":
        suspicious += outliers(history.rows[history.target])
    stage = Stage(matrix, portrait, history, {each.name: each for each in options.own})
    wanted = _names(options)
    played = stage.play(
        [("everfit", history.delay + more) for more in _later(history, options)]
        + [(name, history.delay) for name in wanted]
    )
    names = [name for name in wanted if name not in stage.unplayed]
    _check_defined(played["never", history.delay], history.metric)
    prices = None
    if options.cost_per_retrain is not None or options.cost_per_error is not None:
        prices = Prices(options.cost_per_retrain or 0.0, options.cost_per_error or 0.0)
    found = results({name: played[name, history.delay] for name in names}, history.cut, prices)
    delays = _delays(stage, played, best_fixed(found, options.price), history, options)
    ageing = ages(matrix)
    own = {each.name: each for each in options.own}
    among = [name for name in names if said_by_spec(name, own)]
    unit = unit_of(history.metric)
    advice = advise(found, history.cut, Worth(options.price, prices, unit), among)
    also = (ageing_words(lost_by_age(matrix), unit), delay_words(delays, history.per_window, unit))
    advice = replace(
        advice,
        words=(*advice.words, *(said for said in also if said)),
        spec=spec_text(advice.policy, history, options),
    )
    of_matrix = [each for (name, _), each in played.items() if not isinstance(own.get(name), LivePolicy)]
    trained = [decision.trained_on for each in of_matrix for decision in each.decisions]
    return Backtest(
        task=history.task,
        metric=history.metric,
        windows=history.cut.windows,
        label_delay=history.delay,
        policies=found,
        oracle=tuple(best_schedules(matrix, history.delay, ORACLE)),
        ageing=ageing,
        advice=advice,
        seconds=matrix.spent(),
        failures=matrix.failures(),
        read=_read(history, options),
        remarks=(*history.remarks, *_undefined(played, history, own), *suspicious),
        ranges=range_gains(matrix, trained),
        slices=_slices(matrix, history, found, _main(advice.policy, own)),
        delays=delays,
        unplayed=tuple(Unplayed(*each) for each in stage.unplayed.items()),
    )


@dataclass(frozen=True, slots=True)
class Stage:
    """Where policies are played: side by side, for they wait for models and do little themselves."""

    matrix: Matrix
    portrait: Portrait
    history: History
    own: Mapping[str, Policy]
    unplayed: dict[str, str] = field(default_factory=dict)  # policies that ended without a number, and why
    stopped: Event = field(default_factory=Event)  # set when what is still played has no reader any more

    def play(self, wanted: Sequence[Asked]) -> dict[Asked, Played]:
        """Play each once. The first error ends it, but that of a spec or of triggers ends only this policy."""
        asked = list(dict.fromkeys(wanted))
        threads = ThreadPoolExecutor(THREADS, thread_name_prefix="policy")
        try:
            playing = {each: threads.submit(self._play, each) for each in asked}
            # In short looks: after polars' handler of SIGINT a wait without end goes on, and nobody hears of Ctrl-C.
            while wait(playing.values(), LOOK, FIRST_EXCEPTION).not_done:
                if any(each.done() and each.exception() for each in playing.values()):
                    break
            found = {each: playing[each].result() for each in asked if playing[each].done()}
        except BaseException:  # the others end by themselves: the pool that they ask is closed, and live flows ask
            self.stopped.set()
            raise
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
        return {each: played for each, played in found.items() if played is not None}

    def _play(self, asked: Asked) -> Played | None:
        name, delay = asked
        own = self.own.get(name)
        if isinstance(own, LivePolicy):
            try:
                return own.play(self.history, self._go_on)
            except DiskFull:  # of which the others would die, too
                raise
            except EverfitError as error:
                self.unplayed[name] = str(error)
                return None
        if own is not None:
            return play_own(own, self.matrix, self.portrait, delay)
        return play_policy(name, self.matrix, self.portrait, delay)

    def _go_on(self) -> None:
        if self.stopped.is_set():
            raise TrainingFailed("the backtest was stopped")


def _names(options: BacktestOptions) -> list[str]:
    """The policies, Everfit's first, and two that gains are measured by."""
    own = [each.name for each in options.own]
    taken = [name for name in own if own.count(name) > 1 or is_known(name)]
    if taken:
        raise UsageError(f"a policy is already called {taken[0]!r}; give yours another name")
    return sorted(dict.fromkeys(("never", "every1", *options.policies, *own)), key=lambda name: name != "everfit")


def _later(history: History, options: BacktestOptions) -> list[int]:
    """Windows of further delay that can be played, the asked delay first; nothing where Everfit is not asked for."""
    if "everfit" not in options.policies:
        return []
    room = len(history.cut.scored) - history.delay
    return [0, *(more for more in sorted(set(options.later)) if 0 < more < room)]


def _delays(
    stage: Stage, played: dict[Asked, Played], fixed: str, history: History, options: BacktestOptions
) -> tuple[DelayCost, ...]:
    """Everfit's policy and the best fixed schedule, with labels later and later."""
    delays = [history.delay + more for more in _later(history, options)]
    if len(delays) < 2:
        return ()
    played |= stage.play([(fixed, delay) for delay in delays])
    of = [{delay: played[name, delay] for delay in delays} for name in ("everfit", fixed)]
    return tuple(cost for each in of for cost in delay_costs(each))


def _check_defined(never: Played, metric: str) -> None:
    if not np.isfinite(never.scores).any():
        needs = metric_named(metric).needs
        raise Refused(f"{metric} is defined in no window: it needs {needs}; take larger windows or another metric")


def _undefined(played: Mapping[Asked, Played], history: History, own: Mapping[str, Policy]) -> list[str]:
    """Windows that have rows and no score; of a spec or triggers also those before the first model served."""
    sizes = np.diff(history.cut.edges)[history.cut.start :]
    without = np.isnan(played["never", history.delay].scores) & (sizes > 0)
    many, needs = int(without.sum()), metric_named(history.metric).needs
    said = (
        f"{history.metric} is undefined in {many} of {len(sizes)} scored windows: it needs {needs}; they count nowhere"
    )
    live = {name: each.scores for (name, _), each in played.items() if isinstance(own.get(name), LivePolicy)}
    late = {name: int((np.isnan(scores) & (sizes > 0) & ~without).sum()) for name, scores in live.items()}
    waited = [
        f"{', '.join(name for name, each in late.items() if each == windows)}: nothing served in {windows} of "
        f"{len(sizes)} scored windows, for the first model had to wait for its labels or rows; the score is the mean "
        "of the others"
        for windows in sorted(set(late.values()))
        if windows
    ]
    return ([said] if many else []) + waited


def _main(chosen: str, own: Mapping[str, Policy]) -> set[str]:
    """Policies that are told in more detail; models of a spec's own replay are not in the matrix."""
    return {"everfit", "never", "every5", *([] if isinstance(own.get(chosen), LivePolicy) else [chosen])}


def _slices(matrix: Matrix, history: History, found: Sequence[Result], main: set[str]) -> tuple[Slice, ...]:
    if history.sliced is None:
        return ()
    return slice_scores(matrix, history.sliced, [each.played for each in found if each.name in main])


def _read(history: History, options: BacktestOptions) -> Read:
    classes = () if history.task == "regression" else tuple(history.rows[history.target].unique().sort())
    return Read(
        history.rows.height,
        tuple(history.schema.names()),
        classes,
        options.trainer,
        history.cut.start,
        history.cut.edges,
        history.begins,
        history.per_window,
    )

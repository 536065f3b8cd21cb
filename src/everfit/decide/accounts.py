"""Did it help? For each trigger, what became of the runs that it caused.

Takes what is known of each run; gives one line for each trigger; never looks at anything that a person could not read
in the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from everfit.decide.look import loss

AFTER = 5  # mature windows of the new champion, and of the one before, that are held against each other


@dataclass(frozen=True, slots=True)
class RunTold:
    """One run, as far as its use is told by it."""

    triggers: tuple[str, ...]
    outcome: str  # promoted, kept_back, blocked, failed, refused, running
    gain: float | None = None  # proven on held-out rows; positive is better
    before: tuple[float, ...] = ()  # primary metric in mature windows of the champion before, oldest first
    after: tuple[float, ...] = ()  # in mature windows of the new one


@dataclass(frozen=True, slots=True)
class Account:
    """One trigger's runs."""

    trigger: str
    runs: int
    promoted: int
    kept_back: int
    blocked: int
    failed: int  # and those that a person refused
    gain: float | None  # median of the proven gains of those that were judged
    helped: int  # promoted ones after which the live metric was better than before
    not_helped: int
    unknown: int  # promoted ones whose windows have not matured, or that had none before


def accounts(runs: Iterable[RunTold], metric: str) -> tuple[Account, ...]:
    """One line for each trigger, in the order in which they first caused a run. A run of two triggers counts for both.

    >>> run = RunTold(("decay",), "promoted", 0.02, before=(0.70, 0.70), after=(0.74, 0.75))
    >>> found = accounts([run], "roc_auc")[0]
    >>> found.runs, found.promoted, found.gain, found.helped
    (1, 1, 0.02, 1)
    """
    told = list(runs)
    names = dict.fromkeys(name for run in told for name in run.triggers)
    return tuple(_account(name, [run for run in told if name in run.triggers], metric) for name in names)


def helped(run: RunTold, metric: str) -> bool | None:
    """Whether the live metric got better: mean of the first five mature windows against the last five before.

    None: the run was not promoted, or one side has no window yet.
    """
    if run.outcome != "promoted" or not run.before or not run.after:
        return None
    return loss(metric, fmean(run.before[-AFTER:]), fmean(run.after[:AFTER])) < 0


def _account(name: str, runs: Sequence[RunTold], metric: str) -> Account:
    outcomes = [run.outcome for run in runs]
    gains = [run.gain for run in runs if run.gain is not None]
    answers = [helped(run, metric) for run in runs if run.outcome == "promoted"]
    return Account(
        trigger=name,
        runs=len(runs),
        promoted=outcomes.count("promoted"),
        kept_back=outcomes.count("kept_back"),
        blocked=outcomes.count("blocked"),
        failed=outcomes.count("failed") + outcomes.count("refused"),
        gain=median(gains) if gains else None,
        helped=answers.count(True),
        not_helped=answers.count(False),
        unknown=answers.count(None),
    )

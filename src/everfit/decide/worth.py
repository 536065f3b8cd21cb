"""Is a run worth its cost? What a better model is expected to bring, against the measured cost of training.

Takes the history and the prices of the spec; gives a `Weighed`: gain, cost and a sentence, or that no opinion is
possible; never trains and never asks whether a trigger fires. Without prices there is no opinion, and a run is not
held back for what is not known.

The rule is the cost-aware one of Mahadevan and Mathioudakis, "Cost-aware retraining for machine learning" (2024): the
cost of staleness over a horizon against the cost of a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from everfit.decide.budget import source_of
from everfit.decide.decision import Reason
from everfit.decide.history import History, WindowRecord
from everfit.decide.holding import level_of
from everfit.decide.look import loss
from everfit.decide.options import Deciding, Rules, Worth
from everfit.units import duration_text

RECENT = 5  # mature windows whose mean loss is expected to go on
PACE = 28  # windows whose rows say how many come in a day: four weeks of days
RATES = ("accuracy",)  # a loss of 0.01 is one wrong prediction more in a hundred rows
DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Weighed:
    """What a run is expected to bring and to cost, in the currency of the spec."""

    gain: float | None  # over the horizon; None: not known
    cost: float | None  # of one run; None: not known
    said: str

    @property
    def ratio(self) -> float | None:
        """Gain over cost; None while one of them is not known or the run is free."""
        return self.gain / self.cost if self.gain is not None and self.cost else None


def weigh(past: History, rules: Rules) -> Weighed:
    """What a run is expected to bring and to cost.

    The gain is the loss below the proven level, as the mean of the last five mature windows, times the rows of a day,
    the horizon and the price of one unit of loss. It takes for granted that a new model reaches the proven level.

    >>> from everfit.decide.options import Deciding
    >>> weigh(History("m"), Rules((), Deciding(), "roc_auc", 500)).said
    'no price of a loss is given'
    """
    worth, price = rules.limits.worth, unit_price(rules)
    if price is None:
        return Weighed(None, None, "no price of a loss is given")
    cost, cost_said = cost_of_run(past, worth)
    if cost is None:
        return Weighed(None, None, cost_said)
    lost, pace = expected_loss(past, rules.primary), rows_a_day(past.windows)
    if lost is None or pace is None:
        return Weighed(None, cost, f"{cost_said}; what is lost is not known before windows mature")
    days = worth.horizon.total_seconds() / DAY
    gain = max(0.0, lost) * pace * days * price
    said = (
        f"{lost:.3g} of {rules.primary} below the proven level x {pace:,.0f} rows a day x "
        f"{duration_text(worth.horizon)} x {price:g} = {gain:,.2f}; {cost_said}"
    )
    return Weighed(gain, cost, said)


def not_worth(weighed: Weighed, options: Deciding) -> Reason | None:
    """Why a run is not worth it, if that is known."""
    worth, ratio = options.worth, weighed.ratio
    if ratio is None or ratio >= worth.at_least or weighed.gain is None or weighed.cost is None:
        return None
    said = f"not worth it: {weighed.said}; gain over cost is {ratio:.2f} (line {worth.at_least:g})"
    changed = f"an expected gain of {worth.at_least * weighed.cost:,.2f} would have been worth it"
    source = source_of(worth, "at_least", "decide.worth.at_least")
    return Reason("worth", ratio, worth.at_least, said, "", source, changed)


def worth_after_probe(gain: tuple[float, float, float], past: History, rules: Rules) -> tuple[bool, str]:
    """Whether the whole training is still worth it after a cheap one on few rows.

    Args:
        gain: The probe's gain over the champion on the same held-out rows: value, low and high end of its interval,
            in units of the primary metric, positive when the probe is better.
        past: What happened so far.
        rules: What the user asked for.

    Returns:
        Whether to go on, and why. A model of few rows is worse than one of all, so the high end counts: only a probe
        that could not pay even then ends the run.

    >>> from everfit.decide.options import Deciding
    >>> worth_after_probe((-0.02, -0.03, -0.01), History("m"), Rules((), Deciding(), "roc_auc", 500))[0]
    False
    """
    value, low, high = gain
    told = f"the probe gained {value:.3g} {rules.primary} ({low:.3g} to {high:.3g})"
    if high <= 0:
        return False, f"{told}: it is worse than the champion for certain"
    worth, price, pace = rules.limits.worth, unit_price(rules), rows_a_day(past.windows)
    cost, cost_said = cost_of_run(past, worth)
    if price is None or pace is None or not cost:
        return True, f"{told}; without prices it is not weighed further"
    most = high * pace * worth.horizon.total_seconds() / DAY * price
    going_on = most >= worth.at_least * cost
    return going_on, f"{told}, worth at most {most:,.2f}; {cost_said} (line {worth.at_least:g} times the cost)"


# ---- parts -----------------------------------------------------------------------------------------------------------
def unit_price(rules: Rules) -> float | None:
    """Price for each row of one unit of the primary metric; None where the spec gives none that fits it."""
    worth = rules.limits.worth
    if rules.primary in RATES and worth.error_cost is not None:
        return worth.error_cost
    return worth.unit_value


def cost_of_run(past: History, worth: Worth) -> tuple[float | None, str]:
    """Cost of a run by the measured time of past ones, and a sentence."""
    seconds = [run.seconds for run in past.runs if run.seconds is not None]
    if worth.per_hour is None:
        if worth.run_cost == 0:
            return None, "no price of a run is given"
        return worth.run_cost, f"a run costs {worth.run_cost:,.2f}"
    if not seconds:
        return None, "how long a run takes was not measured yet"
    usual = median(seconds)
    cost = usual / 3600 * worth.per_hour + worth.run_cost
    return cost, f"a run costs {cost:,.2f} ({usual:,.0f} s at {worth.per_hour:g} an hour)"


def expected_loss(past: History, primary: str) -> float | None:
    """By how much the primary metric lies below its proven level now; negative above it; None if not known."""
    level = level_of(past.champion, primary)
    read = [signal.value for w in past.served if (signal := w.find_mature(f"performance.{primary}")) is not None]
    return fmean(loss(primary, level, value) for value in read[-RECENT:]) if level is not None and read else None


def rows_a_day(windows: Sequence[WindowRecord]) -> float | None:
    """Rows that come in a day, pauses included; None before the first window."""
    recent = windows[-PACE:]
    if not recent:
        return None
    days = (recent[-1].span.end - recent[0].span.start).total_seconds() / DAY
    return sum(window.rows for window in recent) / days if days > 0 else None

"""A small backtest whose every figure is known."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from everfit.replay.advise import Advice
from everfit.replay.apart import Apart
from everfit.replay.gains import Result
from everfit.replay.oracle import Hindsight
from everfit.replay.play import Decision, Played
from everfit.replay.record import Backtest, DelayCost, RangeGain, Read, Slice

FIRST, WINDOWS, ROWS = 2, 12, 40
DAY = datetime(2026, 1, 1, tzinfo=UTC)


def policy(name: str, level: float, runs: int, why: str = "time") -> Result:
    """A policy that retrains every `WINDOWS // runs` windows and scores near a level."""
    many = WINDOWS - FIRST
    scores = level + 0.01 * np.sin(np.arange(many))
    decisions = tuple(Decision(FIRST + place, (place, place + 1), f"{why} {place}") for place in range(runs))
    served = tuple((place, place + 1) for place in range(many))
    played = Played(name, FIRST, scores, 1 - scores, served, decisions, 80 * runs, 0.5 * runs)
    return Result(
        name, played.score, runs, (level - 0.6) / 0.2, runs / WINDOWS, played, ROWS * float(played.missed.sum())
    )


def backtest(text: str = "the score fell") -> Backtest:
    """Four policies; `text` stands wherever a user's or a trainer's words may."""
    policies = (policy("everfit", 0.79, 3, text), policy("never", 0.6, 0), policy("every1", 0.8, 9),
                policy("every5", 0.7, 2))  # fmt: skip
    recalled = ((0, 1), (0, 1), (2, 3), (2, 3), (0, 1), (0, 1), (2, 3), (2, 3), (5, 6), (5, 6))
    policies = (replace(policies[0], played=replace(policies[0].played, served=recalled)), *policies[1:])
    advice = Advice("everfit", 0.19, (0.15, 0.23), 0.25, helps=True, said=f"everfit gains 19 points; {text}",
                    words=(f"a model loses 2.5 points a window; {text}",),
                    spec=f"model: m\ntarget: {text}\n")  # fmt: skip
    begins = tuple(DAY + timedelta(days=7 * place) for place in range(WINDOWS + 1))
    edges = tuple(ROWS * place for place in range(WINDOWS + 1))
    read = Read(ROWS * WINDOWS, (text, "price"), ("0", "1"), "train:fit", FIRST, edges, begins, timedelta(days=7))
    return Backtest(
        task="binary",
        metric="roc_auc",
        windows=WINDOWS,
        label_delay=0,
        policies=policies,
        oracle=(Hindsight(1, 0.75, 0.76, (4,)), Hindsight(3, 0.81, 0.83, (3, 5, 8))),
        ageing=(0.8, 0.77, 0.74, 0.72, 0.7),
        advice=advice,
        seconds=(12.0, 3.0),
        failures={(3, 4): text},
        read=read,
        remarks=(f"{text} tells the target by itself",),
        ranges=(RangeGain("all", 4, -0.012, 0.003), RangeGain("change", 1, 0.05, None)),
        slices=(Slice(text, 300, {"everfit": 0.1, "never": 0.3}), Slice("b", 200, {"everfit": 0.2, "never": 0.25})),
        delays=(
            DelayCost(0, "everfit", 0.79, Apart(0.0, 0.0, 0.0)),
            DelayCost(2, "everfit", 0.76, Apart(0.03, 0.01, 0.05)),
            DelayCost(0, "every5", 0.7, Apart(0.0, 0.0, 0.0)),
        ),
    )

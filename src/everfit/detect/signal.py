"""Readings of one window: signals, the answer `NotEnough`, and alarms.

Takes nothing; gives the nouns that the detect room hands on; never judges whether anything should be done.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Signal:
    """One reading of one thing over one window."""

    name: str  # "drift.psi", "quality.nulls", "performance.roc_auc", "labels.coverage"
    column: str  # the column; "*" for the whole row; "origin=JFK" for a slice
    value: float
    rows: int  # how many rows stood behind it
    low: float | None = None  # interval, where the reading has one
    high: float | None = None
    effect: float | None = None  # size of the change in the reading's own unit, noise taken off
    p_value: float | None = None  # chance of a reading this far out if nothing had changed
    smallest: float | None = None  # change that would be found in 80 of 100 such windows: the reading's power
    unit: str = ""  # of `smallest`: "sd" of the column, "share" of its rows; "": the reading's own


@dataclass(frozen=True, slots=True)
class NotEnough:
    """Too few rows to say anything. Never read as "no drift" or "no loss"."""

    name: str
    column: str
    rows: int
    needed: int
    said: str = ""  # what is missing, where it is not only rows


Reading = Signal | NotEnough


@dataclass(frozen=True, slots=True)
class Alarm:
    """A signal that crossed its line."""

    signal: Signal
    line: float  # the line that was crossed
    kind: str  # "drift" (explains), "quality" (the data are broken), "performance" (it hurts)
    said: str  # the sentence a person reads

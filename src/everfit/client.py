"""The Python client: predictions, labels and questions to a running Everfit, over HTTP.

Takes frames of polars, pandas or pyarrow; gives receipts and predictions; never keeps a row: what was
acknowledged is on the server's disk.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx
import polars as pl
import polars.selectors as cs
import pyarrow as pa

from everfit.clock import rest, ticks
from everfit.errors import EverfitError, Refused, Unavailable, UsageError

ARROW = "application/vnd.apache.arrow.stream"
_LOOK_AGAIN = 0.02  # seconds between two looks at the clock; the server answers from memory


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of rows that were sent."""

    acknowledged: int  # safe on the server's disk
    refused: int
    reasons: Mapping[str, int]  # why rows were refused, and how many
    number: int  # the journal's number; `settle` waits for it


@dataclass(frozen=True, slots=True)
class Answer:
    """What the champion says."""

    predictions: list[Any]  # classes, or values in regression
    scores: list[Any] | None  # probabilities in class order; None in regression
    ids: list[str] | None  # of the predictions, for their labels
    model: Mapping[str, Any] = field(default_factory=dict)  # version and candidate
    number: int | None = None  # the journal's number where the server holds answers until they are logged


@dataclass(frozen=True, slots=True)
class ClockFace:
    """The server's time and how far rows are settled."""

    now: datetime | None  # None before the control process said so
    settled: int  # every batch up to this number is in the lake and looked at


class Client:
    """A connection to one model's server. Thread-safe; close it, or use it in a `with`."""

    def __init__(self, url: str, timeout: timedelta = timedelta(seconds=60), *, model: str | None = None) -> None:
        """Name the server's address, and the model if it has several; nothing is asked yet."""
        self._http = httpx.Client(base_url=url.rstrip("/"), timeout=timeout.total_seconds())
        self._events = f"/v1/models/{quote(model, safe='')}" if model else "/v1"
        self._asking = f"/endpoints/{quote(model, safe='')}/invocations" if model else "/invocations"

    def predictions(self, rows: Any) -> Receipt:
        """Send predictions that were made elsewhere: the spec's time (and id) columns and the features.

        Raises:
            Refused: the rows cannot be read at all; nothing of them was taken.
            Unavailable: the server is away or has no space; nothing was acknowledged.
        """
        return self._send(f"{self._events}/predictions", rows)

    def labels(self, rows: Any) -> Receipt:
        """Send labels: the spec's id and target columns, and maybe the `time` at which each became known.

        Raises:
            Refused: the rows cannot be read at all; nothing of them was taken.
            Unavailable: the server is away or has no space; nothing was acknowledged.
        """
        return self._send(f"{self._events}/labels", rows)

    def predict(self, rows: Any) -> Answer:
        """Ask the champion; the prediction is logged under the id that comes back.

        Raises:
            Refused: a field is missing or of the wrong type; it is named.
            Unavailable: the server is away, or no champion is live yet.
        """
        frame = _as_frame(rows)
        split = {"columns": frame.columns, "data": [list(row) for row in _plain(frame).iter_rows()]}
        told = self._asked("POST", self._asking, json={"dataframe_split": split})
        return Answer(
            told["predictions"], told.get("scores"), told.get("ids"), told.get("model") or {}, told.get("number")
        )

    def is_ready(self) -> bool:
        """Whether the server is up and every model of it has a champion that answers."""
        try:
            self._asked("GET", "/v2/health/ready")
        except Unavailable:
            return False
        return True

    def clock(self) -> ClockFace:
        """The server's time.

        Raises:
            Unavailable: the server is away.
        """
        return self._clock({})

    def _clock(self, asking: dict[str, int]) -> ClockFace:
        told = self._asked("GET", f"{self._events}/clock", params=asking)
        return ClockFace(datetime.fromisoformat(told["now"]) if told["now"] else None, int(told["settled"]))

    def settle(self, number: int, timeout: timedelta = timedelta(seconds=60)) -> ClockFace:
        """Wait until the rows of a receipt are in the lake and what followed from them is done.

        Raises:
            Unavailable: that took longer than `timeout`.
        """
        until = ticks() + timeout.total_seconds()
        while (face := self._clock({"settle": number})).settled < number:
            if ticks() > until:
                raise Unavailable(
                    f"batch {number} is not settled after {timeout}, the server is at {face.settled}; "
                    "is `everfit up` running with the control role?"
                )
            rest(_LOOK_AGAIN)
        return face

    def close(self) -> None:
        """Let the connections go."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, path: str, rows: Any) -> Receipt:
        body = io.BytesIO()
        _as_frame(rows).clone().write_ipc_stream(body, compat_level=pl.CompatLevel.oldest())
        told = self._asked("POST", path, content=body.getvalue(), headers={"content-type": ARROW})
        return Receipt(told["acknowledged"], told["refused"], told["reasons"], told["number"])

    def _asked(self, verb: str, path: str, **what: Any) -> dict[str, Any]:
        try:
            answer = self._http.request(verb, path, **what)
        except httpx.TransportError as error:
            raise Unavailable(
                f"{self._http.base_url} does not answer ({error}); is `everfit up` running there?"
            ) from error
        if answer.is_success:
            told: dict[str, Any] = answer.json()
            return told
        raise _meant(answer)


def connect(where: str | Path, *, model: str | None = None) -> Client:
    """A client of the server at this address, as in `connect("http://localhost:8080")`; `model` is one of several.

    Raises:
        UsageError: it is no address.
    """
    if not str(where).startswith(("http://", "https://")):
        raise UsageError(f"{where} is not an address; write http://host:port as `everfit up` prints it")
    return Client(str(where), model=model)


def _as_frame(rows: Any) -> pl.DataFrame:
    """Rows of polars, pandas, pyarrow or a list of records as a polars frame."""
    if isinstance(rows, pl.DataFrame):
        return rows
    if isinstance(rows, pl.LazyFrame):
        return rows.collect()
    try:
        if isinstance(rows, list):
            return pl.DataFrame(rows, infer_schema_length=None)
        if type(rows).__module__.startswith("pandas"):
            return _from_pandas(rows)
        return pl.DataFrame(rows)
    except (TypeError, ValueError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        raise Refused(f"a {type(rows).__name__} cannot be read as rows ({error}); send a frame") from error


def _from_pandas(rows: Any) -> pl.DataFrame:
    """Through Arrow, without an import of pandas."""
    # pyarrow 25 reads times with a zone in a way that pandas 3 deprecates; times without one are UTC to the server.
    zoned = rows.select_dtypes("datetimetz")
    plain = rows.assign(**{name: zoned[name].dt.tz_convert(None) for name in zoned.columns})
    return pl.DataFrame(pa.Table.from_pandas(plain, preserve_index=False))


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Values that JSON has: times become ISO text, NaN becomes null."""
    return frame.with_columns(cs.temporal().dt.to_string("iso:strict"), cs.float().fill_nan(None))


def _meant(answer: httpx.Response) -> EverfitError:
    """What a failure's status means to the caller."""
    try:
        said = str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        said = answer.text[:200] or answer.reason_phrase
    if answer.status_code in (400, 413, 415, 422):
        return Refused(said)
    if answer.status_code >= 500 or answer.status_code in (408, 429):
        return Unavailable(said)
    return UsageError(f"{answer.request.url}: {said}")

"""The server of one published model, away from its project: in a pod, in a container, or behind a proxy.

Takes a folder as the gateway published it and the address of the project's server; gives answers, and brings what was
answered there; never serves another model than the folder's: who routes traffic decides by starting servers.

What was answered waits in a journal of its own until the project's server has acknowledged it, so that one may go away
without the other. A row that was brought twice is one event there.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import polars as pl

from everfit.adapters.gateway import FolderGateway
from everfit.adapters.journal import SqliteJournal
from everfit.adapters.models import load
from everfit.adapters.published import Published, read_published
from everfit.adapters.traces import tracer
from everfit.client import Client, Receipt, connect
from everfit.clock import WallClock, ticks
from everfit.errors import EverfitError, UsageError
from everfit.ids import issued_id
from everfit.observe.intake import FAILED
from everfit.ports import Batch, Journal, Route, Table
from everfit.serve.model import read_signature
from everfit.serve.server import bind, run_server
from everfit.serve.serving import LogMode, Serving, Trying
from everfit.settings import Settings

PACE = 0.5  # seconds between two looks at the journal: the guard weighs a row as of its arrival at the project
AT_ONCE = 20_000  # rows brought in one request
LONGEST_REST = 30.0  # seconds between two tries while the project's server is away
GOODBYE = 10.0  # seconds after the last answer; what is left is brought when a server starts on the same disk
_OURS = ("_version", "_variant", "_late", "_day")  # the project knows them itself

_say = logging.getLogger("everfit.lone")


def serve_published(folder: Path, settings: Settings) -> None:
    """Serve a published folder until told to stop, and bring what was answered to the project's server.

    Raises:
        UsageError: nobody was named who would learn what was answered, or the address cannot be used.
        ModelUnusable: the folder was not published, or its model does not load.
    """
    if not settings.events:
        raise UsageError("name the project's server with --events http://HOST:PORT (EVERFIT_EVENTS): it gets the rows")
    told = read_published(folder)
    home = replace(settings, state=settings.state / "lone" / told.candidate)
    client = connect(settings.events, model=told.model)
    listening = bind(home.host, home.port)
    journal = SqliteJournal(home.journal)
    serving = _serving(told, folder, home, journal)
    grpc = "" if home.grpc_port is None else f"{home.host}:{home.grpc_port}"
    with client, _bringing(Bringer(told, journal, client)):
        run_server([serving], listening, tracer=tracer(), grpc=grpc)
    journal.close()


def _serving(told: Published, folder: Path, home: Settings, journal: SqliteJournal) -> Serving:
    gateway = FolderGateway(home.serving)
    gateway.take(told.candidate, folder)
    gateway.point(told.model, Route(told.candidate, told.version, issued_id()))
    signature = read_signature(folder)
    return Serving(
        model=told.model,
        task=signature.task,
        rules=told.rules,
        gateway=home.serving,
        journal=journal,
        loader=load,
        clock=WallClock(),
        clock_file=home.clock_file,
        log=LogMode.HELD if home.held_log else LogMode.ASYNC,
        key=told.key,
        trying=Trying(memory=home.challenger_memory, share=home.challenger_cpu),
    )


class Bringer:
    """Brings what waits in a journal to the project's server."""

    def __init__(self, told: Published, journal: Journal, client: Client) -> None:
        self._told, self._journal, self._client = told, journal, client

    def bring(self) -> int:
        """Bring the oldest rows and forget them here; how many batches that were.

        Raises:
            Unavailable: the project's server is away; nothing was forgotten.
            Refused: it takes none of these rows at all.
        """
        waiting = self._journal.waiting(AT_ONCE)
        if not waiting:
            return 0
        self._send(Table.PREDICTIONS, rows_of(waiting, Table.PREDICTIONS))
        self._send(Table.PREDICTIONS, failures_of(waiting, self._told))
        self._send(Table.LABELS, labels_of(waiting))
        self._journal.forget(waiting[-1].number, {})
        return len(waiting)

    def _send(self, table: Table, rows: pl.DataFrame) -> None:
        if rows.is_empty():
            return
        send = self._client.labels if table is Table.LABELS else self._client.predictions
        receipt: Receipt = send(rows)
        if receipt.refused:
            _say.warning("the project refused rows", extra={"rows": receipt.refused, "reasons": dict(receipt.reasons)})


def rows_of(batches: Sequence[Batch], table: Table) -> pl.DataFrame:
    """The rows of a table, without what the project's server says itself.

    >>> rows_of([Batch(Table.PREDICTIONS, pl.DataFrame({"_id": ["a"], "_version": [3]}))], Table.PREDICTIONS).columns
    ['_id']
    """
    found = [batch.rows.drop(_OURS, strict=False) for batch in batches if batch.table is table]
    return pl.concat(found, how="diagonal_relaxed") if found else pl.DataFrame()


def failures_of(batches: Sequence[Batch], told: Published) -> pl.DataFrame:
    """Requests that fitted and on which the model failed, as the project's server takes them."""
    refused = rows_of(batches, Table.REFUSED)
    if refused.is_empty():
        return refused
    failed = refused.filter(pl.col("_reason") == FAILED)
    rows = [json.loads(text) for text in failed["_payload"]]
    named = [name for name in (told.rules.id, "_id") if name]
    ids = [next((str(row[name]) for name in named if row.get(name) is not None), issued_id()) for row in rows]
    return pl.DataFrame(
        {"_id": ids, "_time": failed["_time"], "_model": [told.candidate] * len(ids), "_failed": ["error"] * len(ids)},
        schema_overrides={"_id": pl.String, "_model": pl.String, "_failed": pl.String},
    )


def labels_of(batches: Sequence[Batch]) -> pl.DataFrame:
    """Labels that came here, as the project's server takes them."""
    labels = rows_of(batches, Table.LABELS)
    if labels.is_empty():
        return labels
    value = pl.coalesce(pl.col("_label"), pl.col("_value").cast(pl.String))
    return labels.select("_id", "_arrived", label=value)


@contextmanager
def _bringing(bringer: Bringer) -> Iterator[None]:
    """Bring rows beside the server, and the last ones after it."""
    stop = threading.Event()
    thread = threading.Thread(target=_bring_on, args=(bringer, stop), name="everfit-bring")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _bring_on(bringer: Bringer, stop: threading.Event) -> None:
    until: float | None = None
    pause = PACE
    while until is None or ticks() < until:
        if stop.is_set() and until is None:
            until = ticks() + GOODBYE
        try:
            brought, pause = bringer.bring(), PACE
        except EverfitError as error:  # away, or it refuses them all: they wait in the journal
            _say.warning("rows cannot be brought yet", extra={"reason": str(error), "again_in": pause})
            brought, pause = -1, min(2 * pause, LONGEST_REST)
        if until is not None and not brought:
            return
        if brought <= 0:
            stop.wait(PACE if until is not None else pause)
    _say.error("rows are left in the journal: the project's server is away")

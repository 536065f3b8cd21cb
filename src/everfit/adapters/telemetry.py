"""The only place that sets up logging: every line is an event with named values.

Takes a level and whether lines shall be JSON; gives structured loggers on standard error, also for
libraries that use `logging`; never sends anything off this machine.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import structlog
from structlog.types import Processor

SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.ExtraAdder(),  # `logging` calls of serve/ bring their values as `extra`
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)
# A trace tells where, never what: local variables hold rows.
TRACE = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
QUIET = (
    "alembic",
    "apprise",
    "httpx",
    "mlflow",
    "uvicorn.access",
    "uvicorn.error",
)  # they speak up from warnings on


def configure(level: str = "info", *, json: bool | None = None, stream: TextIO | None = None) -> None:
    """Set up logging for this process; calling it again replaces the set-up.

    Args:
        level: the quietest level that is shown: debug, info, warning or error.
        json: one JSON object a line; by default when the stream is not a terminal.
        stream: where lines go; standard error by default.
    """
    out = stream or sys.stderr
    as_json = not out.isatty() if json is None else json
    last: list[Processor] = (
        [TRACE, structlog.processors.JSONRenderer()]
        if as_json
        else [structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback)]
    )
    lines = logging.StreamHandler(out)
    lines.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[lines], level=level.upper(), force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))
    structlog.configure(
        processors=[*SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def logger(name: str, **values: Any) -> structlog.stdlib.BoundLogger:
    """A logger whose lines carry `values` such as model, run and action.

    Write `logger("renew", model="m").info("trained", seconds=3)`.
    """
    bound: structlog.stdlib.BoundLogger = structlog.get_logger(f"everfit.{name}").bind(**values)
    return bound

"""One server process: a socket, an event loop, and a graceful end.

Takes a `Serving` and an address; gives a running server until SIGTERM or Ctrl-C; never ends with answered
predictions that were not logged.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from everfit.errors import UsageError
from everfit.serve.serving import Serving

LAST_ANSWERS = 10  # seconds that requests in flight may take after SIGTERM
BACKLOG = 2048

if TYPE_CHECKING:
    from uvicorn import Server


def run_server(serving: Serving, host: str, port: int) -> None:
    """Serve until SIGTERM or Ctrl-C. Port 0 is a free port: `servers/<pid>.json` and the log say which.

    Raises:
        UsageError: the address cannot be used.
    """
    # Requests are small: threads of OpenMP or BLAS only fight over the cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from uvicorn import Config, Server  # noqa: PLC0415 - after the environment is set, and only where a server runs

    from everfit.serve.app import build_app  # noqa: PLC0415 - as above

    listening = bind(host, port)
    config = Config(
        build_app(serving, port=listening.getsockname()[1]),
        loop="auto",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=LAST_ANSWERS,
    )
    server = Server(config)
    with _ending(server):
        server.run(sockets=[listening])


def bind(host: str, port: int) -> socket.socket:
    """A listening address.

    Raises:
        UsageError: it is taken, not ours, or needs rights.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, OverflowError, UnicodeError) as error:
        raise UsageError(f"cannot listen on {host}:{port}: {error}; give an address of this machine") from error
    try:
        if os.name == "posix":  # elsewhere this would let two servers share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)  # so that a port in use is found here and not inside the event loop
    except OSError as error:
        listening.close()
        raise UsageError(
            f"cannot listen on {host}:{port}: {error.strerror}; "
            "end what uses the port, or choose another (0: any free one)"
        ) from error
    return listening


@contextmanager
def _ending(server: Server) -> Iterator[None]:
    # uvicorn listens to signals only while it runs, and raises them again after its graceful end. A signal
    # that comes before must not be lost, and one that is raised again must not spoil the exit code: both
    # only say "end".
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_number: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""One server process: a socket, an event loop, and a graceful end.

Takes a `Serving` for each model and a socket; gives a running server until SIGTERM or Ctrl-C; never ends with
answered predictions that were not logged.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from everfit.errors import UsageError
from everfit.serve.serving import Serving
from everfit.serve.tracing import Tracer

LAST_ANSWERS = 10  # seconds that requests in flight may take after SIGTERM
KEEP_ALIVE = 75  # seconds that a quiet connection stays open: longer than load balancers keep theirs, which is 60
BACKLOG = 2048

if TYPE_CHECKING:
    from uvicorn import Server

    from everfit.serve.app import Beside


def run_server(
    servings: Sequence[Serving],
    listening: socket.socket,
    *,
    tracer: Tracer | None = None,
    grpc: str = "",
) -> None:
    """Serve models on a socket until SIGTERM or Ctrl-C; `grpc` is the address of the second door, if it is wanted.

    `servers/<pid>.json` of each model and the log say the port.

    Raises:
        UsageError: two models have one name, or gRPC cannot be offered.
    """
    # Requests are small: threads of OpenMP or BLAS only fight over the cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from uvicorn import Config, Server  # noqa: PLC0415 - after the environment is set, and only where a server runs

    from everfit.serve.app import build_app  # noqa: PLC0415 - as above
    from everfit.serve.connection import Connection  # noqa: PLC0415 - as above

    config = Config(
        build_app(*servings, port=listening.getsockname()[1], tracer=tracer, beside=_rpc(grpc, tracer)),
        loop="auto",
        http=Connection,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=LAST_ANSWERS,
    )
    server = Server(config)
    _allow_connections()
    with _ending(server):
        server.run(sockets=[listening])


def _rpc(address: str, tracer: Tracer | None) -> Beside | None:
    if not address:
        return None
    try:
        from everfit.serve.rpc import Rpc  # noqa: PLC0415 - only where it is wanted: grpcio is an extra
    except ImportError as error:
        raise UsageError(f"gRPC needs the extra: pip install 'everfit[grpc]' ({error})") from error
    host, _, port = address.rpartition(":")
    bind(host.strip("[]"), int(port), shared=True).close()  # an address in use is found here and not in the event loop
    made: Beside = Rpc(address, tracer)
    return made


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening address; `shared` lets several sockets have it, among which the system spreads connections.

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
        if shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind(address)
        listening.listen(BACKLOG)  # so that a port in use is found here and not inside the event loop
    except OSError as error:
        listening.close()
        raise UsageError(
            f"cannot listen on {host}:{port}: {error.strerror}; "
            "end what uses the port, or choose another (0: any free one)"
        ) from error
    return listening


def _allow_connections() -> None:
    """Let this process have as many connections as the system lets it: 1,024 is the usual number where nobody asks."""
    if sys.platform != "win32":
        import resource  # noqa: PLC0415 - not everywhere

        now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        if resource.RLIM_INFINITY not in {now, most}:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


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

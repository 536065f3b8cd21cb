"""Where things are: from the environment, with defaults inside the project's folder.

Takes environment variables; gives frozen settings; never holds what is wanted (that is the spec) nor a secret in a
file.
"""

from __future__ import annotations

import getpass
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from everfit.errors import UsageError
from everfit.units import parse_bytes, parse_duration, parse_share

SPEC_FILE = "everfit.yaml"
LEAST_MEMORY = 256 * 2**20  # bytes: Python with polars and scikit-learn holds 150 to 200 MiB before it scores


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things are for one project folder."""

    project: Path
    state: Path  # EVERFIT_STATE: journal, lake, ledger, models and runs
    database: str  # EVERFIT_DATABASE_URL: the ledger; sqlite:/// or postgresql+psycopg://
    lake: str  # EVERFIT_LAKE: a folder or an object store's URL
    mlflow: str  # EVERFIT_MLFLOW_URI: tracking and registry
    host: str  # EVERFIT_HOST
    port: int  # EVERFIT_PORT; 0: any free one
    lease: timedelta  # EVERFIT_LEASE: how long a worker may be silent before another takes over
    log: str  # EVERFIT_LOG: debug, info, warning, error
    held_log: bool  # EVERFIT_PREDICTION_LOG=held: answers wait until the prediction is durable
    workers: int = 1  # EVERFIT_WORKERS: server processes that share the port
    grpc_port: int | None = None  # EVERFIT_GRPC_PORT: where v2 is offered by gRPC too; unset: nowhere
    challenger_memory: int = 2 * 2**30  # EVERFIT_CHALLENGER_MEMORY: bytes a tried model's process may hold, as 500MB
    challenger_cpu: float = 0.5  # EVERFIT_CHALLENGER_CPU: share of a core that copies of requests may take, as 25%
    gateway: str = ""  # EVERFIT_GATEWAY: kserve://, sagemaker://, command: or a webhook; unset: our own servers
    gateway_can: str = ""  # EVERFIT_GATEWAY_CAN: what a command or webhook can beside going live: split, mirror
    gateway_secret: str = field(default="", repr=False)  # EVERFIT_GATEWAY_SECRET: signs what a webhook is sent
    events: str = ""  # EVERFIT_EVENTS: the project's server, to which `everfit serve-model` brings its rows
    lake_options: Mapping[str, str] = field(default_factory=dict)  # EVERFIT_LAKE_*: keys of the object store

    @property
    def spec(self) -> Path:
        """The spec file."""
        return self.project / SPEC_FILE

    @property
    def journal(self) -> Path:
        """The journal of this machine's server."""
        return self.state / "journal.db"

    @property
    def serving(self) -> Path:
        """Published models and routing."""
        return self.state / "serving"

    @property
    def runs(self) -> Path:
        """Folders of training runs: rows, log and model of each."""
        return self.state / "runs"

    @property
    def clock_file(self) -> Path:
        """The model's time and what is settled, for those who replay."""
        return self.state / "clock.json"


def settings_for(project: Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of a project folder.

    >>> settings_for(Path("p"), {}).journal.as_posix().endswith("p/.everfit/journal.db")
    True

    Raises:
        UsageError: a variable cannot be read; the text names it.
    """
    project = project.resolve()
    state = Path(environ.get("EVERFIT_STATE", project / ".everfit"))
    prefix = "EVERFIT_LAKE_"
    return Settings(
        project=project,
        state=state,
        database=environ.get("EVERFIT_DATABASE_URL", f"sqlite:///{state / 'ledger.db'}"),
        lake=environ.get("EVERFIT_LAKE", str(state / "lake")),
        mlflow=environ.get("EVERFIT_MLFLOW_URI", f"sqlite:///{state / 'mlflow.db'}"),
        host=environ.get("EVERFIT_HOST", "127.0.0.1"),
        port=_whole(environ, "EVERFIT_PORT", 8080),
        lease=_lasting(environ, "EVERFIT_LEASE", "30s"),
        log=environ.get("EVERFIT_LOG", "info"),
        held_log=environ.get("EVERFIT_PREDICTION_LOG", "async") == "held",
        workers=_whole(environ, "EVERFIT_WORKERS", 1),
        grpc_port=_whole(environ, "EVERFIT_GRPC_PORT", 0) if environ.get("EVERFIT_GRPC_PORT") else None,
        challenger_memory=_size(environ, "EVERFIT_CHALLENGER_MEMORY", "2GiB"),
        challenger_cpu=_share(environ, "EVERFIT_CHALLENGER_CPU", "50%"),
        gateway=environ.get("EVERFIT_GATEWAY", ""),
        gateway_can=environ.get("EVERFIT_GATEWAY_CAN", ""),
        gateway_secret=environ.get("EVERFIT_GATEWAY_SECRET", ""),
        events=environ.get("EVERFIT_EVENTS", ""),
        lake_options={key.removeprefix(prefix): value for key, value in environ.items() if key.startswith(prefix)},
    )


def whoami() -> str:
    """The person at this machine, as the ledger writes them."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "somebody"
    return f"{name}@{platform.node()}"


def _whole(environ: Mapping[str, str], name: str, default: int) -> int:
    try:
        return int(environ.get(name, default))
    except ValueError:
        raise UsageError(f"{name}={environ[name]!r} is not a whole number") from None


def _size(environ: Mapping[str, str], name: str, default: str) -> int:
    text = environ.get(name, default)
    try:
        size: int = int(text) if text.isdecimal() else parse_bytes(text)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None
    if size < LEAST_MEMORY:
        raise UsageError(f"{name}={text!r}: a process that scores needs at least {LEAST_MEMORY // 2**20} MiB")
    return size


def _share(environ: Mapping[str, str], name: str, default: str) -> float:
    text = environ.get(name, default)
    try:
        share: float = parse_share(text if "%" in text else float(text))
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise UsageError(f"{name}={text!r} is not a share above 0 and up to 1; write for instance 25% or 0.25")
    return share


def _lasting(environ: Mapping[str, str], name: str, default: str) -> timedelta:
    try:
        lasting: timedelta = parse_duration(environ.get(name, default))
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None
    return lasting

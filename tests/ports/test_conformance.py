"""Clients of other people, unmodified, against a real server process: tritonclient, kserve's and MLflow's.

They need other versions of libraries than Everfit does, so they live in an environment of their own, below `.cache/`,
which the first run makes.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ports.test_server import WAIT, Server, release, write_trained
from tests.unit.serve.fakes import MODEL, until

HERE = Path(__file__).parent
HOME = HERE.parents[1] / ".cache" / "clients"
WANTED = (
    "tritonclient[grpc,http]==2.73.0",
    "kserve==0.21.0",
    "kubernetes<33",
    "mlflow-skinny==3.17.2",
    "pandas<3",
    "scipy",
)
SAID = {
    "triton": ["triton"] * 3 + ["triton by gRPC"] * 2,
    "others": ["kserve", "kserve by gRPC"] + ["mlflow"] * 2,
}


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter of the clients' environment. Skips with a reason where it cannot be made, except in CI."""
    made, note = HOME / "bin" / "python", HOME / "wanted.txt"
    if note.is_file() and note.read_text() == "\n".join(WANTED):
        return made
    uv = Path(sys.executable).with_name("uv")
    steps: list[list[str | Path]] = [
        [uv, "venv", "-q", "--clear", "-p", sys.executable, HOME],
        [uv, "pip", "install", "-q", "-p", made, *WANTED],
    ]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            assert not os.environ.get("CI"), done.stderr
            pytest.skip(f"the clients cannot be installed here: {done.stderr.strip().splitlines()[-1:]}")
    note.write_text("\n".join(WANTED))
    return made


def test_clients_of_triton_kserve_and_mlflow_work_unmodified(tmp_path: Path, python: Path) -> None:
    write_trained(tmp_path / "shelf" / "1", seed=1)
    release(tmp_path, tmp_path / "shelf" / "1", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        grpc = str(free.getsockname()[1])
    server = Server(tmp_path, "async", grpc)
    try:
        until(lambda: server.client.get("/ping").status_code == 200, WAIT)
        told = [str(server.client.base_url.port), MODEL, grpc]
        for who, expected in SAID.items():
            command: list[str | Path] = [python, HERE / "client_script.py", *told, who]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
            assert done.returncode == 0, done.stderr
            assert [line.split(":")[0] for line in done.stdout.splitlines()] == expected
    finally:
        server.close()

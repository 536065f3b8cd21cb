"""A gateway in front of nginx, for `EVERFIT_GATEWAY=command:python nginx_gate.py` and `EVERFIT_GATEWAY_CAN=split`.

Takes Everfit's verbs on standard input; gives one server for each model that is routed to, and an nginx that shares
requests out among them; never moves traffic before every server of the route answers.

It needs `nginx` and `everfit` on the path, and from the environment: GATE_HOME, a folder of its own, GATE_LISTEN, where
nginx shall listen (127.0.0.1:8000), and EVERFIT_EVENTS, the address of the server of `everfit up`.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from threading import Event
from typing import Any

HOME = Path(os.environ["GATE_HOME"])
LISTEN = os.environ.get("GATE_LISTEN", "127.0.0.1:8000")
ROUTE, CONF = HOME / "route.json", HOME / "nginx.conf"
NGINX = ("nginx", "-p", str(HOME), "-c", str(CONF), "-e", "error.log")
FIRST_PORT = int(os.environ.get("GATE_PORTS", "9001"))  # of the models' servers; each gets the next one
Told = dict[str, Any]

# A customer stays with one model while shares rise: nginx hashes the header and gives the first part of the range to
# the challenger. Whom the challenger cannot answer, the champion does.
TEMPLATE = """
pid nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
    map $http_x_customer $who {{ "" $request_id; default $http_x_customer; }}
    split_clients "{salt} $who" $model {{ {share} * champion; }}
    upstream champion {{ server 127.0.0.1:{champion}; keepalive 16; }}
    upstream challenger {{ server 127.0.0.1:{challenger}; keepalive 16; }}
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    server {{
        listen {listen};
        location = /route {{ return 200 "{key}"; }}
        location / {{ proxy_pass http://$model; error_page 502 504 = @champion; }}
        location @champion {{ proxy_pass http://champion; }}
    }}
}}
"""


# ---- the verbs -------------------------------------------------------------------------------------------------------
def publish(told: Told) -> Told:
    """Give a model's server a port; it starts when traffic is to go there."""
    file = record(told["candidate"])
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        taken = {about(other.stem)["port"] for other in file.parent.glob("*.json")}
        port = next(port for port in range(FIRST_PORT, 2**16) if port not in taken)
        file.write_text(json.dumps({"folder": told["folder"], "version": told["version"], "port": port, "pid": 0}))
    return {}


def point(told: Told) -> Told:
    """Remember the route, start the servers that it needs, and follow it at once if they are up."""
    unknown = [each for each in named(told["route"]) if not record(each).exists()]
    if unknown:
        return {"error": f"{unknown[0]} was never published here"}
    ROUTE.write_text(json.dumps(told["route"]))
    for each in named(told["route"]):
        start(each)
    follow()
    return {}


def confirmed(told: Told) -> Told:
    """Whether nginx answers by this route; the newest one rules, whoever asks."""
    for each in named(told["route"]):
        if not is_alive(each):
            last = (HOME / f"{each}.log").read_text().strip().splitlines()[-1:]
            return {"error": f"the server of version {about(each)['version']} ended: {''.join(last)}"}
    follow()
    return {"confirmed": answer_of(f"http://{LISTEN}/route") == told["route"]["key"]}


def withdraw(told: Told) -> Told:
    """End a model's server, unless it is routed to."""
    candidate = told["candidate"]
    routed = named(json.loads(ROUTE.read_text())) if ROUTE.exists() else []
    if candidate not in routed and record(candidate).exists():
        if is_alive(candidate):
            os.kill(about(candidate)["pid"], signal.SIGTERM)
        record(candidate).unlink()
    return {}


def again(told: Told) -> Told:
    """After a reboot, said by a person or by systemd: start what the last route needs, and wait until nginx follows."""
    route = {"route": json.loads(ROUTE.read_text())}
    said = point(route)
    while not said:
        Event().wait(1)
        said = {key: value for key, value in confirmed(route).items() if value}
    return said


# ---- nginx and the servers -------------------------------------------------------------------------------------------
def follow() -> None:
    """Let nginx follow the route, once all its servers answer."""
    route = json.loads(ROUTE.read_text())
    if not all(answer_of(f"http://127.0.0.1:{about(each)['port']}/v2/health/ready") for each in named(route)):
        return
    trial = route["trial"] or {"candidate": route["candidate"], "weight": 0.0, "salt": ""}
    conf = TEMPLATE.format(
        salt=trial["salt"],
        share=f"{trial['weight']:.2%} challenger;" if trial["weight"] else "",
        champion=about(route["candidate"])["port"],
        challenger=about(trial["candidate"])["port"],
        listen=LISTEN,
        key=route["key"],
    )
    now = answer_of(f"http://{LISTEN}/route")
    if now != route["key"]:
        (HOME / "tmp").mkdir(exist_ok=True)
        CONF.write_text(conf)
        subprocess.run([*NGINX, *(["-s", "reload"] if now else [])], check=True)


def start(candidate: str) -> None:
    """Start a model's server, if it is not up. In earnest, let systemd do this, so that one that dies comes back."""
    if is_alive(candidate):
        return
    told = about(candidate)
    with (HOME / f"{candidate}.log").open("wb") as log:
        child = subprocess.Popen(
            ["everfit", "serve-model", told["folder"], "--port", str(told["port"])],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "EVERFIT_STATE": str(HOME / "state"), "EVERFIT_GRPC_PORT": ""},
        )  # fmt: skip
    record(candidate).write_text(json.dumps({**told, "pid": child.pid}))


def is_alive(candidate: str) -> bool:
    """Whether the process of a model's server is there."""
    pid = about(candidate)["pid"]
    status = Path(f"/proc/{pid}/stat")
    return pid > 0 and status.exists() and ") Z " not in status.read_text()


def answer_of(url: str) -> str:
    """What an address answers with success; empty if it does not."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return str(answer.read().decode() or "yes")
    except OSError:
        return ""


def record(candidate: str) -> Path:
    """Where it is written down what a model's server is."""
    return HOME / "servers" / f"{candidate}.json"


def about(candidate: str) -> Told:
    """What is written down about a model's server: folder, version, port, pid."""
    told: Told = json.loads(record(candidate).read_text())
    return told


def named(route: Told) -> list[str]:
    """The candidates of a route."""
    return [route["candidate"], *([route["trial"]["candidate"]] if route["trial"] else [])]


if __name__ == "__main__":
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "lock").open("w") as lock:  # one verb at a time: a person may speak while a worker does
        fcntl.flock(lock, fcntl.LOCK_EX)
        verbs = {"publish": publish, "point": point, "confirmed": confirmed, "withdraw": withdraw, "again": again}
        print(json.dumps(verbs[sys.argv[1]](json.loads(sys.stdin.read() or "{}"))))

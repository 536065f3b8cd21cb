"""A Kubernetes API that knows InferenceServices, with what moves traffic of KServe's and Knative's controllers.

Takes HTTP as `kubernetes` sends it; gives objects with resource versions, refuses stale writes with 409, and after
each read takes one turn of the controllers. It follows `createKnativeService` and `PropagateStatus` of KServe (v1beta1,
Knative mode): what it does not know is answered with 404.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]
SERVICES = "/apis/serving.kserve.io/v1beta1/namespaces/"
REVISIONS = "/apis/serving.knative.dev/v1/namespaces/"
SOURCE = "internal.serving.kserve.io/storage-initializer-sourceuri"


class Cluster:
    """The objects, and the controllers' turns. A revision is ready after `slow` reads; a `broken` URI never is."""

    def __init__(self, *, slow: int = 2) -> None:
        self.services: dict[str, Json] = {}
        self.revisions: dict[str, Json] = {}
        self.slow = slow
        self.broken: dict[str, str] = {}
        self.refused: int | None = None  # answer everything with this status
        self.before_write: Callable[[], None] = lambda: None
        self.served: list[dict[str, int]] = []  # traffic by URI after every turn: what users would have met
        self.writes = 0
        self.mode = "Serverless"
        self._version = 0
        self._turns: dict[str, int] = {}
        self.lock = threading.RLock()

    # ---- the API -----------------------------------------------------------------------------------------------------
    def get(self, kind: str, name: str) -> tuple[int, Json]:
        """Read an object; the controllers then take a turn."""
        with self.lock:
            objects = self.services if kind == SERVICES else self.revisions
            if name not in objects:
                return 404, {"reason": "NotFound", "message": f"{name} not found"}
            found: Json = json.loads(json.dumps(objects[name]))
            if kind == SERVICES:
                self.turn(name)
            return 200, found

    def create(self, body: Json) -> tuple[int, Json]:
        """Create a service."""
        with self.lock:
            name = body["metadata"]["name"]
            if name in self.services:
                return 409, {"reason": "AlreadyExists"}
            return 201, self._put(name, body, {})

    def replace(self, name: str, body: Json) -> tuple[int, Json]:
        """Replace a service's spec, if the writer read the newest version."""
        with self.lock:
            if name not in self.services:
                return 404, {"reason": "NotFound", "message": f"{name} not found"}
            now = self.services[name]
            if body["metadata"].get("resourceVersion") != now["metadata"]["resourceVersion"]:
                return 409, {"reason": "Conflict", "message": "the object has been modified"}
            return 200, self._put(name, body, now.get("status", {}))

    def _put(self, name: str, body: Json, status: Json) -> Json:
        percent = body["spec"]["predictor"].get("canaryTrafficPercent")
        assert percent is None or (isinstance(percent, int) and 0 <= percent <= 100)
        self._version += 1
        self.writes += 1
        body["metadata"]["resourceVersion"] = str(self._version)
        body["status"] = status  # its own resource: a write of the object does not change it
        self.services[name] = body
        return body

    # ---- the controllers ---------------------------------------------------------------------------------------------
    def turn(self, name: str) -> None:
        """One turn: a revision for a new template, one read nearer to ready, traffic, status."""
        with self.lock:
            service = self.services[name]
            predictor, status = service["spec"]["predictor"], service.setdefault("status", {})
            status["deploymentMode"] = self.mode
            seen = status.setdefault("components", {}).setdefault("predictor", {})
            uri = predictor["model"]["storageUri"]
            created = self._created(name, uri, service["metadata"].get("annotations", {}))
            self._turns[created] = self._turns.get(created, 0) + 1
            latest = created if self._turns[created] > self.slow and uri not in self.broken else None
            ready = latest or seen.get("latestReadyRevision", "")
            self._route(seen, predictor.get("canaryTrafficPercent"), created, ready)
            self._say(status, uri, bool(latest))

    def _created(self, name: str, uri: str, annotations: Json) -> str:
        mine = sorted(each for each in self.revisions if each.startswith(f"{name}-predictor-"))
        template = {**annotations, SOURCE: uri}
        if mine and self.revisions[mine[-1]]["metadata"]["annotations"] == template:
            return mine[-1]
        fresh = f"{name}-predictor-{len(mine) + 1:05}"
        self.revisions[fresh] = {"metadata": {"name": fresh, "annotations": template}}
        return fresh

    def _route(self, seen: Json, percent: int | None, created: str, ready: str) -> None:
        rolled = seen.get("latestRolledoutRevision", "")
        targets = [(ready, True, 100)]
        if percent is not None and rolled:
            targets = [(ready, True, percent), *([(rolled, False, 100 - percent)] if percent < 100 else [])]
        traffic = [{"revisionName": r, "latestRevision": latest, "percent": p} for r, latest, p in targets if r]
        by: dict[str, int] = {}
        for target in traffic:
            by[str(target["revisionName"])] = by.get(str(target["revisionName"]), 0) + int(str(target["percent"]))
        if ready:  # PropagateStatus
            share = next(p for r, latest, p in targets if latest)
            if rolled != ready and share == 100:
                seen["previousRolledoutRevision"], seen["latestRolledoutRevision"] = rolled, ready
            elif rolled == ready == created and share < 100 and by[ready] == 100:
                seen["latestRolledoutRevision"] = seen.get("previousRolledoutRevision") or rolled
        seen |= {"latestCreatedRevision": created, "latestReadyRevision": ready, "traffic": traffic}
        source = {r: self.revisions[r]["metadata"]["annotations"][SOURCE] for r in by}
        served: dict[str, int] = {}
        for revision, share in by.items():
            served[source[revision]] = served.get(source[revision], 0) + share
        self.served.append({uri: share for uri, share in served.items() if share})

    def _say(self, status: Json, uri: str, up: bool) -> None:
        told: Json = {"transitionStatus": "UpToDate" if up else "InProgress"}
        if uri in self.broken:
            failure = {"reason": "ModelLoadFailed", "message": self.broken[uri]}
            told = {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": failure}
        status["modelStatus"] = told
        status["conditions"] = [{"type": "Ready", "status": "True" if up else "False"}]


class _Api(BaseHTTPRequestHandler):
    cluster: Cluster
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet for headers and body: two of them wait 40 ms for each other

    def do_GET(self) -> None:
        kind = SERVICES if self.path.startswith(SERVICES) else REVISIONS
        self._answer(*self._refused() or self.cluster.get(kind, self.path.rpartition("/")[2]))

    def do_POST(self) -> None:
        self._answer(*self._refused() or self.cluster.create(self._body()))

    def do_PUT(self) -> None:
        body = self._body()
        self.cluster.before_write()
        self._answer(*self._refused() or self.cluster.replace(self.path.rpartition("/")[2], body))

    def _refused(self) -> tuple[int, Json] | None:
        status = self.cluster.refused
        return None if status is None else (status, {"message": "not today"})

    def _body(self) -> Json:
        body: Json = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        return body

    def _answer(self, status: int, body: Json) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Tests say what went wrong."""


@contextmanager
def serving(cluster: Cluster) -> Iterator[str]:
    """The API of a cluster on a port of this machine; its address."""
    handler = type("Api", (_Api,), {"cluster": cluster})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""KServe as the gateway: one InferenceService for a model, its canary share moved step by step. Door to `kubernetes`.

Takes published models and routes; gives an InferenceService whose `storageUri` and `canaryTrafficPercent` follow them;
never gives traffic to a revision that is not ready, and never touches any other field of a service that exists.

How a roll-out maps, after KServe's own controller (`createKnativeService` and `PropagateStatus` of KServe 0.15): the
share `canaryTrafficPercent` goes to the latest ready revision and the rest to `latestRolledoutRevision`. So a
challenger is staged with 0 %, raised when its revision is ready, promoted by taking the field away, and taken back by
setting 0 %, which waits for no pod. A promoted model is taken back by the same write; Knative has ended the pods of the
one before by then (`ScaleBounds`: no minimum for what no route names), so its first requests wait until they are up.
The annotations of a service that exists are left alone: KServe copies them into the revision's template, and each
change would start new pods.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubernetes import config
from kubernetes.client import ApiClient, Configuration, CustomObjectsApi
from kubernetes.client.exceptions import ApiException, OpenApiException
from urllib3.exceptions import HTTPError

from everfit.adapters.outside import Still, read_address
from everfit.adapters.shared_store import Store, store_at
from everfit.errors import ModelUnusable, Unavailable, UsageError
from everfit.ports import Can, Route
from everfit.retrain.candidate import Candidate

SERVICES = {"group": "serving.kserve.io", "version": "v1beta1", "plural": "inferenceservices"}
REVISIONS = {"group": "serving.knative.dev", "version": "v1", "plural": "revisions"}
SOURCE = "internal.serving.kserve.io/storage-initializer-sourceuri"  # KServe writes it on each revision
PACE, PATIENCE = 2.0, 1800.0  # a node may have to start for a new pod
TIMEOUT = 10.0  # seconds for one answer of the API
TRIES = 5  # of a write that others came before
NAME = re.compile(r"[a-z]([-a-z0-9]{0,52}[a-z0-9])?")  # a DNS label, with room for KServe's own suffix
BLOCKED = frozenset({"BlockedByFailedLoad", "InvalidSpec"})
KNATIVE = frozenset({"Serverless", "Knative"})  # one mode: its name until KServe 0.15, and from 0.16 on
MODE = {
    "serving.kserve.io/deploymentMode": "Serverless"
}  # the old name is understood by both; by default it is another
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the API says of a service that exists."""

    uri: str  # of its spec
    percent: int | None  # of its spec; None: all traffic to the latest revision that is ready
    latest: str  # URI of the revision that was created last
    ready: bool  # whether that one is ready, and the service with it
    stable: str  # URI of the revision that last had all traffic
    before: str  # URI of the one before it
    traffic: Mapping[str, int]  # percent by URI
    blocked: str = ""  # why the latest revision does not load, in KServe's words


@dataclass(frozen=True, slots=True)
class Want:
    """What a route asks of the service."""

    uri: str  # of the model that keeps the rest of the traffic
    trial: str | None = None
    percent: int = 0  # of the challenger


def next_step(seen: Seen, want: Want) -> tuple[str, int | None] | None:
    """The storage URI and canary share to write next; None: nothing to write now.

    >>> seen = Seen("s3://a", None, "s3://a", True, "s3://a", "", {"s3://a": 100})
    >>> next_step(seen, Want("s3://a", "s3://b", 5))  # staged without traffic first
    ('s3://b', 0)
    >>> next_step(Seen("s3://b", 5, "s3://b", True, "s3://a", "", {"s3://a": 95, "s3://b": 5}), Want("s3://a"))
    ('s3://b', 0)
    """
    if want.trial and seen.stable == want.uri:
        up = seen.ready and seen.latest == seen.uri == want.trial
        wanted = (want.trial, want.percent if up else 0)
        return wanted if wanted != (seen.uri, seen.percent) else None
    return _alone(seen, want.uri)


def _alone(seen: Seen, uri: str) -> tuple[str, int | None] | None:
    if seen.uri == uri:
        up = seen.ready and seen.latest == uri
        return (uri, None) if up and seen.percent is not None else None
    if uri == seen.stable or (seen.stable == seen.uri and uri == seen.before):
        return None if seen.percent == 0 else (seen.uri, 0)  # the way back: its pods are up
    # Staged first: with no share said, KServe would meanwhile send all to the latest revision that is ready, and that
    # may be a challenger which was taken back.
    return uri, 0


def follows(seen: Seen, want: Want) -> bool:
    """Whether traffic goes as wanted, to revisions that are ready.

    >>> follows(Seen("s3://b", 5, "s3://b", True, "s3://a", "", {"s3://a": 95, "s3://b": 5}), Want("s3://a"))
    False
    """
    shares = {want.uri: 100 - want.percent}
    if want.trial:
        shares[want.trial] = want.percent
        if not (seen.ready and seen.latest == want.trial):
            return False
    return all(seen.traffic.get(uri, 0) == share for uri, share in shares.items())


@dataclass(slots=True)
class KServe:
    """Implements `everfit.adapters.outside.Remote` with an InferenceService for each model."""

    api: CustomObjectsApi
    namespace: str
    store: Store
    runs: Mapping[str, str]  # `format`, and `runtime` and `account` where given: used when a service is created
    pace: float = PACE
    patience: float = PATIENCE
    can: frozenset[Can] = frozenset({Can.SPLIT})
    _sources: dict[str, str] = field(default_factory=dict)  # URI by revision; a revision never changes

    def publish(self, candidate: Candidate, version: int, folder: Path) -> None:
        """Copy a model's files to the store."""
        self.store.bring(candidate.id, folder)

    def point(self, model: str, route: Route, still: Still) -> None:
        """Take the first step towards a route."""
        self._step(model, self._want(model, route), still)

    def confirmed(self, model: str, route: Route, still: Still) -> bool:
        """Whether traffic goes as the route says; else the next step is taken.

        Raises:
            ModelUnusable: the model of the latest revision does not load, in KServe's words.
        """
        want = self._want(model, route)
        seen = self._step(model, want, still)
        if seen is None:
            return False
        if follows(seen, want):
            return True
        if seen.blocked and seen.uri == (want.trial or want.uri):
            raise ModelUnusable(f"KServe cannot load {seen.uri} for {model}: {seen.blocked}")
        return False

    def withdraw(self, model: str, candidate: str) -> None:
        """Remove a model's files, unless the service names them."""
        found = self._get(SERVICES, _named(model))
        if found is None or self.store.of(candidate) != _uri(found):
            self.store.drop(candidate)

    def _want(self, model: str, route: Route) -> Want:
        uri = self.store.of(route.candidate)
        if route.trial is None:
            return Want(uri)
        percent = round(route.trial.weight * 100)
        if abs(percent - route.trial.weight * 100) > 1e-6:
            raise ModelUnusable(
                f"KServe shares traffic in whole percents; a weight of {route.trial.weight * 100:.10g} % is none: "
                f"round it in `rollout.weights` of {model}"
            )
        return Want(uri, self.store.of(route.trial.candidate), percent)

    def _step(self, model: str, want: Want, still: Still) -> Seen | None:
        """Take one step; what was seen when none was left to take, None after a write."""
        name = _named(model)
        for _ in range(TRIES):
            found = self._get(SERVICES, name)
            seen = None if found is None else self._seen(found)
            step = (want.uri, None) if seen is None else next_step(seen, want)
            # Read after the service: whoever speaks later changes it later, and our write then meets another version.
            if step is None or not still():
                return seen
            if self._write(name, found, step):
                return None
        raise Unavailable(f"others change the InferenceService {self.namespace}/{name} without pause; try again")

    def _write(self, name: str, found: Json | None, step: tuple[str, int | None]) -> bool:
        """Write a step on top of what was read; False if somebody else wrote meanwhile."""
        uri, percent = step
        body = self._fresh(name) if found is None else found
        predictor = body["spec"]["predictor"]
        predictor["model"]["storageUri"] = uri
        predictor.pop("canaryTrafficPercent", None)
        if percent is not None:
            predictor["canaryTrafficPercent"] = percent
        try:
            if found is None:
                self._call(self.api.create_namespaced_custom_object, SERVICES, body=body)
            else:
                self._call(self.api.replace_namespaced_custom_object, SERVICES, name=name, body=body)
        except ApiException as error:
            if error.status == 409 or (error.status == 404 and found is not None):  # changed or deleted meanwhile
                return False
            raise self._failure(error, name) from error
        return True

    def _fresh(self, name: str) -> Json:
        model: Json = {"modelFormat": {"name": self.runs["format"]}, "protocolVersion": "v2"}
        if "runtime" in self.runs:
            model["runtime"] = self.runs["runtime"]
        predictor: Json = {"minReplicas": 1, "model": model}  # 1: what has no traffic stays warm
        if "account" in self.runs:
            predictor["serviceAccountName"] = self.runs["account"]
        labels = {"app.kubernetes.io/managed-by": "everfit"}
        metadata = {"name": name, "namespace": self.namespace, "labels": labels, "annotations": {**MODE}}
        version = f"{SERVICES['group']}/{SERVICES['version']}"
        return {
            "apiVersion": version,
            "kind": "InferenceService",
            "metadata": metadata,
            "spec": {"predictor": predictor},
        }

    def _seen(self, found: Json) -> Seen:
        status = found.get("status") or {}
        if (mode := status.get("deploymentMode") or "Knative") not in KNATIVE:
            raise UsageError(
                f"the InferenceService {self.namespace}/{found['metadata']['name']} runs without Knative "
                f"({mode}), where KServe shares no traffic and keeps no revision to go back to; "
                "deploy it in Knative mode, or use a command or webhook as the gateway"
            )
        predictor = (status.get("components") or {}).get("predictor") or {}
        traffic: dict[str, int] = {}
        for target in predictor.get("traffic") or []:
            if target.get("percent"):
                uri = self._source(target.get("revisionName", ""))
                traffic[uri] = traffic.get(uri, 0) + target["percent"]
        latest = predictor.get("latestCreatedRevision", "")
        return Seen(
            uri=_uri(found),
            percent=found["spec"]["predictor"].get("canaryTrafficPercent"),
            latest=self._source(latest),
            ready=bool(latest) and latest == predictor.get("latestReadyRevision") and _is(status, "Ready"),
            stable=self._source(predictor.get("latestRolledoutRevision", "")),
            before=self._source(predictor.get("previousRolledoutRevision", "")),
            traffic=traffic,
            blocked=_blocked(status, latest) if self._source(latest) == _uri(found) or not latest else "",
        )

    def _source(self, revision: str) -> str:
        """The storage URI that a revision was made with; empty if it is gone."""
        if not revision:
            return ""
        if revision not in self._sources:
            found = self._get(REVISIONS, revision)
            if found is None:
                return ""
            self._sources[revision] = str((found["metadata"].get("annotations") or {}).get(SOURCE, ""))
        return self._sources[revision]

    def _get(self, kind: Mapping[str, str], name: str) -> Json | None:
        try:
            found: Json = self._call(self.api.get_namespaced_custom_object, kind, name=name)
        except ApiException as error:
            if error.status == 404:
                return None
            raise self._failure(error, name) from error
        return found

    def _call(self, verb: Callable[..., Any], kind: Mapping[str, str], **rest: Any) -> Any:
        try:
            return verb(namespace=self.namespace, _request_timeout=TIMEOUT, **kind, **rest)
        except ApiException:
            raise
        except (HTTPError, OpenApiException, OSError) as error:
            raise Unavailable(f"the Kubernetes API does not answer: {error}") from error

    def _failure(self, error: ApiException, name: str) -> Exception:
        said = f"{error.status} {error.reason}: {str(error.body or '')[:300]}"
        if error.status in {401, 403}:
            return UsageError(
                f"Kubernetes does not let us at {self.namespace}/{name} ({said}); see the role in docs/gateways.md"
            )
        if error.status == 404:
            return UsageError(
                f"there is no namespace {self.namespace!r} in this cluster, or no KServe ({said}); install it, or name "
                "another namespace in EVERFIT_GATEWAY"
            )
        if error.status in {400, 422}:
            return ModelUnusable(f"KServe refuses the InferenceService {self.namespace}/{name}: {said}")
        return Unavailable(f"the Kubernetes API failed at {self.namespace}/{name}: {said}")


def kserve_at(setting: str, api: ApiClient | None = None) -> KServe:
    """The KServe that `kserve://NAMESPACE?store=...` names; by default the cluster of the kubeconfig, or our own.

    Raises:
        UsageError: an option is missing or unknown, the store is none, or there is no cluster's configuration.
    """
    address = read_address(setting, ("store",), ("folder", "format", "runtime", "account", "context"))
    options = address.options
    store = store_at(options["store"], options.get("folder"))
    if api is None:
        api = _client(options.get("context"))
    runs = {"format": "everfit"} | {name: options[name] for name in ("format", "runtime", "account") if name in options}
    return KServe(CustomObjectsApi(api), address.place, store, runs)


def _client(context: str | None) -> ApiClient:
    """A client of the kubeconfig's cluster; inside a pod without one, of its own."""
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
            inside = Configuration()
            config.load_incluster_config(inside)  # type: ignore[no-untyped-call]  # the package types its API only
            return ApiClient(inside)
        outside: ApiClient = config.new_client_from_config(context=context)  # type: ignore[no-untyped-call]  # as above
        return outside
    except (config.ConfigException, OSError) as error:
        raise UsageError(
            f"no Kubernetes configuration was found ({error}); set KUBECONFIG, or run inside a cluster"
        ) from error


def _named(model: str) -> str:
    if not NAME.fullmatch(model):
        raise UsageError(
            f"{model!r} cannot name an InferenceService: small letters, digits and dashes, at most 54, such as delay-1"
        )
    return model


def _uri(found: Json) -> str:
    model = found["spec"].get("predictor", {}).get("model")
    if model is None:
        raise UsageError(
            f"the InferenceService {found['metadata']['name']} has no spec.predictor.model; write it in KServe's new "
            "schema (modelFormat), so that its storageUri can be changed"
        )
    return str(model.get("storageUri", ""))


def _is(status: Json, condition: str) -> bool:
    told = {each.get("type"): each.get("status") for each in status.get("conditions") or []}
    return told.get(condition) == "True"


def _blocked(status: Json, latest: str) -> str:
    """Why the latest revision does not load; empty if it may still."""
    told = status.get("modelStatus") or {}
    failure = told.get("lastFailureInfo") or {}
    if told.get("transitionStatus") in BLOCKED:
        words = [str(failure.get(name, "")) for name in ("reason", "message")]
        return ": ".join(word for word in words if word) or str(told["transitionStatus"])
    for condition in status.get("conditions") or []:
        # Knative's own word on a revision that timed out; without one the pod may still come up.
        named = latest and latest in str(condition.get("message", ""))
        if condition.get("type") == "PredictorConfigurationReady" and condition.get("status") == "False" and named:
            return f"{condition.get('reason', '')}: {condition['message']}"
    return ""

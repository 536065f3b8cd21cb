"""SageMaker as the gateway: one endpoint whose production variants are our candidates. Door to `boto3`.

Takes published models and routes; gives an endpoint whose variants and weights follow them; never changes an endpoint
while SageMaker changes it, and never deletes one.

Each candidate is a variant under its own name, so what an endpoint says of itself tells who gets what. Where the
variants are there already, traffic moves by weights (promotion from a canary, and every way back); otherwise a new
endpoint configuration brings them, and the model that had the traffic stays in it with weight 0, warm.
"""

from __future__ import annotations

import re
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

from everfit.adapters.outside import Still, read_address
from everfit.errors import ModelUnusable, Unavailable, UsageError
from everfit.ids import content_key
from everfit.ports import Can, Route
from everfit.retrain.candidate import Candidate

PACE, PATIENCE = 5.0, 3600.0  # a change of variants takes many minutes: machines are started
MOVING = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})
BROKEN = frozenset({"Failed", "OutOfService", "UpdateRollbackFailed"})
NAME = re.compile(r"[a-zA-Z0-9](-?[a-zA-Z0-9]){0,62}")
# What a configuration says beside its variants: it is the user's, and a new one must not lose it.
KEPT = ("DataCaptureConfig", "KmsKeyId", "ExplainerConfig", "ExecutionRoleArn", "VpcConfig", "EnableNetworkIsolation")
ASKED = "everfit-asked"  # a tag of the endpoint: the last configuration that was asked for, and for which cause
TRIES = 3  # boto's own, with growing rests, on throttling and lost connections
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Machines:
    """What a variant runs on."""

    image: str  # of the container that serves a model's folder
    role: str  # ARN that the container acts under
    instance: str = "ml.m5.large"
    count: int = 1  # of a new variant; the others keep what they have by then
    subnets: tuple[str, ...] = ()  # of the VPC that containers run in, with `groups`
    groups: tuple[str, ...] = ()
    events: str = ""  # the project's server, which containers bring their rows to

    def model(self, data: str) -> Json:
        """What a SageMaker model of these machines is made of."""
        container: Json = {"Image": self.image, "ModelDataUrl": data}
        if self.events:
            container["Environment"] = {"EVERFIT_EVENTS": self.events}
        made: Json = {"PrimaryContainer": container, "ExecutionRoleArn": self.role}
        if self.subnets:
            made["VpcConfig"] = {"Subnets": list(self.subnets), "SecurityGroupIds": list(self.groups)}
        return made


def shares_of(route: Route) -> dict[str, float]:
    """The weight of each candidate.

    >>> from everfit.ports import Trial
    >>> shares_of(Route("c1", 1, "k", Trial("c2", 2, weight=0.25)))
    {'c1': 0.75, 'c2': 0.25}
    """
    trial = route.trial
    if trial is None:
        return {route.candidate: 1.0}
    return {route.candidate: 1.0 - trial.weight, trial.candidate: trial.weight}


def weighs(variants: Mapping[str, float], wanted: Mapping[str, float]) -> bool:
    """Whether these weights share traffic as wanted; weights count relative to their sum.

    >>> weighs({"c1": 3.0, "c2": 1.0, "old": 0.0}, {"c1": 0.75, "c2": 0.25})
    True
    """
    total = sum(variants.values())
    names = {*variants, *wanted}
    return total > 0 and all(abs(variants.get(each, 0.0) / total - wanted.get(each, 0.0)) < 1e-6 for each in names)


class SageMaker:
    """Implements `everfit.adapters.outside.Remote` with one endpoint."""

    can = frozenset({Can.SPLIT})
    pace = PACE
    patience = PATIENCE

    def __init__(self, endpoint: str, store: str, machines: Machines, region: str | None) -> None:
        self._endpoint = endpoint
        parts = urlsplit(store)
        self._bucket, self._prefix = parts.netloc, parts.path.strip("/")
        self._machines = machines
        options = Config(retries={"max_attempts": TRIES, "mode": "standard"}, connect_timeout=10, read_timeout=30)
        with self._amazon():
            self._api = boto3.client("sagemaker", region_name=region, config=options)
            self._files = boto3.client("s3", region_name=region, config=options)

    def publish(self, candidate: Candidate, version: int, folder: Path) -> None:
        """Put `model.tar.gz` into the bucket and make a SageMaker model of it; twice is once."""
        with self._amazon():
            if not self._has_file(candidate.id):
                self._upload(candidate.id, folder)
            if self._described("model", ModelName=_model_name(candidate.id)) is None:
                made = self._machines.model(f"s3://{self._bucket}/{self._key(candidate.id)}")
                self._api.create_model(ModelName=_model_name(candidate.id), Tags=self._tags, **made)

    def point(self, model: str, route: Route, still: Still) -> None:
        """Take the first step towards a route.

        Raises:
            Unavailable: SageMaker changes the endpoint and takes no other change meanwhile.
        """
        if self._step(route, still) is None:
            # Who points back asks nobody whether it was followed, so it must hear that it was not: it is tried again.
            raise Unavailable(f"SageMaker changes {self._endpoint} and takes no other change until that has ended")

    def confirmed(self, model: str, route: Route, still: Still) -> bool:
        """Whether the endpoint is in service with the route's weights; else the next step is taken.

        Raises:
            ModelUnusable: the endpoint failed, or SageMaker went back to the variants that it had.
        """
        return self._step(route, still) or False

    def withdraw(self, model: str, candidate: str) -> None:
        """Remove a model and its file, unless it is a variant of the endpoint, which could not start machines then."""
        with self._amazon():
            seen = self._described("endpoint", EndpointName=self._endpoint)
            if seen is not None and candidate in _weights(seen):
                return
            if self._described("model", ModelName=_model_name(candidate)) is not None:
                self._api.delete_model(ModelName=_model_name(candidate))
            self._files.delete_object(Bucket=self._bucket, Key=self._key(candidate))

    def _step(self, route: Route, still: Still) -> bool | None:
        """Whether the endpoint follows the route; if not, the next step was taken. None: no step can be taken now."""
        wanted = shares_of(route)
        with self._amazon():
            seen = self._described("endpoint", EndpointName=self._endpoint)
            if seen is None:
                if still():
                    name = self._config(wanted, {})
                    self._api.create_endpoint(EndpointName=self._endpoint, EndpointConfigName=name, Tags=self._tags)
                return False
            status, variants = seen["EndpointStatus"], _weights(seen)
            if status in MOVING:
                return None
            if status in BROKEN:
                raise ModelUnusable(
                    f"the SageMaker endpoint {self._endpoint} is {status}: {_why(seen)}; SageMaker takes no change of "
                    "it any more: delete it, and the next release makes it anew"
                )
            if weighs(variants, wanted):
                return True
            if still():
                self._move(seen, variants, wanted, route.key)
            return False

    def _move(self, seen: Json, variants: Mapping[str, float], wanted: Mapping[str, float], key: str) -> None:
        if set(wanted) <= set(variants):
            weights = [{"VariantName": each, "DesiredWeight": wanted.get(each, 0.0)} for each in sorted(variants)]
            self._api.update_endpoint_weights_and_capacities(
                EndpointName=self._endpoint, DesiredWeightsAndCapacities=weights
            )
            return
        name = self._config(wanted, seen)
        asked = f"{name} {content_key(key)}"
        if self._asked(seen) == asked:
            # It was accepted, has ended, and the variants are not there: SageMaker rolled its own change back.
            raise ModelUnusable(
                f"SageMaker went back to the variants that {self._endpoint} had; {_why(seen)}; the container's log is "
                f"in CloudWatch under /aws/sagemaker/Endpoints/{self._endpoint}"
            )
        self._api.update_endpoint(EndpointName=self._endpoint, EndpointConfigName=name)
        self._api.add_tags(ResourceArn=seen["EndpointArn"], Tags=[{"Key": ASKED, "Value": asked}])

    def _config(self, wanted: Mapping[str, float], seen: Json) -> str:
        """The endpoint configuration with these weights, made if there is none; its name follows from its content."""
        variants, running = _weights(seen), _counts(seen)
        had = max(variants, key=lambda each: variants[each], default=None)
        names = [*wanted]
        if had is not None and had not in wanted and self._described("model", ModelName=_model_name(had)) is not None:
            names.append(had)  # stays warm, to go back to by weights alone
        told = [
            {
                "VariantName": each,
                "ModelName": _model_name(each),
                "InitialVariantWeight": wanted.get(each, 0.0),
                "InitialInstanceCount": running.get(each, self._machines.count),
                "InstanceType": self._machines.instance,
            }
            for each in names
        ]
        now = self._described("endpoint_config", EndpointConfigName=seen["EndpointConfigName"]) if seen else None
        kept = {name: now[name] for name in KEPT if now and now.get(name)}
        name = f"everfit-{content_key(self._endpoint, told, kept)}"
        if self._described("endpoint_config", EndpointConfigName=name) is None:
            self._api.create_endpoint_config(EndpointConfigName=name, ProductionVariants=told, Tags=self._tags, **kept)
        return name

    @property
    def _tags(self) -> list[dict[str, str]]:
        """So that whoever reads the bill knows whose it is."""
        return [{"Key": "managed-by", "Value": "everfit"}, {"Key": "everfit-endpoint", "Value": self._endpoint}]

    def _asked(self, seen: Json) -> str:
        tags = self._api.list_tags(ResourceArn=seen["EndpointArn"])["Tags"]
        return next((str(tag["Value"]) for tag in reversed(tags) if tag["Key"] == ASKED), "")

    def _described(self, kind: str, **name: str) -> Json | None:
        try:
            found: Json = getattr(self._api, f"describe_{kind}")(**name)
        except ClientError as error:
            if "Could not find" in str(error):  # SageMaker has no error code of its own for it
                return None
            raise
        return found

    def _key(self, candidate: str) -> str:
        return "/".join(part for part in (self._prefix, candidate, "model.tar.gz") if part)

    def _has_file(self, candidate: str) -> bool:
        try:
            self._files.head_object(Bucket=self._bucket, Key=self._key(candidate))
        except ClientError as error:
            if error.response["Error"]["Code"] in {"404", "NoSuchKey", "NotFound"}:
                return False
            raise
        return True

    def _upload(self, candidate: str, folder: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            packed = Path(scratch) / "model.tar.gz"
            with tarfile.open(packed, "w:gz") as archive:
                archive.add(folder, arcname=".")
            self._files.upload_file(str(packed), self._bucket, self._key(candidate))

    @contextmanager
    def _amazon(self) -> Iterator[None]:
        """Amazon's errors in our words."""
        try:
            yield
        except ClientError as error:
            raise self._failure(error) from error
        except (NoCredentialsError, NoRegionError) as error:
            raise UsageError(
                f"SageMaker cannot be asked: {error}; set AWS_PROFILE or AWS_ACCESS_KEY_ID, and region= in the setting"
            ) from error
        except (BotoCoreError, boto3.exceptions.Boto3Error) as error:
            raise Unavailable(f"Amazon does not answer for {self._endpoint}: {error}") from error

    def _failure(self, error: ClientError) -> Exception:
        code, said = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        if "AccessDenied" in code or code in {"UnrecognizedClientException", "InvalidClientTokenId", "403"}:
            return UsageError(f"Amazon does not let us: {code}: {said}; docs/gateways.md has the actions to allow")
        if code == "ResourceLimitExceeded":
            return ModelUnusable(f"SageMaker has no room for another variant: {said}")
        if code.startswith("Validation") and "in-progress" not in said and "in progress" not in said:
            return ModelUnusable(f"SageMaker refuses it for {self._endpoint}: {said}")
        return Unavailable(f"Amazon failed for {self._endpoint}: {code}: {said}")


def sagemaker_at(setting: str) -> SageMaker:
    """The endpoint that `sagemaker://ENDPOINT?store=s3://...&image=...&role=...` names.

    Raises:
        UsageError: an option is missing, unknown or cannot be.
    """
    more = ("instance", "count", "region", "events", "subnets", "groups")
    address = read_address(setting, ("store", "image", "role"), more)
    options = address.options
    store = urlsplit(options["store"])
    if store.scheme != "s3" or not store.netloc:
        raise UsageError(f"EVERFIT_GATEWAY: store={options['store']!r} is no bucket; write store=s3://BUCKET/PREFIX")
    if not NAME.fullmatch(address.place):
        raise UsageError(f"{address.place!r} cannot name an endpoint: letters, digits and single dashes, at most 63")
    count = options.get("count", "1")
    if not count.isdecimal() or int(count) < 1:
        raise UsageError(f"EVERFIT_GATEWAY: count={count!r} is no number of machines; write count=1")
    subnets, groups = _listed(options.get("subnets", "")), _listed(options.get("groups", ""))
    if bool(subnets) != bool(groups):
        raise UsageError("EVERFIT_GATEWAY: subnets= and groups= belong together: a VPC needs both")
    machines = Machines(
        options["image"], options["role"], options.get("instance", "ml.m5.large"), int(count), subnets, groups,
        options.get("events", ""),
    )  # fmt: skip
    return SageMaker(address.place, options["store"], machines, options.get("region"))


def _model_name(candidate: str) -> str:
    return f"everfit-{candidate}"


def _weights(seen: Json) -> dict[str, float]:
    return {each["VariantName"]: float(each.get("CurrentWeight", 0.0)) for each in seen.get("ProductionVariants", [])}


def _counts(seen: Json) -> dict[str, int]:
    """Machines of each variant now: a policy of the user's may have scaled it since it was made."""
    found = {
        each["VariantName"]: int(each.get("CurrentInstanceCount", 0)) for each in seen.get("ProductionVariants", [])
    }
    return {name: count for name, count in found.items() if count}


def _listed(text: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in text.split(",") if each.strip())


def _why(seen: Json) -> str:
    return str(seen.get("FailureReason") or "it gives no reason")

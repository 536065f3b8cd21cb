"""Amazon on a port of this machine: moto's server, with `UpdateEndpoint`, which moto lacks.

Takes boto3's HTTP; gives what moto says; an update of an endpoint takes some looks, is refused while another one is
under way, and goes back by itself when a variant is broken, as SageMaker's does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from moto.core.responses import ActionResult
from moto.sagemaker.exceptions import ValidationError
from moto.sagemaker.models import FakeEndpoint, SageMakerModelBackend, sagemaker_backends
from moto.sagemaker.responses import SageMakerResponse
from moto.server import ThreadedMotoServer

ACCOUNT, REGION = "123456789012", "eu-central-1"
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": REGION,
               "AWS_EC2_METADATA_DISABLED": "true"}  # fmt: skip


@dataclass
class Updating:
    """What an update waits for."""

    config: str
    looks: int


@dataclass
class Sage:
    """How SageMaker behaves: looks that an update takes, variants that never start, and what was asked for."""

    slow: int = 2
    broken: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    under_way: dict[str, Updating] = field(default_factory=dict)


SAGE = Sage()


def backend() -> SageMakerModelBackend:
    return sagemaker_backends[ACCOUNT][REGION]


def update_endpoint(response: SageMakerResponse) -> ActionResult:
    """The action that moto lacks."""
    name, config = response._get_param("EndpointName"), response._get_param("EndpointConfigName")
    endpoint = backend().endpoints.get(name)
    if endpoint is None:
        raise ValidationError(f"Could not find endpoint '{name}'.")
    if endpoint.endpoint_status == "Updating":
        raise ValidationError(f"Cannot update in-progress endpoint '{name}'.")
    backend().describe_endpoint_config(config)
    SAGE.asked.append(config)
    endpoint.endpoint_status = "Updating"
    SAGE.under_way[name] = Updating(config, SAGE.slow)
    return ActionResult({"EndpointArn": endpoint.arn})


def describe_endpoint(response: SageMakerResponse) -> ActionResult:
    """moto's, with an update one look nearer to its end."""
    name = response._get_param("EndpointName")
    found = dict(backend().describe_endpoint(name))
    if name in SAGE.under_way:
        SAGE.under_way[name].looks -= 1
        if SAGE.under_way[name].looks <= 0:
            _end(backend().endpoints[name], SAGE.under_way.pop(name))
    return ActionResult(found)


def _end(endpoint: FakeEndpoint, update: Updating) -> None:
    variants: list[dict[str, Any]] = backend().describe_endpoint_config(update.config)["ProductionVariants"]
    endpoint.endpoint_status = "InService"
    if not SAGE.broken & {each["VariantName"] for each in variants}:
        endpoint.endpoint_config_name = update.config
        endpoint.production_variants = endpoint._process_production_variants(variants)


@contextmanager
def serving() -> Iterator[str]:
    """The server; its address."""
    for action in (update_endpoint, describe_endpoint):
        setattr(SageMakerResponse, action.__name__, action)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()

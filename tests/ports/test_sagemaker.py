"""SageMaker as the gateway, and KServe's store in S3, against moto's server."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import boto3
import pytest

from everfit.adapters.gateway import FolderGateway
from everfit.adapters.outside import OutsideGateway
from everfit.adapters.sagemaker import SageMaker, sagemaker_at
from everfit.adapters.shared_store import store_at
from everfit.checks import Law, check_gateway
from everfit.errors import ModelUnusable, Unavailable, UsageError
from everfit.ports import Route, Trial
from everfit.retrain.candidate import Candidate
from tests.ports import amazon
from tests.ports.amazon import SAGE
from tests.unit.serve.fakes import candidate, write_folder

MODEL = "flights"
A, B, C = (candidate(name).id for name in "abc")
ROLE = "arn:aws:iam::123456789012:role/everfit"
SETTING = f"sagemaker://live?store=s3://models/everfit&image=123456789012.dkr.ecr/everfit:1&role={ROLE}&count=2"


class Place:
    folder: Path
    url: str


HERE = Place()


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in [*amazon.ENVIRONMENT, "AWS_ENDPOINT_URL"]}
    with amazon.serving() as HERE.url:
        os.environ.update({**amazon.ENVIRONMENT, "AWS_ENDPOINT_URL": HERE.url})
        bucket = {"LocationConstraint": amazon.REGION}
        boto3.client("s3").create_bucket(Bucket="models", CreateBucketConfiguration=bucket)
        yield
    for name, value in before.items():
        os.environ.pop(name)
        if value is not None:
            os.environ[name] = value


@pytest.fixture(autouse=True)
def place(tmp_path: Path) -> None:
    HERE.folder = tmp_path
    amazon.backend().reset()
    SAGE.slow, SAGE.broken = 2, set()
    SAGE.asked.clear()
    SAGE.under_way.clear()


def remote() -> SageMaker:
    made = sagemaker_at(SETTING)
    made.pace = 0.0
    return made


def sagemaker_gateway() -> OutsideGateway:
    return OutsideGateway(FolderGateway(HERE.folder / "words"), FolderGateway(HERE.folder / "near"), remote())


@pytest.fixture
def gateway() -> OutsideGateway:
    made = sagemaker_gateway()
    for name in "abc":
        made.publish(candidate(name), 1, write_folder(HERE.folder / "shelf" / name, 0.0))
    return made


def settled(gateway: OutsideGateway, looks: int = 20) -> int:
    for look in range(looks):
        if gateway.confirmed(MODEL):
            return look
    raise AssertionError(f"not confirmed after {looks} looks: {weights()}")


def go(gateway: OutsideGateway, *routes: Route) -> None:
    for route in routes:
        gateway.point(MODEL, route)
        settled(gateway)


def weights() -> dict[str, float]:
    found = amazon.backend().describe_endpoint("live")["ProductionVariants"]
    return {each["VariantName"]: each.get("CurrentWeight", 0.0) for each in found}


LIVE_A = Route(A, 1, "k1")
TRIED = Route(A, 1, "k2", Trial(B, 2, weight=0.05))


class Patient(OutsideGateway):
    """Repeats a step that SageMaker has no time for, as a flow does."""

    def point(self, model: str, route: Route, *, after: str | None = None) -> None:
        for _ in range(5):
            with suppress(Unavailable):
                super().point(model, route, after=after)
                return
        raise AssertionError(f"{route.key} was never taken")


def patient_gateway() -> Patient:
    return Patient(FolderGateway(HERE.folder / "words"), FolderGateway(HERE.folder / "near"), remote())


def two() -> list[tuple[Candidate, Path]]:
    return [(candidate(name), write_folder(HERE.folder / "shelf" / name, 0.0)) for name in ("c1", "c2")]


@pytest.mark.parametrize("law", check_gateway(patient_gateway, two), ids=str)
def test_the_law_is_kept(law: Law) -> None:
    law()


def test_the_first_model_gets_an_endpoint(gateway: OutsideGateway) -> None:
    go(gateway, LIVE_A)
    assert weights() == {A: 1.0}
    model = amazon.backend().describe_model(f"everfit-{A}").response_object
    assert model["ExecutionRoleArn"] == ROLE
    assert model["PrimaryContainer"]["ModelDataUrl"] == f"s3://models/everfit/{A}/model.tar.gz"
    packed = boto3.client("s3").get_object(Bucket="models", Key=f"everfit/{A}/model.tar.gz")["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert "./model.json" in archive.getnames()


def test_a_release_by_shares_starts_machines_once_and_then_moves_weights(gateway: OutsideGateway) -> None:
    go(gateway, LIVE_A, TRIED)
    assert weights() == {A: 0.95, B: 0.05}
    go(gateway, Route(A, 1, "k3", Trial(B, 2, weight=0.5)), Route(B, 2, "k4"))
    assert weights() == {A: 0.0, B: 1.0}  # the old one stays warm
    assert len(SAGE.asked) == 1
    config = amazon.backend().describe_endpoint_config(SAGE.asked[0])
    assert {each["InitialInstanceCount"] for each in config["ProductionVariants"]} == {2}


def test_a_new_variant_takes_nothing_from_what_people_set_on_the_endpoint(gateway: OutsideGateway) -> None:
    go(gateway, LIVE_A)
    api = boto3.client("sagemaker")
    capture = {"EnableCapture": True, "InitialSamplingPercentage": 10, "DestinationS3Uri": "s3://models/captured",
               "CaptureOptions": [{"CaptureMode": "Input"}]}  # fmt: skip
    variants = api.describe_endpoint_config(EndpointConfigName=amazon.backend().endpoints["live"].endpoint_config_name)
    api.create_endpoint_config(
        EndpointConfigName="theirs", ProductionVariants=variants["ProductionVariants"], DataCaptureConfig=capture,
        KmsKeyId="key-1",
    )  # fmt: skip
    amazon.backend().endpoints["live"].endpoint_config_name = "theirs"
    scaled = [{"VariantName": A, "DesiredInstanceCount": 7, "DesiredWeight": 1.0}]  # a scaling policy did
    api.update_endpoint_weights_and_capacities(EndpointName="live", DesiredWeightsAndCapacities=scaled)
    go(gateway, TRIED)
    config = amazon.backend().describe_endpoint_config(SAGE.asked[0])
    counts = {each["VariantName"]: each["InitialInstanceCount"] for each in config["ProductionVariants"]}
    assert counts == {A: 7, B: 2}
    assert (config["DataCaptureConfig"], config["KmsKeyId"]) == (capture, "key-1")
    arns = [amazon.backend().endpoints["live"].arn, config["EndpointConfigArn"]]
    for arn in arns:
        tags = {tag["Key"]: tag["Value"] for tag in api.list_tags(ResourceArn=arn)["Tags"]}
        assert (tags["managed-by"], tags["everfit-endpoint"]) == ("everfit", "live")


def test_containers_are_told_where_their_rows_go_and_run_in_the_vpc() -> None:
    more = "&events=http%3A%2F%2Feverfit.internal%3A8080&subnets=subnet-1,subnet-2&groups=sg-1"
    made = sagemaker_at(SETTING + more)
    made.publish(candidate("a"), 1, write_folder(HERE.folder / "a", 0.0))
    model = amazon.backend().describe_model(f"everfit-{A}").response_object
    assert model["PrimaryContainer"]["Environment"] == {"EVERFIT_EVENTS": "http://everfit.internal:8080"}
    assert model["VpcConfig"] == {"Subnets": ["subnet-1", "subnet-2"], "SecurityGroupIds": ["sg-1"]}


def test_every_way_back_is_by_weights(gateway: OutsideGateway) -> None:
    go(gateway, LIVE_A, TRIED)
    gateway.point(MODEL, Route(A, 1, "k3"))
    assert weights() == {A: 1.0, B: 0.0}
    go(gateway, Route(C, 3, "k4"))
    assert weights() == {A: 0.0, C: 1.0}  # all at once: what served before stays, warm
    gateway.point(MODEL, Route(A, 1, "k5"))
    assert weights() == {A: 1.0, C: 0.0}
    assert settled(gateway) == 0
    assert len(SAGE.asked) == 2


def test_what_is_said_while_sagemaker_moves_comes_next(gateway: OutsideGateway) -> None:
    go(gateway, LIVE_A)
    gateway.point(MODEL, TRIED)
    with pytest.raises(Unavailable, match="takes no other change until that has ended"):
        gateway.point(MODEL, Route(A, 1, "k3"))
    patient_gateway().point(MODEL, Route(A, 1, "k3"))
    assert weights() == {A: 1.0, B: 0.0}
    assert gateway.confirmed(MODEL)


def test_a_challenger_that_does_not_start_is_said_and_the_champion_serves_on(gateway: OutsideGateway) -> None:
    go(gateway, LIVE_A)
    SAGE.broken.add(B)
    gateway.point(MODEL, TRIED)
    with pytest.raises(ModelUnusable, match="went back to the variants"):
        settled(gateway)
    assert weights() == {A: 1.0}
    go(gateway, Route(A, 1, "k3"))
    SAGE.broken.clear()
    go(gateway, Route(A, 1, "k4", Trial(B, 2, weight=0.05)))  # another cause may try again
    assert weights() == {A: 0.95, B: 0.05}


def test_an_endpoint_that_failed_is_said(gateway: OutsideGateway) -> None:
    go(gateway, LIVE_A)
    endpoint = amazon.backend().endpoints["live"]
    endpoint.endpoint_status = "Failed"
    vars(endpoint)["failure_reason"] = "the image does not answer /ping"  # moto's type of it is None
    with pytest.raises(ModelUnusable, match="Failed: the image does not answer /ping"):
        gateway.point(MODEL, TRIED)
    assert gateway.live(MODEL) == Route(A, 1, "k2-refused")  # the word is back where it was


def test_a_step_that_died_between_its_word_and_its_call_is_repeated_by_the_next(gateway: OutsideGateway) -> None:
    go(gateway, LIVE_A)
    FolderGateway(HERE.folder / "words").point(MODEL, TRIED)
    settled(gateway)
    assert weights() == {A: 0.95, B: 0.05}


def test_somebody_overtaken_tells_the_newer_word(gateway: OutsideGateway) -> None:
    go(gateway, LIVE_A, TRIED)
    words = FolderGateway(HERE.folder / "words")

    class Overtaken(SageMaker):
        def point(self, model: str, route: Route, still: object) -> None:
            if route.key == "k3":
                words.point(MODEL, Route(A, 1, "back"))  # its own call comes first, this one last
            super().point(model, route, lambda: True)

    slow = Overtaken("live", "s3://models/everfit", remote()._machines, None)
    with pytest.raises(ModelUnusable, match="back has pointed elsewhere meanwhile"):
        OutsideGateway(words, words, slow).point(MODEL, Route(A, 1, "k3", Trial(B, 2, weight=0.5)))
    assert weights() == {A: 1.0, B: 0.0}


def test_models_that_are_not_needed_leave_the_bucket_and_variants_stay(gateway: OutsideGateway) -> None:
    go(gateway, LIVE_A, TRIED, Route(A, 1, "k3"))
    for name in (A, B, C, "nobody"):
        gateway.withdraw(MODEL, name)
    kept = {each.model_name for each in amazon.backend().list_models()}
    assert kept == {f"everfit-{A}", f"everfit-{B}"}
    files = {each["Key"] for each in boto3.client("s3").list_objects_v2(Bucket="models")["Contents"]}
    assert f"everfit/{C}/model.tar.gz" not in files


def test_copies_of_requests_are_refused(gateway: OutsideGateway) -> None:
    go(gateway, LIVE_A)
    with pytest.raises(UsageError, match="cannot mirror; it can split"):
        gateway.point(MODEL, Route(A, 1, "k2", Trial(B, 2, mirror=1.0)))


def test_an_endpoint_that_does_not_answer_is_away(gateway: OutsideGateway) -> None:
    os.environ["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
    try:
        with pytest.raises(Unavailable, match="does not answer"):
            remote().confirmed(MODEL, LIVE_A, lambda: True)
    finally:
        os.environ["AWS_ENDPOINT_URL"] = HERE.url


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        pytest.param("sagemaker://live?store=s3://m&image=i", "needs role=", id="no role"),
        pytest.param(SETTING.replace("s3://models/everfit", "/srv"), "is no bucket", id="a folder for a bucket"),
        pytest.param(SETTING.replace("//live", "//li_ve"), "cannot name an endpoint", id="a name"),
        pytest.param(SETTING.replace("count=2", "count=0"), "no number of machines", id="no machine"),
        pytest.param(SETTING + "&size=2", "no option 'size'", id="an unknown option"),
        pytest.param(SETTING + "&subnets=subnet-1", "belong together", id="half a VPC"),
    ],
)
def test_a_wrong_setting_says_what_to_write(setting: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        sagemaker_at(setting)


def test_kserve_models_are_copied_to_s3(tmp_path: Path) -> None:
    options = f"scheme=http&region={amazon.REGION}&endpoint_override={quote(HERE.url.removeprefix('http://'))}"
    store = store_at(f"s3://models/kserve?{options}")
    folder = write_folder(tmp_path / "m", 0.0)
    (folder / "deep").mkdir()
    (folder / "deep" / "part").write_text("x")
    for _ in range(2):
        store.bring("c1", folder)
    listed = boto3.client("s3").list_objects_v2(Bucket="models", Prefix="kserve/")["Contents"]
    files = {each["Key"] for each in listed if each["Size"]}
    assert files == {f"kserve/c1/{name}" for name in ("deep/part", "limit", "model.json")}
    assert store.of("c1") == "s3://models/kserve/c1"
    store.drop("c1")
    store.drop("c1")
    assert "Contents" not in boto3.client("s3").list_objects_v2(Bucket="models", Prefix="kserve/c1/")

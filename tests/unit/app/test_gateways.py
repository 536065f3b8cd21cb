"""Which gateway the environment chooses."""

from __future__ import annotations

from pathlib import Path

import pytest

from everfit.adapters.gateway import FolderGateway
from everfit.adapters.outside import OutsideGateway
from everfit.app.gateways import check_suited, gateway_for
from everfit.errors import UsageError
from everfit.ports import ALL_OF_IT, Can
from everfit.rollout.options import Rolling
from everfit.settings import Settings, settings_for

SAGEMAKER = "sagemaker://live?store=s3://m&image=i&role=r&region=eu-central-1"


def settings(folder: Path, setting: str, **more: str) -> Settings:
    return settings_for(folder, {"EVERFIT_GATEWAY": setting, **more})


def test_without_a_word_it_is_our_own(tmp_path: Path) -> None:
    gateway = gateway_for(settings(tmp_path, ""))
    assert isinstance(gateway, FolderGateway)
    assert gateway.can == ALL_OF_IT


@pytest.mark.parametrize(
    ("setting", "can"),
    [
        pytest.param("command:./gate --now", {Can.SPLIT}, id="a command, as far as it was said to go"),
        pytest.param("https://host/gate", {Can.SPLIT}, id="a webhook"),
        pytest.param(SAGEMAKER, {Can.SPLIT}, id="sagemaker"),
    ],
)
def test_others_say_what_they_can(tmp_path: Path, setting: str, can: set[Can]) -> None:
    more = {"EVERFIT_GATEWAY_CAN": "split", "EVERFIT_GATEWAY_SECRET": "between us"}
    gateway = gateway_for(settings(tmp_path, setting, **more))
    assert isinstance(gateway, OutsideGateway)
    assert gateway.can == can
    assert gateway.patience > 60
    assert gateway.servers("flights") == []


@pytest.mark.parametrize(
    ("setting", "more", "said"),
    [
        pytest.param("kubernetes://ml", {}, "no gateway that there is; leave it unset .* kserve://", id="another word"),
        pytest.param("kserve://?store=s3://m", {}, "names no place", id="no namespace"),
        pytest.param("kserve://ml", {}, "kserve needs store=", id="no store"),
        pytest.param("kserve://ml?store=pvc://c/m", {}, "mount it here", id="a store that cannot be reached"),
        pytest.param(
            "kserve://ml?store=s3://m&stage=1", {}, "no option 'stage'; its options are store", id="an option"
        ),
        pytest.param("command:./gate", {"EVERFIT_GATEWAY_CAN": "split,fly"}, "'fly' is neither", id="what nobody can"),
    ],
)
def test_a_wrong_word_says_what_to_write(tmp_path: Path, setting: str, more: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        gateway_for(settings(tmp_path, setting, **more))


@pytest.mark.parametrize(
    ("rolling", "can", "said"),
    [
        pytest.param(Rolling(), set(), None, id="all at once is for every gateway"),
        pytest.param(Rolling(weights=("5%",)), {Can.SPLIT}, None, id="shares"),
        pytest.param(Rolling(weights=("5%",)), set(), "cannot split; the built-in gateway can", id="no shares"),
        pytest.param(Rolling(mirror="1h"), {Can.SPLIT}, "cannot mirror; it can split: leave", id="no copies"),
        pytest.param(Rolling(steps=[{"mirror": "1h"}]), {Can.SPLIT}, "cannot mirror", id="no copies, as a step"),
        pytest.param(Rolling(mirror="1h", weights=("5%",)), ALL_OF_IT, None, id="all of it"),
    ],
)
def test_a_rollout_that_the_gateway_cannot_is_said_before_it_is_planned(
    rolling: Rolling, can: set[Can], said: str | None
) -> None:
    if said is None:
        check_suited(rolling, frozenset(can))
        return
    with pytest.raises(UsageError, match=said):
        check_suited(rolling, frozenset(can))


def test_a_secret_is_not_shown(tmp_path: Path) -> None:
    assert "between us" not in repr(settings(tmp_path, "", EVERFIT_GATEWAY_SECRET="between us"))

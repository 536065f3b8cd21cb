"""A gateway that was not chosen costs nothing, and one whose library is missing says how to get it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SAGEMAKER = "sagemaker://live?store=s3://m&image=i&role=r&region=eu-central-1"


def told_by(code: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EVERFIT_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return done.stdout


def test_no_library_of_a_gateway_is_imported_unless_it_was_chosen() -> None:
    code = "import everfit.app.wiring, sys; print([m for m in ('kubernetes', 'boto3', 'botocore') if m in sys.modules])"
    assert told_by(code).strip() == "[]"


@pytest.mark.parametrize(
    ("setting", "package", "extra"),
    [("kserve://ml?store=s3://m", "kubernetes", "kserve"), (SAGEMAKER, "boto3", "sagemaker")],
)
def test_a_library_that_is_not_there_is_named_with_its_extra(
    tmp_path: Path, setting: str, package: str, extra: str
) -> None:
    code = (
        f"import sys; sys.modules['{package}'] = None\n"  # what an import finds that is not installed
        "from pathlib import Path; from everfit.app.gateways import gateway_for\n"
        "from everfit.settings import settings_for; from everfit.errors import UsageError\n"
        f"try: gateway_for(settings_for(Path({str(tmp_path)!r}), {{'EVERFIT_GATEWAY': {setting!r}}}))\n"
        "except UsageError as error: print(error)"
    )
    assert f"needs the package {package}; pip install 'everfit[{extra}]'" in told_by(code)

"""Whatever fits the server's own /openapi.json, and whatever does not, is answered as it says: never by a failure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import (
    CheckFunction,
    content_type_conformance,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.core.result import Ok

from tests.ports.test_server import WAIT, Server, release, write_trained
from tests.unit.serve.fakes import MODEL, until

EXAMPLES = 12  # for each operation and each mode: 27 operations, 15 s of CPU
CHECKS: list[CheckFunction] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("fuzz")
    serve = start(root)
    try:
        yield str(serve.client.base_url).rstrip("/")
        assert serve.process.poll() is None, "it lives on"
    finally:
        serve.close()


def start(root: Path) -> Server:
    write_trained(root / "shelf" / "1", seed=1)
    release(root, root / "shelf" / "1", 1)
    server = Server(root)
    until(lambda: server.client.get("/ping").status_code == 200, WAIT)
    return server


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["fits", "does not fit"])
def test_every_operation_answers_as_the_document_says(url: str, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_dict(httpx.get(f"{url}/openapi.json", timeout=WAIT).json())
    schema.config.update(base_url=url)
    names = {"name": st.sampled_from([MODEL, "other"]), "version": st.sampled_from(["1", "2"])}
    asked = 0
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), "the document is valid"
        operation = result.ok()
        if mode is GenerationMode.NEGATIVE and not list(operation.body):
            continue  # nothing in it can be wrong

        @seed(1)
        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode), parts=st.fixed_dictionaries(names))
        def ask(case: Case[Any], parts: dict[str, str]) -> None:
            nonlocal asked
            if case.path_parameters:  # else all would be asked of models that are not there
                case.path_parameters = {name: parts[name] for name in case.path_parameters}
            case.call_and_validate(checks=CHECKS, timeout=WAIT)
            asked += 1

        ask()
    assert asked >= 8 * EXAMPLES

"""What people wrote holds: code runs, specs parse, and every command, setting, key and link exists."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from everfit.facts import FACTS
from everfit.spec import parse_spec
from tests.promises.pages import DOCS, ROOT, blocks, generator, named, written

PAGES = pytest.mark.parametrize("page", written(), ids=named)
SPECS = [
    pytest.param(text, id=f"{named(page)}-{place}")
    for page in written()
    for place, text in enumerate(blocks(page, "yaml"))
    if text.startswith("model:")
]


@cache
def commands() -> dict[str, Any]:
    found: dict[str, Any] = generator().commands()
    return found


@cache
def settings() -> set[str]:
    return {row[0] for row in generator().settings_rows()}


@cache
def spec_keys() -> set[str]:
    return {row[0].replace("[]", "") for row in generator().spec_rows()}


@pytest.mark.parametrize("text", SPECS)
def test_specs_parse(text: str) -> None:
    assert parse_spec(text).model


def test_the_smallest_spec_is_four_lines() -> None:
    smallest = blocks(ROOT / "README.md", "yaml")[0]
    assert len(smallest.splitlines()) == 4
    assert parse_spec(smallest).primary == "roc_auc"


def test_code_of_how_it_works_runs() -> None:
    world: dict[str, Any] = {}
    found = blocks(DOCS / "how-it-works.md", "python")
    assert len(found) > 4
    for place, text in enumerate(found):
        exec(compile(text, f"how-it-works.md, block {place}", "exec"), world)


@PAGES
def test_python_compiles(page: Path) -> None:
    for text in blocks(page, "python"):
        compile(text, named(page), "exec")


@PAGES
def test_commands_and_their_options_exist(page: Path) -> None:
    groups = {name.split()[0] for name in commands()}
    text = "\n".join([*blocks(page, "bash"), *re.findall(r"`(everfit [^`]+)`", page.read_text(encoding="utf-8"))])
    for line in re.findall(r"\beverfit ([a-z][^\n&|#]*)", text):
        words = line.split()
        assert words[0] in groups, f"everfit {line}"
        name = next((n for n in (" ".join(words[:2]), words[0]) if n in commands()), None)
        assert name is not None or len(words) == 1, f"everfit {line}"
        known = {option for param in commands()[name].params for option in param.opts} if name else set()
        for option in re.findall(r"(?<!\S)(--?[a-zA-Z][\w-]*)", line):
            assert option in known | {"--help"}, f"everfit {line}: {option}"


@PAGES
def test_make_targets_exist(page: Path) -> None:
    there = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = "\n".join([*blocks(page, "bash"), *re.findall(r"`(make [^`]+)`", page.read_text(encoding="utf-8"))])
    for target in re.findall(r"^make ([a-z]+)", text, re.MULTILINE):
        assert target in there


@PAGES
def test_settings_exist(page: Path) -> None:
    known = settings() - {"EVERFIT_LAKE_*"}
    for name in set(re.findall(r"\bEVERFIT_[A-Z_]+\b", page.read_text(encoding="utf-8"))):
        assert name in known or name.startswith("EVERFIT_LAKE_"), name


@PAGES
def test_keys_of_the_spec_exist(page: Path) -> None:
    keys = spec_keys()
    rooms = {key.split(".")[0] for key in keys if "." in key}
    for key in re.findall(r"`([a-z]+\.[a-z_.]+)(?::[^`]*)?`", page.read_text(encoding="utf-8")):
        if key.split(".")[0] in rooms and not key.endswith((".py", ".md", ".yaml")):
            assert key in keys, key


@PAGES
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_facts_named_as_a_story_exist() -> None:
    text = (DOCS / "how-it-works.md").read_text(encoding="utf-8").split("in the order of its facts:")[1]
    named_facts = set(re.findall(r"`([A-Z]\w+)`", text))
    assert len(named_facts) > 8
    assert named_facts <= set(FACTS)


def test_extras_that_pages_install_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for page in written():
        for name in re.findall(r"everfit\[(\w+)\]", page.read_text(encoding="utf-8")):
            assert name in extras


def test_decisions_are_numbered_without_gaps_and_have_three_parts() -> None:
    pages = sorted((DOCS / "why").glob("0*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        parts = re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert parts == ["Context", "Choice", "What would change our mind"], page.name


@PAGES
def test_no_forbidden_word_of_the_glossary(page: Path) -> None:
    text = re.sub(r"`[^`]*`", "", page.read_text(encoding="utf-8"))
    assert not re.findall(r"\bnew_model\b|\bjob_manager\b", text)

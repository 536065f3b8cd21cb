"""What holds for every file of the repository."""

from __future__ import annotations

import re

from tests.promises.pages import ROOT, named, tracked

MOST_LINES = 400
# Addresses that are ours to name: this machine, the formats' own, examples, and the projects that pages link to.
ALLOWED = re.compile(
    r"://(localhost|127\.0\.0\.1|host\b|mlflow:5000|json-schema\.org|www\.w3\.org|github\.com/caronc/apprise|"
    r"www\.apache\.org|keepachangelog\.com|semver\.org|example\.(com|org)|\S*\.(invalid|test|example)\b)"
)
INDEX = re.compile(r"--(extra-)?index-url\s+\S|--find-links\s+\S|--trusted-host\s+\S|^\s*index-url\s*=", re.MULTILINE)
REGISTRY = re.compile(r"\b(pypi|pythonhosted|npmjs|anaconda|jfrog|artifactory|rubygems)\.(org|com|io|cloud)\b")
MACHINE = re.compile(r"(?<![\w.])/(home|root|Users|work|tmp/(brief|study|docs_try))/\w")


def test_no_module_is_longer_than_a_page_that_can_be_held_in_mind() -> None:
    long = {
        named(path): count
        for path in sorted((ROOT / "src").rglob("*.py"))
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES
    }
    assert long == {}


def test_every_module_says_what_it_takes_and_gives() -> None:
    silent = [
        named(path)
        for path in sorted((ROOT / "src").rglob("*.py"))
        if not path.read_text(encoding="utf-8").startswith(('"""', 'r"""'))
    ]
    assert silent == []


def test_no_file_names_a_package_index() -> None:
    texts = {named(path): path.read_text("utf-8") for path in tracked()}
    found = [name for name, text in texts.items() if REGISTRY.search(text)]
    found += [name for name, text in texts.items() if not name.endswith(".py") and INDEX.search(text)]
    assert found == []


def test_no_file_names_a_place_on_one_machine() -> None:
    found = [
        f"{named(path)}: {match[0]}"
        for path in tracked()
        if path.name != "test_repository.py" and (match := MACHINE.search(path.read_text("utf-8")))
    ]
    assert found == []


def test_locked_requirements_have_hashes_and_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "--hash=sha256:" in lock
    assert "://" not in lock


def test_pages_link_only_to_known_places() -> None:
    found = [
        f"{named(path)}: {address}"
        for path in tracked()
        if path.suffix in (".md", ".svg", ".toml", ".yaml", ".yml")
        for address in re.findall(r"https?://[^\s\"'`)>]+", path.read_text("utf-8"))
        if not ALLOWED.search(address)
    ]
    assert found == []

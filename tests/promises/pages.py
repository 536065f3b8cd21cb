"""Pages of the documentation, read as text.

Takes nothing; gives pages, their code blocks and the generator; never judges them.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def written() -> list[Path]:
    """Pages that people write."""
    kept = [path for path in sorted(DOCS.rglob("*.md")) if path.parent != DOCS / "reference"]
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *kept]


def blocks(page: Path, language: str) -> list[str]:
    """Code blocks of a page in a language."""
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [text for kind, text in found if kind == language]


def named(page: Path) -> str:
    """How a test calls a page."""
    return page.relative_to(ROOT).as_posix()


@cache
def generator() -> ModuleType:
    """docs/generate.py as a module."""
    about = importlib.util.spec_from_file_location("generate_docs", DOCS / "generate.py")
    assert about is not None
    assert about.loader is not None
    module = importlib.util.module_from_spec(about)
    sys.modules[about.name] = module
    about.loader.exec_module(module)
    return module


def tracked() -> list[Path]:
    """Files of the repository that are text: tracked ones, and new ones that nothing ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    paths = [ROOT / name for name in listed.stdout.splitlines()]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:4096]]

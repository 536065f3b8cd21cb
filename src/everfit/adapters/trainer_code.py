"""Where a trainer's source is, and its name by content, without running it.

Takes a project's folder and `module:function`; gives a key that changes with the code, and a sentence if the
trainer cannot be found; never imports the user's module.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from difflib import get_close_matches
from hashlib import blake2b
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from everfit.adapters.fitting import BUILT_IN
from everfit.errors import UsageError

NOT_SOURCE = {"node_modules", "__pycache__", "site-packages"}


def code_key(project: Path, trainer: str) -> str:
    """Name the code that trains: every Python file of the project, for the trainer may import any of them.

    The default trainer is named by the versions of Everfit and scikit-learn.
    """
    digest = blake2b(trainer.encode(), digest_size=10)
    if trainer in BUILT_IN:
        digest.update(f"everfit {version('everfit')}, scikit-learn {version('scikit-learn')}".encode())
        return digest.hexdigest()
    for path in _sources(project):
        content = path.read_bytes()
        digest.update(f"\0{path.relative_to(project).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def check_trainer(project: Path, trainer: str) -> None:
    """See that a trainer can be found, by reading its source.

    Raises:
        UsageError: there is no such module or function, or the module is not Python; the text names the
        nearest.
    """
    if trainer in BUILT_IN:
        return
    module, name = trainer.split(":")
    path = _source_of(project, module)
    if path is None:
        near = get_close_matches(module, [each.stem for each in project.glob("*.py")], n=1)
        remedy = f"did you mean {near[0]}:{name}?" if near else f"write it to {module}.py there"
        raise UsageError(f"train.with: there is no module {module!r} in {project}; {remedy}")
    if path.suffix != ".py":
        return  # compiled, or a package without source: only importing it would tell
    try:
        names = list(_names(ast.parse(path.read_text(), str(path))))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise UsageError(f"train.with: {path} is not valid Python: {error}") from error
    if name not in names and "*" not in names:
        near = get_close_matches(name, names, n=1)
        remedy = f"; did you mean {module}:{near[0]}?" if near else ""
        raise UsageError(f"train.with: {path} has no function {name!r}{remedy}")


def _sources(project: Path) -> list[Path]:
    found = []
    for folder, folders, files in os.walk(project):
        folders[:] = [each for each in folders if not _left_out(Path(folder, each))]
        found += [Path(folder, name) for name in files if name.endswith(".py")]
    return sorted(found)


def _left_out(folder: Path) -> bool:
    return folder.name.startswith(".") or folder.name in NOT_SOURCE or (folder / "pyvenv.cfg").exists()


def _source_of(project: Path, module: str) -> Path | None:
    place = project.joinpath(*module.split("."))
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path
    try:
        spec = find_spec(module.split(".", maxsplit=1)[0])
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    inner = Path(spec.origin).parent.joinpath(*module.split(".")[1:])
    return (
        Path(spec.origin)
        if "." not in module
        else next((path for path in (inner.with_suffix(".py"), inner / "__init__.py") if path.is_file()), None)
    )


def _names(tree: ast.Module) -> Iterator[str]:
    """Names that a module binds at its top, in branches too."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.alias(name=name, asname=other):
                yield other or name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case _:
                continue

"""Functions of the user's project that the spec names as `module:function`: metrics and triggers.

Takes a project's folder and a name; gives the function; never calls it. Only what a spec names is imported, and only by
the process that measures and decides: trainers run in a child (`adapters/fitting.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from everfit.errors import UsageError


def functions_of(named: Iterable[str], project: Path) -> Mapping[str, Callable[..., Any]]:
    """Every function that a spec names, by that name.

    Raises:
        UsageError: a module cannot be imported, or has no such function; the text names both.
    """
    return {name: _function(name, project) for name in dict.fromkeys(named)}


def _function(named: str, project: Path) -> Callable[..., Any]:
    module_name, _, name = named.partition(":")
    if str(project) not in sys.path:
        sys.path.insert(0, str(project))
    sys.dont_write_bytecode = True  # the project's folder is the user's: nothing is left in it
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise UsageError(f"{named}: {module_name}.py needs {error.name!r}, which is not installed") from error
        said = f"{named}: there is no module {module_name!r} in {project}; write it to {module_name}.py there"
        raise UsageError(said) from error
    except Exception as error:  # the user's module may raise anything while it is imported
        raise UsageError(f"{named}: {module_name} cannot be imported: {type(error).__name__}: {error}") from error
    found = getattr(module, name, None)
    if not callable(found):
        near = get_close_matches(name, [each for each in vars(module) if not each.startswith("_")], n=1)
        remedy = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"{named}: module {module_name!r} has no function {name!r}{remedy}")
    return found  # type: ignore[no-any-return]  # callable() tells mypy nothing of what it returns

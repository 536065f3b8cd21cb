"""Writes docs/reference/*.md from the code, so that the reference cannot say what the code does not do.

Takes `--check` or nothing; gives pages, or exit code 1 and the names of those that are stale; never reads a
hand-written page. Run it with `make docs`.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import typer.main
from pydantic import BaseModel

from everfit import errors, facts, lifecycle
from everfit.cli.commands import cli
from everfit.clock import WallClock
from everfit.detect.performance import DEFAULTS, METRICS
from everfit.observe.intake import Rules
from everfit.serve.app import STATUS, build_app
from everfit.serve.counts import Counts
from everfit.serve.serving import Serving
from everfit.settings import Settings, settings_for
from everfit.spec import Spec, json_schema
from everfit.testing import MemoryJournal

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- written by docs/generate.py; edit the code, then run `make docs` -->"
SAID = {"host": "the server's address", "port": "the server's port"}  # settings whose name says it all in the code
HIDDEN = {"--help", "--install-completion", "--show-completion"}

# What each address is for. A test holds these against the server's own table, both ways.
ROUTES = {
    "POST /v1/predictions": "take predictions made elsewhere: JSON (a list of objects) or an Arrow IPC stream",
    "POST /v1/labels": "take labels: the id, the target (or `label`), and maybe the `time` at which each became known",
    "GET /v1/clock": "the model's time, and the journal's number up to which everything was done",
    "GET /v1/models/{name}/clock": "as `/v1/clock`, of one model of several",
    "POST /v1/models/{name}/predictions": "as `/v1/predictions`, for one model of several",
    "POST /v1/models/{name}/labels": "as `/v1/labels`, for one model of several",
    "POST /invocations": "ask the champion, in MLflow's words: JSON or CSV; the answer is logged as a prediction",
    "POST /endpoints/{name}/invocations": "as `/invocations`, for one model of several and MLflow's deployments client",
    "GET /openapi.json": "all of this as an OpenAPI document",
    "GET /ping": "200 when every model has a champion that answers, else 503",
    "GET /health": "as `/ping`",
    "GET /version": "Everfit's version",
    "GET /metrics": "counters for Prometheus",
    "GET /v2": "Open Inference Protocol: the server",
    "GET /v2/health/live": "Open Inference Protocol: the process is up",
    "GET /v2/health/ready": "Open Inference Protocol: a champion answers",
    "GET /v2/models/{name}": "Open Inference Protocol: inputs and outputs of the champion",
    "GET /v2/models/{name}/ready": "Open Inference Protocol: this model answers",
    "POST /v2/models/{name}/infer": "Open Inference Protocol: ask the champion with tensors, as JSON or as bytes",
    "GET /v2/models": "Open Inference Protocol: the models of this server",
    "POST /v2/repository/index": "Open Inference Protocol: the models of this server and their state",
    "GET /v2/models/{name}/versions/{version}": "as without a version; 404 unless this version is live",
    "GET /v2/models/{name}/versions/{version}/ready": "as without a version; 404 unless this version is live",
    "POST /v2/models/{name}/versions/{version}/infer": "as without a version; 404 unless this version is live",
}


# ---- the spec --------------------------------------------------------------------------------------------------------
def spec_rows() -> Iterator[tuple[str, str, str, str]]:
    """Every key of the spec: (key, type, default, meaning)."""
    schema = json_schema()
    yield from _rows_of(schema, schema["$defs"], "", frozenset())


def _rows_of(
    node: dict[str, Any], defs: dict[str, Any], prefix: str, seen: frozenset[str]
) -> Iterator[tuple[str, str, str, str]]:
    required = set(node.get("required", ()))
    for name, about in node.get("properties", {}).items():
        key = f"{prefix}{name}"
        inside = list(_objects_in(about, defs, seen))
        default = "required" if name in required else _default(about, inside)
        meaning = about.get("description") or (inside[0][1].get("description", "") if len(inside) == 1 else "")
        yield key, _type_of(about, defs), default, meaning
        dot = "[]." if about.get("type") == "array" else "."
        below = seen | {reference for reference, _ in inside}
        yield from _merged([list(_rows_of(found, defs, key + dot, below)) for _, found in inside])


def _merged(kinds: list[list[tuple[str, str, str, str]]]) -> Iterator[tuple[str, str, str, str]]:
    """Rows of the kinds of a union, each key once: kinds share keys, such as a trigger's name."""
    told: dict[str, tuple[str, str, str, str]] = {}
    for row in (row for rows in kinds for row in rows):
        key, type_, default, meaning = row
        if key in told and told[key][1] != type_:
            told[key] = (key, f"{told[key][1]}, {type_}", told[key][2], told[key][3])
        elif key not in told:
            told[key] = (key, type_, "of its kind" if default == "required" and len(kinds) > 1 else default, meaning)
    yield from told.values()


def _objects_in(about: dict[str, Any], defs: dict[str, Any], seen: frozenset[str]) -> Iterator[tuple[str, Any]]:
    """Records that a key holds, each once; those that are being written already are left out (all, any)."""
    if "$ref" in about:
        name = about["$ref"].rsplit("/", 1)[-1]
        if name not in seen and "properties" in defs[name]:
            yield name, defs[name]
        elif "properties" not in defs[name]:
            yield from _objects_in(defs[name], defs, seen)
    for part in [*about.get("anyOf", ()), *about.get("oneOf", ()), *([about["items"]] if "items" in about else [])]:
        yield from _objects_in(part, defs, seen)


def _default(about: dict[str, Any], inside: list[Any]) -> str:
    default = about.get("default")
    if inside and isinstance(default, dict):
        return "see below"
    text = default if isinstance(default, str) and default else json.dumps(default, ensure_ascii=False)
    return "" if default is None else f"`{text}`"


NAMES = {"string": "text", "integer": "whole number", "object": "mapping", "boolean": "`true`, `false`"}


def _is_duration(about: dict[str, Any]) -> bool:
    return any("15m" in part.get("examples", ()) for part in (about, *_parts(about)))


def _parts(about: dict[str, Any]) -> list[dict[str, Any]]:
    return [*about.get("anyOf", ()), *about.get("oneOf", ())]


def _type_of(about: dict[str, Any], defs: dict[str, Any]) -> str:
    """A key's type in a few words."""
    if "$ref" in about:
        found = defs[about["$ref"].rsplit("/", 1)[-1]]
        return "record" if "properties" in found else _type_of(found, defs)
    if values := about.get("enum", [about["const"]] if "const" in about else []):
        return ", ".join(f"`{value}`" for value in values)
    if _parts(about):
        return _type_of_union(about, defs)
    if about.get("type") == "array":
        inner = _type_of(about.get("items", {}), defs)
        return f"list of {inner}" if inner.startswith("`") else f"list of {inner}s"
    kind = str(about.get("type", "anything"))
    return (
        "duration" if _is_duration(about) else "time" if about.get("format") == "date-time" else NAMES.get(kind, kind)
    )


def _type_of_union(about: dict[str, Any], defs: dict[str, Any]) -> str:
    if any(part.get("pattern") == "%$" for part in _parts(about)):
        return "share"
    if "500MB" in about.get("examples", ()):
        return "size"
    return " or ".join(dict.fromkeys(_type_of(part, defs) for part in _parts(about) if part.get("type") != "null"))


def spec_page() -> str:
    """docs/reference/spec.md."""
    rooms = [name for name, about in Spec.model_fields.items() if _is_record(about.annotation)]
    parts: dict[str, list[tuple[str, str, str, str]]] = {"the model": []}
    for row in spec_rows():
        head = re.split(r"[.\[]", row[0])[0]
        parts.setdefault(head if head in (*rooms, "triggers", "alerts") else "the model", []).append(row)
    text = [
        "# Keys of everfit.yaml", "",
        "A share is `5%` or `0.05`; a duration is `90s`, `15m`, `6h`, `30d`, `2w` or a sum such as `1d 12h`; a size is",
        "`500MB` or `2GB`. Unknown keys are refused. `everfit schema` prints the same as a JSON Schema for editors.",
        "`[]` stands for each item of a list.", "",
    ]  # fmt: skip
    for title, rows in parts.items():
        text += [f"## {title}", "", *_table(("key", "type", "default", "meaning"), rows, code=0), ""]
    return "\n".join([*text[:-1], *_trigger_note()])


def _is_record(annotation: Any) -> bool:
    return any(isinstance(each, type) and issubclass(each, BaseModel) for each in (annotation, *get_args(annotation)))


def _trigger_note() -> list[str]:
    return [
        "",
        "A trigger has exactly one of `performance`, `drift`, `schedule`, `new_labels`, `new_rows`, `event`, `all` and",
        "`any`; the last two hold triggers in turn. How each behaves: [triggers by example](../how-to/triggers.md).",
    ]


# ---- the command line ------------------------------------------------------------------------------------------------
def commands() -> dict[str, Any]:
    """Every command by its words, such as "audit verify"."""
    return dict(_commands_of(typer.main.get_command(cli), ""))


def _commands_of(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands_of(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def options(command: Any) -> list[tuple[str, str, str]]:
    """Arguments and options of a command: (how it is written, default, meaning)."""
    found = []
    for param in command.params:
        if getattr(param, "hidden", False) or HIDDEN & set(param.opts):
            continue
        argument = param.param_type_name == "argument"
        shown = param.name.upper() if argument else ", ".join(sorted(param.opts, key=len))
        default = "required" if param.required else _shown(param.default)
        found.append((shown, default, getattr(param, "help", None) or ""))
    return found


def _shown(default: Any) -> str:
    if default is None or default is False or str(default) in ("", "None"):
        return ""
    return f"`{default}`"


def cli_page() -> str:
    """docs/reference/cli.md."""
    text = [
        "# Commands", "",
        "Exit codes: 0 done, 1 no (refused, not found, drift), 2 wrong use. `--json` prints the same for machines.", "",
    ]  # fmt: skip
    for name, command in commands().items():
        text += [f"## everfit {name}", "", str(command.help), ""]
        if rows := options(command):
            text += [*_table(("argument or option", "default", "meaning"), rows, code=0), ""]
    return "\n".join(text[:-1])


# ---- the ledger ------------------------------------------------------------------------------------------------------
def ledger_page() -> str:
    """docs/reference/ledger.md."""
    text = [
        "# Facts of the ledger", "",
        "The ledger is a list of entries for each model. An entry holds `model`, `number`, `run`, `step`, `kind` (one",
        "of the facts below), `body` (the fact's fields as JSON), `at` (the model's time), `by`, `previous`, `hash`.",
        "The hash is taken over the hash before it and the entry's content, so `everfit audit verify` sees a change or",
        "a gap.", "",
    ]  # fmt: skip
    for name, kind in facts.FACTS.items():
        text += [f"## {name}", "", str(kind.__doc__), ""]
        comments = _comments(kind)
        rows = [(each.name, _plain_type(str(each.type)), comments.get(each.name, "")) for each in fields(kind)]
        text += [*_table(("field", "type", "meaning"), rows, code=0), ""]
    return "\n".join(text[:-1])


def _comments(kind: type) -> dict[str, str]:
    """What is written behind the fields of a record."""
    found = re.findall(r"^    (\w+): [^#\n]*(?:# (.*))?$", inspect.getsource(kind), re.MULTILINE)
    return dict(found)


def _plain_type(text: str) -> str:
    return text.replace("tuple[", "list of ").replace(", ...]", "").replace(" | None", ", or null")


# ---- settings --------------------------------------------------------------------------------------------------------
def settings_rows() -> list[tuple[str, str, str]]:
    """Every variable: (name, default, meaning), from the comments behind the fields of `Settings`."""
    given = settings_for(Path("PROJECT"), {})
    root = str(given.project)
    rows = []
    for name, said in _comments(Settings).items():
        if found := re.match(r"(EVERFIT_\w+\*?)(?:=(\w+))?(?:[:;] (.*))?$", said or ""):
            default = _plain_default(getattr(given, name), name).replace(root, "PROJECT")
            meaning = f"`{found[2]}`: {found[3]}" if found[2] else found[3] or SAID[name]
            rows.append((found[1], default, meaning))
    return rows


def _plain_default(value: Any, name: str) -> str:
    match name:
        case "lease":
            return f"`{int(value.total_seconds())}s`"
        case "held_log":
            return "`async`"
        case "lake_options":
            return ""
        case _:
            return f"`{value}`" if value not in ("", None) else ""


def settings_page() -> str:
    """docs/reference/settings.md."""
    return "\n".join([
        "# Settings", "",
        "Where things are comes from the environment; what is wanted comes from the spec. `PROJECT` is the project's",
        "folder.", "", *_table(("variable", "default", "meaning"), settings_rows(), code=0),
    ])  # fmt: skip


# ---- metrics, HTTP, errors, lifecycle --------------------------------------------------------------------------------
def metrics_page() -> str:
    """docs/reference/metrics.md."""
    tasks = {task: f"`{name}`" for task, name in DEFAULTS.items()}
    rows = [
        (metric.name, ", ".join(metric.tasks), "greater" if metric.greater_is_better else "smaller", metric.needs)
        for metric in METRICS.values()
    ]
    return "\n".join([
        "# Metrics", "",
        "Names for `judge.primary`, `watch.metrics` and the `metric` of a performance trigger. The primary metric is,",
        f"unless `judge.primary` says otherwise: {', '.join(f'{name} ({task})' for task, name in tasks.items())}.", "",
        *_table(("metric", "tasks", "better is", "undefined without"), rows, code=0),
    ])  # fmt: skip


def routes() -> list[str]:
    """Every address of the model server, as "VERB path"."""
    serving = Serving(
        model="model", task="binary", rules=Rules("binary", "target", "time"), gateway=Path("nowhere"),
        journal=MemoryJournal(), loader=_no_loader, clock=WallClock(), clock_file=Path("nowhere"),
    )  # fmt: skip
    return [f"{verb} {route.path}" for route in build_app(serving).routes for verb in _verbs(route)]  # type: ignore[attr-defined]  # all of them are plain routes


def _verbs(route: Any) -> list[str]:
    return sorted(set(route.methods) - {"HEAD"})


def _no_loader(folder: Path) -> Any:
    raise errors.ModelUnusable(f"{folder}: nothing is loaded to write a page")


def counters() -> list[tuple[str, str]]:
    """What `/metrics` counts: (name, meaning)."""
    return re.findall(r"^# HELP (\S+) (.*)$", Counts("model").text().decode(), re.MULTILINE)


def http_page() -> str:
    """docs/reference/http.md."""
    kinds = [(kind.__name__, str(status)) for kind, status in STATUS]
    return "\n".join([
        "# HTTP", "",
        "Failures answer `{\"error\": \"...\"}`. "
        + "; ".join(f"`{name}` is {status}" for name, status in kinds)
        + "; what nobody expected is 500.", "",
        *_table(("address", "meaning"), [(route, ROUTES.get(route, "")) for route in routes()], code=0),
        "", "## Counters at /metrics", "", *_table(("name", "meaning"), counters(), code=0),
    ])  # fmt: skip


def errors_page() -> str:
    """docs/reference/errors.md."""
    tree = inspect.cleandoc(errors.__doc__ or "").split("\n\n", 2)[2]
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    rows = [(kind.__name__, inspect.cleandoc(kind.__doc__ or "")) for kind in kinds]
    return "\n".join([
        "# Errors", "", "```text", *inspect.cleandoc(tree).splitlines(), "```", "",
        "The command line exits with 2 on `SpecError` and `UsageError`, with 1 on every other error of this tree.", "",
        *_table(("error", "meaning"), rows, code=0),
    ])  # fmt: skip


def lifecycle_page() -> str:
    """docs/reference/lifecycle.md."""
    rows = [(f"{state}", f"{move}", f"{to}") for (state, move), to in lifecycle.MOVES.items()]
    return "\n".join([
        "# The life of a candidate", "",
        "No path reaches `live` without `prove`. A move that the table does not have raises `IllegalMove`. `shadow`",
        "and `canary` are in the table and are not yet used by any roll-out.", "",
        "```mermaid", lifecycle.diagram(), "```", "", *_table(("state", "move", "next state"), rows),
    ])  # fmt: skip


# ---- writing ---------------------------------------------------------------------------------------------------------
def _table(head: tuple[str, ...], rows: list[Any] | list[tuple[str, ...]], code: int | None = None) -> list[str]:
    """A Markdown table; the cells of column `code` are set as code."""
    told = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [f"`{cell}`" if place == code else " ".join(str(cell).split()) for place, cell in enumerate(row)]
        told.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return told


PAGES: dict[str, Callable[[], str]] = {
    "spec.md": spec_page,
    "cli.md": cli_page,
    "ledger.md": ledger_page,
    "settings.md": settings_page,
    "metrics.md": metrics_page,
    "http.md": http_page,
    "errors.md": errors_page,
    "lifecycle.md": lifecycle_page,
}


def pages() -> dict[str, str]:
    """Every page as it should be."""
    return {name: f"{NOTE}\n\n{write().rstrip()}\n" for name, write in PAGES.items()}


def stale() -> list[str]:
    """Names of pages that are not as they should be, or should not be there."""
    wanted = pages()
    there = {path.name: path.read_text(encoding="utf-8") for path in REFERENCE.glob("*.md")}
    return sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))


def main(arguments: list[str]) -> int:
    """Write the pages, or say which are stale."""
    if arguments == ["--check"]:
        for name in (found := stale()):
            sys.stdout.write(f"docs/reference/{name} is stale; run `make docs`\n")
        return 1 if found else 0
    if arguments:
        sys.stderr.write("usage: python docs/generate.py [--check]\n")
        return 2
    REFERENCE.mkdir(exist_ok=True)
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

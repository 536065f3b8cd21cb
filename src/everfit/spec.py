"""The spec file: every room's options composed, read from YAML, with errors that name file, line, key and remedy.

Takes the text of `everfit.yaml`; gives a frozen `Spec`; never looks at where things are (that is `settings`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from everfit.decide.options import Deciding, Trigger, functions_in
from everfit.decide.rules import parts_of
from everfit.detect.catalogue import METRICS, Metric, check_metric, default_metric, metric_from
from everfit.detect.metrics import UserFunction
from everfit.detect.options import FunctionMetric, MetricChoice, ProfitMetric, Watching
from everfit.errors import SpecError
from everfit.judge.options import Judging
from everfit.observe.options import FeatureOptions, Observing
from everfit.retrain.options import Training
from everfit.rollout.options import Rolling
from everfit.units import duration_text

DIAGNOSED = ("roc_auc", "calibration_error")  # read for every binary model: scores that drifted are told from decay
Path_ = tuple[str | int, ...]
ISO_DURATION = re.compile(r"P(\d+[YMWD])*(T(\d+(\.\d+)?[HMS])+)?(?<=\d[YMWDHS])")


class Channel(BaseModel):
    """Where people are told. A plain URL is short for `{url: ...}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(
        description="an Apprise URL; ${NAME} is read from the environment, so that secrets stay out of the file"
    )
    at_least: Literal["info", "warning", "error"] = Field("info", description="quieter alerts are not sent here")


class Spec(BaseModel):
    """One model kept fit. Four lines are enough; everything else has a safe default."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Everfit spec")

    model: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", description="the model's name")
    task: Literal["binary", "multiclass", "regression"]
    target: str = Field(description="the column to predict")
    time: str = Field(description="the column that holds the event time")
    id: str | None = Field(
        None, description="the column that names an event; without it ids are issued at prediction time"
    )
    positive: str | None = Field(
        None, description="binary: the class whose score is shown; default: the last in sorted order"
    )
    features: FeatureOptions = FeatureOptions()
    observe: Observing = Observing()
    train: Training = Training()
    watch: Watching = Watching()
    triggers: tuple[Trigger, ...] = Field((), description="default: the bench of kept models asks")
    decide: Deciding = Deciding()
    judge: Judging = Judging()
    rollout: Rolling = Rolling()
    alerts: tuple[Channel, ...] = Field((), description="Apprise URLs")

    @field_validator("alerts", mode="before")
    @classmethod
    def _urls(cls, value: Any) -> Any:
        return (
            [{"url": item} if isinstance(item, str) else item for item in value] if isinstance(value, list) else value
        )

    @field_validator("target", "time", "id", mode="before")
    @classmethod
    def _column(cls, value: Any) -> Any:
        if isinstance(value, str) and value.startswith("_"):
            raise ValueError(
                f"{value!r} begins with an underscore, which is kept for Everfit's own columns; rename the column"
            )
        return value

    @field_validator("triggers")
    @classmethod
    def _names(cls, value: tuple[Trigger, ...]) -> tuple[Trigger, ...]:
        names = [trigger.name for trigger in value]
        if "" in names:
            raise ValueError(f"trigger {names.index('') + 1} has no name; give every trigger a name of its own")
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two triggers are called {min(twice)!r}; give every trigger a name of its own")
        return value

    @model_validator(mode="after")
    def _coherent(self) -> Spec:
        used = [name for name in (self.target, self.time, self.id) if name]
        if len(set(used)) < len(used):
            raise ValueError("target, time and id must be three different columns")
        own = _own_metrics(self.watch.metrics, self.task)
        named = {
            "judge.primary": [self.primary],
            "watch.metrics": [choice for choice in self.watch.metrics if isinstance(choice, str)],
            "triggers": _metrics_in(self.triggers),
        }
        for place, metrics in named.items():
            for metric in metrics:
                _check_metric(place, metric, self.task, own)
        return self

    @model_validator(mode="after")
    def _releasable(self) -> Spec:
        rollout = self.rollout
        if rollout.key == self.target:
            raise ValueError(f"rollout.key: {rollout.key!r} is the target, which no request has; name another column")
        if any(check.slices for check in rollout.guard.checks) and not self.judge.slices.by:
            raise ValueError(
                "rollout.guard.checks: `slices: true` needs columns to slice by; name them in judge.slices.by"
            )
        return self

    @property
    def primary(self) -> str:
        """The metric that proof rests on."""
        return self.judge.primary or default_metric(self.task)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The name of every metric that is measured, the primary one first."""
        also = [choice if isinstance(choice, str) else choice.called for choice in self.watch.metrics]
        diagnosed = DIAGNOSED if self.task == "binary" else ()
        return tuple(dict.fromkeys([self.primary, *also, *_metrics_in(self.triggers), *diagnosed]))

    @property
    def functions(self) -> tuple[str, ...]:
        """Every function of the user's own that metrics and triggers name, as `module:name`."""
        metrics = [choice.function for choice in self.watch.metrics if isinstance(choice, FunctionMetric)]
        return tuple(dict.fromkeys([*metrics, *functions_in(self.triggers)]))


def metrics_of(spec: Spec, functions: Mapping[str, UserFunction] = MappingProxyType({})) -> tuple[Metric, ...]:
    """The metrics of a spec, the primary one first.

    Args:
        spec: The spec.
        functions: Loaded functions by the text that names them, for metrics of the user's own.

    >>> [metric.name for metric in metrics_of(parse_spec("{model: m, task: binary, target: late, time: at}"))]
    ['roc_auc', 'calibration_error']
    """
    own = {choice.called: choice for choice in spec.watch.metrics if not isinstance(choice, str)}
    return tuple(metric_from(own.get(name, name), functions) for name in spec.metrics)


def _own_metrics(choices: Iterable[MetricChoice], task: str) -> dict[str, bool]:
    """Metrics with options, and whether greater is better."""
    own: dict[str, bool] = {}
    for choice in choices:
        if isinstance(choice, str):
            continue
        if choice.called in own or choice.called in METRICS:
            raise ValueError(f"watch.metrics: two metrics are called {choice.called!r}; give yours another `name`")
        if isinstance(choice, ProfitMetric) and task != "binary":
            raise ValueError(f"watch.metrics: a profit matrix is for two classes, and the task is {task}")
        own[choice.called] = True if isinstance(choice, ProfitMetric) else choice.greater_is_better
    return own


def _check_metric(place: str, metric: str, task: str, own: Mapping[str, bool]) -> None:
    if own.get(metric):
        return
    if metric in own:
        raise ValueError(
            f"{place}: {metric!r} is a loss; only a function of which greater is better can be held to a line: "
            "return the negative and leave `greater_is_better` away"
        )
    try:
        check_metric(metric, task)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def _every(triggers: Iterable[Trigger]) -> Iterator[Trigger]:
    """Triggers and what is inside them."""
    for trigger in triggers:
        yield trigger
        yield from _every(parts_of(trigger))


def _metrics_in(triggers: Iterable[Trigger]) -> list[str]:
    asked = [getattr(each, kind, None) for each in _every(triggers) for kind in ("performance", "estimated")]
    return [drop.metric for drop in asked if drop is not None and drop.metric]


def read_spec(path: Path) -> Spec:
    """Read a spec file.

    Raises:
        SpecError: the file is missing or wrong; the text names file, line, key and remedy.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(f"{path}: there is no such file; `everfit init` writes one, or name another folder") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read: {error}") from error
    return parse_spec(text, str(path))


class _Loader(yaml.SafeLoader):
    """YAML 1.2, as editors read it: of words only `true` and `false` are no text, so that `on:` is a key."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own name, read and never written
        first: [(tag, found) for tag, found in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def parse_spec(
    text: str, file: str = "everfit.yaml", *, base: Mapping[str, Any] = MappingProxyType({}), besides: str = ""
) -> Spec:
    """Read a spec from its text.

    Args:
        text: YAML.
        file: how errors call it.
        base: plain values of a spec, of which the text replaces some.
        besides: a key of the text that is none of a spec.

    >>> parse_spec("{model: m, task: binary, target: late, time: at}").primary
    'roc_auc'
    >>> few = {"model": "m", "task": "binary", "target": "late", "time": "at"}
    >>> parse_spec("{name: mine, decide: {cool_down: 2d}}", base=few, besides="name").decide.cool_down.days
    2

    Raises:
        SpecError: with file, line, key and remedy.
    """
    try:
        root = yaml.compose(text, Loader=_Loader)
        plain = plain_of(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SpecError(f"{file}:{line}: this is not YAML: {error.problem}") from error
    if not isinstance(plain, dict):
        raise SpecError(f"{file}:1: a spec begins with keys such as model, task, target and time")
    if twice := _repeated(root):
        raise SpecError(f"{file}:{twice[1]}: {twice[0]}: this key is given twice; keep one")
    plain.pop(besides, None)
    try:
        return Spec.model_validate(laid_over(base, plain))
    except ValidationError as error:
        raise SpecError("\n".join(dict.fromkeys(_said(item, plain, root, file) for item in error.errors()))) from None


def plain_of(text: str) -> Any:
    """The plain values of a spec's text, or of a part of one."""
    return _Loader(text).get_single_data()


def laid_over(base: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values over others, a record key by key.

    >>> laid_over({"train": {"with": "train:fit", "seed": 3}, "task": "binary"}, {"train": {"seed": 7}})
    {'train': {'with': 'train:fit', 'seed': 7}, 'task': 'binary'}
    """
    both = {key: {**base[key], **plain[key]} for key in base if _record(base[key]) and _record(plain.get(key))}
    return {**base, **plain, **both}


def _record(value: Any) -> bool:
    return isinstance(value, dict)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the spec file, for editors."""
    written: dict[str, Any] = _as_written(Spec.model_json_schema(by_alias=True))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | written


def _as_written(schema: Any) -> Any:
    """Defaults as a spec writes them: pydantic writes durations in ISO 8601, which no spec does."""
    if isinstance(schema, list):
        return [_as_written(item) for item in schema]
    if isinstance(schema, dict):
        return {key: _as_written(value) for key, value in schema.items()}
    if isinstance(schema, str) and ISO_DURATION.fullmatch(schema):
        return duration_text(TypeAdapter(timedelta).validate_python(schema))
    return schema


def _said(item: Any, plain: Any, root: yaml.Node | None, file: str) -> str:
    place = _place(item["loc"], plain)
    if not place and item["type"] == "value_error":  # a rule over several keys names its place itself
        named = str(item["ctx"]["error"]).split(":")[0].split(".")
        place = _place(tuple(named), plain)
        line = _line_of(root, place)
        return f"{file}:{line}: {item['ctx']['error']}"
    line = _line_of(root, place)
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".") or "spec"
    match item["type"]:
        case "extra_forbidden":
            valid = _keys_at(Spec, place[:-1])
            near = get_close_matches(str(place[-1]), valid, n=1, cutoff=0.5)
            what = f"unknown key; did you mean {near[0]!r}?" if near else f"unknown key; valid here: {', '.join(valid)}"
            if place[-1] in valid:  # of another record that may stand here
                what = "does not go with the keys beside it; leave it out"
        case "missing":
            key = f"{key}.{item['loc'][-1]}" if key != "spec" else str(item["loc"][-1])
            what = "is required and missing"
        case "value_error":
            what = str(item["ctx"]["error"])
        case _:
            what = f"{item['msg'][:1].lower()}{item['msg'][1:]}, but it is {item['input']!r}"
    return f"{file}:{line}: {key}: {what}"


def _place(loc: tuple[str | int, ...], plain: Any) -> Path_:
    """Where in the file an error is: pydantic's path without the names of union members.

    A member may be named like a key that it has: then the reading counts that reaches what the error is about.
    """
    if not loc:
        return ()
    part, rest = loc[0], loc[1:]
    skipped = _place(rest, plain)
    inside = isinstance(plain, list) and isinstance(part, int) and part < len(plain)
    if not (inside or (isinstance(plain, dict) and part in plain)):
        return skipped
    taken = (part, *_place(rest, plain[part]))
    return skipped if taken[-1] != loc[-1] and skipped[-1:] == loc[-1:] else taken


def _line_of(node: yaml.Node | None, place: Path_) -> int:
    line = node.start_mark.line + 1 if node else 1
    for part in place:
        if isinstance(node, yaml.MappingNode):
            pair = next((pair for pair in node.value if pair[0].value == str(part)), None)
            if pair is None:  # a key that is no text, such as a number written another way
                return line
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _repeated(node: yaml.Node | None) -> tuple[str, int] | None:
    if isinstance(node, yaml.SequenceNode):
        return next((found for item in node.value if (found := _repeated(item))), None)
    if not isinstance(node, yaml.MappingNode):
        return None
    seen: set[str] = set()
    for key, value in node.value:
        if key.value in seen:
            return key.value, key.start_mark.line + 1
        seen.add(key.value)
        if found := _repeated(value):
            return found
    return None


def _keys_at(model: Any, place: Path_) -> list[str]:
    """The keys that are valid at a place of the file."""
    models = _models_in(model)
    for part in place:
        if isinstance(part, int):
            continue
        fields = [
            m.model_fields[name]
            for m in models
            for name in m.model_fields
            if part in (name, m.model_fields[name].alias)
        ]
        models = [found for field in fields for found in _models_in(field.annotation)]
    return sorted({field.alias or name for m in models for name, field in m.model_fields.items()})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_in(argument)]

"""A policy of the user's own, read from a YAML file, to be played beside the others.

Takes a file: `{name: mine, every: 7}`, `{name: mine, bench: {price: 0.1}}`, `{name: mine, rule: drop, by: 0.03}` or
`{name: mine, triggers: [...]}` in a spec's words; gives a frozen `Policy`; never plays it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, ValidationError

from everfit.decide.bench_options import BenchOptions
from everfit.detect.stream import DETECTORS
from everfit.errors import SpecError
from everfit.replay.matrix import Matrix
from everfit.replay.play import Played, Rule, play, play_bench
from everfit.replay.policies import RULES, AnyKs, AnyPsi, Cusum, DriftedShare, Drop, Every, Stream
from everfit.replay.portrait import Portrait
from everfit.units import Share

if TYPE_CHECKING:
    from everfit.replay.history import History

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}$"


class _Named(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME, description="how it is called in the answer")


Named = TypeVar("Named", bound=_Named)


class EveryPolicy(_Named):
    """Every so many windows."""

    every: PositiveInt


class BenchPolicy(_Named):
    """Everfit's policy with other options: those of `decide.bench`."""

    bench: BenchOptions


class NamedRule(_Named):
    """A rule that has a name of its own."""

    rule: str


class DropRule(_Named):
    """The newest window scores lower than the model's first ones."""

    rule: Literal["drop"]
    by: PositiveFloat = 0.02
    first: PositiveInt = 3


class CusumRule(_Named):
    """Lost score, summed over windows."""

    rule: Literal["cusum"]
    line: PositiveFloat = 0.05
    slack: NonNegativeFloat = 0.01
    first: PositiveInt = 3


class KsRule(_Named):
    """Any column differs by KS or chi-square."""

    rule: Literal["ks_any"]
    below: Share = 0.05


class ShareRule(_Named):
    """A share of the columns drifted."""

    rule: Literal["evidently"]
    share: Share = 0.5


class PsiRule(_Named):
    """PSI of any column is above a line."""

    rule: Literal["psi_any"]
    above: PositiveFloat = 0.2


@dataclass(frozen=True, slots=True)
class TriggersPolicy:
    """`triggers`, and perhaps `decide` and `train`, in a spec's words: read when the rest of the spec is known."""

    name: str
    text: str
    file: str  # how errors call it


@dataclass(frozen=True, slots=True)
class LivePolicy:
    """A spec, played by the live flows over the rows themselves. Its labels come when the spec says, at any delay."""

    name: str
    text: str  # of the spec
    play: Callable[[History, Callable[[], None]], Played] = field(compare=False)  # calls back now and then, to be ended


FilePolicy = EveryPolicy | BenchPolicy | NamedRule | DropRule | CusumRule | KsRule | ShareRule | PsiRule
Policy = FilePolicy | LivePolicy

WITH_PARAMETERS: Mapping[str, type[FilePolicy]] = {
    "drop": DropRule,
    "cusum": CusumRule,
    "ks_any": KsRule,
    "evidently": ShareRule,
    "psi_any": PsiRule,
}
KEYS: Mapping[str, type[FilePolicy]] = {"every": EveryPolicy, "bench": BenchPolicy, "rule": NamedRule}
OF_SPEC = ("triggers", "decide", "train")  # what a policy file may say in a spec's words
DETECTING = tuple(name for name in DETECTORS if name != "everfit")
NAMES = (*WITH_PARAMETERS, *(name for name in RULES if name not in WITH_PARAMETERS), *DETECTING)


def read_policy(path: Path) -> FilePolicy | TriggersPolicy:
    """Read a policy from a file.

    Raises:
        SpecError: the file is missing or wrong; the text names file, line, key and remedy.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(f"{path}: there is no such file; write for instance {{name: mine, every: 7}} into it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read: {error}") from error
    return parse_triggers(text, str(path)) or parse_policy(text, str(path))


def parse_policy(text: str, file: str = "policy.yaml") -> FilePolicy:
    """Read a policy from its text.

    >>> parse_policy("{name: mine, rule: drop, by: 0.03}")
    DropRule(name='mine', rule='drop', by=0.03, first=3)
    >>> parse_policy("{name: mine, bench: {price: 0.1}}").bench.price
    0.1

    Raises:
        SpecError: with file, line, key and remedy.
    """
    plain, lines = _plain(text, file)
    return _checked(_kind(plain, lines, file), plain, lines, file)


def parse_triggers(text: str, file: str = "policy.yaml") -> TriggersPolicy | None:
    """Read a policy of triggers from its text; None when it names none.

    >>> parse_triggers('{name: weekly, triggers: [{name: sunday, schedule: "0 2 * * 0"}]}').name
    'weekly'
    >>> parse_triggers("{name: mine, every: 7}") is None
    True

    Raises:
        SpecError: with file, line, key and remedy.
    """
    plain, lines = _plain(text, file)
    if "triggers" not in plain:
        return None
    own = {key: each for key, each in plain.items() if key not in OF_SPEC}
    return TriggersPolicy(_checked(_Named, own, lines, file).name, text, file)


def _plain(text: str, file: str) -> tuple[dict[Any, Any], dict[str, int]]:
    """The values of a text, and the line of each key."""
    try:
        root, plain = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SpecError(f"{file}:{line}: this is not YAML: {error.problem}") from error
    if not isinstance(plain, dict) or not isinstance(root, yaml.MappingNode):
        raise SpecError(f"{file}:1: a policy is for instance {{name: mine, every: 7}}")
    return plain, {key: line for key, line in _lines(root) if key}


def play_own(policy: FilePolicy, matrix: Matrix, portrait: Portrait, delay: int = 0) -> Played:
    """Play a policy of the user's files.

    Raises:
        UsageError: its rule needs river, which is not installed.
    """
    match policy:
        case EveryPolicy(every=every):
            return play(policy.name, Every(every, matrix.cut.start - 1), matrix, delay)
        case BenchPolicy(bench=bench):
            return play_bench(matrix, delay, bench, policy.name)
        case _:
            return play(policy.name, _rule(policy, matrix, portrait), matrix, delay)


def _rule(
    policy: NamedRule | DropRule | CusumRule | KsRule | ShareRule | PsiRule, matrix: Matrix, portrait: Portrait
) -> Rule:
    match policy:
        case DropRule(by=by, first=first):
            return Drop(by, first)
        case CusumRule(line=line, slack=slack, first=first):
            return Cusum(line, slack, first)
        case KsRule(below=below):
            return AnyKs(portrait, below)
        case ShareRule(share=share):
            return DriftedShare(portrait, share)
        case PsiRule(above=above):
            return AnyPsi(portrait, above)
        case NamedRule(rule=rule):
            return RULES[rule](matrix, portrait) if rule in RULES else Stream(rule)


def _checked(kind: type[Named], plain: dict[Any, Any], lines: Mapping[str, int], file: str) -> Named:
    try:
        return kind.model_validate(plain)
    except ValidationError as error:
        raise SpecError("\n".join(_said(item, kind, lines, file) for item in error.errors())) from None


def _kind(plain: dict[Any, Any], lines: Mapping[str, int], file: str) -> type[FilePolicy]:
    """Which policy it is, by its one key."""
    found = [key for key in KEYS if key in plain]
    if len(found) != 1:
        given = ", ".join(str(key) for key in plain)
        near = [each for key in plain for each in get_close_matches(str(key), [*KEYS, "triggers"], n=1)]
        remedy = (
            f"did you mean {near[0]!r}?"
            if near and not found
            else "give exactly one of every, bench, rule and triggers"
        )
        raise SpecError(f"{file}:1: {given}: {remedy}")
    if found[0] != "rule":
        return KEYS[found[0]]
    rule = plain["rule"]
    if rule not in NAMES:
        near = get_close_matches(str(rule), NAMES, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"choose of {', '.join(NAMES)}"
        raise SpecError(f"{file}:{lines['rule']}: rule: there is no rule {rule!r}; {remedy}")
    return WITH_PARAMETERS.get(rule, NamedRule)


def _said(item: Any, kind: type[_Named], lines: Mapping[str, int], file: str) -> str:
    place = ".".join(str(part) for part in item["loc"])
    line = lines.get(place, lines.get(place.split(".")[0], 1))
    match item["type"]:
        case "extra_forbidden":
            inside = BenchOptions if place.startswith("bench.") else kind
            valid = sorted([*inside.model_fields, *(OF_SPEC if kind is _Named else ())])
            near = get_close_matches(place.split(".")[-1], valid, n=1, cutoff=0.5)
            what = f"unknown key; did you mean {near[0]!r}?" if near else f"unknown key; valid here: {', '.join(valid)}"
        case "missing":
            what = "is required and missing"
        case _:
            what = f"{item['msg'][:1].lower()}{item['msg'][1:]}, but it is {item['input']!r}"
    return f"{file}:{line}: {place}: {what}"


def _lines(node: yaml.MappingNode, before: str = "") -> Iterator[tuple[str, int]]:
    """The line of each key, those inside others as `bench.price`."""
    for key, value in node.value:
        place = f"{before}{key.value}"
        yield place, key.start_mark.line + 1
        if isinstance(value, yaml.MappingNode):
            yield from _lines(value, f"{place}.")

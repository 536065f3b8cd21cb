"""The live flows over history, with a trainer in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from everfit.errors import UsageError
from everfit.replay.live import Lived, Place, live
from everfit.spec import Spec
from everfit.testing import MemoryTrainer
from tests.world import DAY0, SECOND, rows, spec_of

pytestmark = pytest.mark.filterwarnings("error")

NEVER = "triggers: [{name: never, event: nothing}]\n"
WEEKLY = "triggers: [{name: weekly, new_rows: 210}]\n"


@dataclass
class Home:
    """A place with a trainer that can be asked what it did."""

    folder: Path
    trainer: MemoryTrainer = field(default_factory=MemoryTrainer)

    def live(self, spec: Spec, frame: pl.DataFrame | None = None) -> Lived:
        """Live through the forty days."""
        return live(rows() if frame is None else frame, spec, Place(self.folder, self.folder / "cache", self.trainer))


@pytest.fixture(scope="module")
def weekly(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Lived]:
    home = Home(tmp_path_factory.mktemp("weekly"))
    return home, home.live(spec_of(SECOND, WEEKLY))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_every_row_after_the_first_champion_is_answered_by_the_model_that_served_at_its_time(
    weekly: tuple[Home, Lived],
) -> None:
    lived = weekly[1]
    releases = lived.standing.releases
    assert len(releases) >= 1
    served = lived.rows.filter(pl.col("_score").is_not_null())
    assert served["_time"].to_list()[0] >= releases[0][0]
    assert lived.rows.filter(pl.col("_time") >= releases[0][0])["_score"].null_count() == 0
    for (at, fact), (until, _) in zip(releases, [*releases[1:], (DAY0 + timedelta(days=99), None)], strict=True):
        between = served.filter(pl.col("_time").is_between(at, until, closed="left"))
        assert between["_version"].unique().to_list() in ([fact.version], [])


def test_nothing_is_seen_before_its_time(weekly: tuple[Home, Lived], home: Home) -> None:
    whole, half = weekly[1], home.live(spec_of(SECOND, WEEKLY), rows(days=34))
    until = DAY0 + timedelta(days=33)
    early = [window for window in whole.standing.history.windows if window.span.end <= until]
    assert early
    assert early == [window for window in half.standing.history.windows if window.span.end <= until]


def test_windows_close_and_mature_as_live(weekly: tuple[Home, Lived]) -> None:
    windows = weekly[1].standing.history.windows
    assert all(window.mature is not None for window in windows)
    assert {window.span.end - window.span.start for window in windows} == {timedelta(days=1)}
    assert [w.labelled for w in windows[1:-1]] == [30] * (len(windows) - 2)


def test_the_same_rows_are_trained_on_once(weekly: tuple[Home, Lived]) -> None:
    home, _ = weekly
    before = len(home.trainer.trained)
    assert before > 1
    again = home.live(spec_of(SECOND, WEEKLY))
    assert len(home.trainer.trained) == before
    assert again.standing.releases


def test_rows_in_any_order_give_the_same_story(home: Home) -> None:
    frame = rows(days=34)
    story = [type(fact).__name__ for fact in _facts(home.live(spec_of(SECOND, NEVER), frame))]
    assert story == [type(fact).__name__ for fact in _facts(home.live(spec_of(SECOND, NEVER), frame.reverse()))]


def test_windows_of_rows(home: Home) -> None:
    spec = spec_of(SECOND, WEEKLY)
    spec = spec.model_copy(update={"observe": type(spec.observe)(window={"rows": 60}, labels_mature_after="1h")})
    lived = home.live(spec)
    assert lived.standing.champion is not None
    assert {window.rows for window in lived.standing.history.windows} == {60}


def test_rows_without_a_time_cannot_be_replayed(home: Home) -> None:
    with pytest.raises(UsageError, match="no row can be replayed"):
        home.live(spec_of(SECOND, NEVER), rows().with_columns(at=pl.lit(None, dtype=pl.String)))


def _facts(lived: Lived) -> list[object]:
    return [fact for story in lived.standing.stories.values() for fact in story.facts]

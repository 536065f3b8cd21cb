"""The steps of a roll-out."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from everfit.rollout.options import Rolling
from everfit.rollout.plan import explain, lasting, longest, plan_release

FULL: dict[str, Any] = {
    "steps": [{"mirror": "24h", "share": "10%"}, {"weight": "5%"}, {"analysis": "1h"}, {"pause": "until promoted"},
              {"weight": "50%"}, {"pause": "30m"}, {"weight": "100%"}, {"bake": "24h"}]
}  # fmt: skip


def test_the_short_form_is_a_list_of_steps() -> None:
    short = Rolling.model_validate({"mirror": "24h", "weights": ["5%", "25%", "50%"], "interval": "1h", "bake": "24h"})
    full = [{"mirror": "24h"}]
    for share in ("5%", "25%", "50%"):
        full += [{"weight": share}, {"analysis": "1h"}]
    full += [{"weight": "100%"}, {"bake": "24h"}]
    assert short.expanded() == Rolling.model_validate({"steps": full}).expanded()
    assert longest(plan_release("c2", "c1", short)) == timedelta(hours=51)


def test_every_step_says_what_it_does() -> None:
    stages = plan_release("c2", "c1", Rolling.model_validate(FULL))
    assert explain(stages) == [
        "publish c2 to the servers and warm it",
        "mirror 10% of the requests to c2 for 1d; nobody sees its answers",
        "answer 5% of the keys with c2; the same keys each time",
        "let the guard look for 1h; go on only if it finds nothing against the challenger",
        "wait until `everfit promote`; the guard looks on",
        "answer 50% of the keys with c2; the same keys each time",
        "wait for 30m; the guard looks on",
        "point all traffic to c2; c1 stays warm to go back to",
        "name c2 champion in the registry",
        "let the guard look on for 1d; it goes back by itself if the new champion is worse",
        "keep the last 10 versions",
    ]
    assert longest(stages) is None
    assert lasting(stages[2]) == timedelta(0)


def test_a_first_champion_has_nothing_to_be_tried_beside() -> None:
    stages = plan_release("c1", None, Rolling.model_validate(FULL))
    assert [stage.kind for stage in stages] == ["publish", "live", "alias", "bake", "tidy"]
    assert explain(stages)[3] == "wait for 1d; nothing new is begun meanwhile"  # nobody to compare with or go back to


def test_going_live_is_never_forgotten() -> None:
    assert [stage.kind for stage in plan_release("c2", "c1", Rolling.model_validate({"steps": [{"weight": "5%"}]}))][
        1:3
    ] == ["weight", "live"]
    assert len(Rolling.model_validate({"weights": ["100%"]}).expanded()) == 1


def test_what_is_written_is_read_again() -> None:
    for given in (FULL, {"mirror": "24h", "weights": ["5%"]}):
        staging = Rolling.model_validate(given)
        again = Rolling.model_validate_json(staging.model_dump_json(exclude_unset=True))
        assert again == staging


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"weights": ["50%", "5%"]}, "weights\\n .*5% after 50%: weights must rise"),
        ({"weights": ["100%", "50%"]}, "50% after 100%: weights must rise"),
        ({"weights": ["0%", "50%"]}, "0% of the keys is no step"),
        ({"weights": "5%"}, "'5%' is not a list"),
        ({"steps": {"weight": "5%"}}, "is not a list; write for instance"),
        ({"steps": [{"weight": "50%"}, {"weight": "5%"}]}, "step 2: weight 5% after 50%: weights must rise"),
        ({"steps": [{"weight": "0%"}]}, "should be greater than 0"),
        ({"steps": [{"mirror": "1h", "share": "0%"}]}, "should be greater than 0"),
        ({"steps": [{"pause": None}]}, "neither a duration such as 30m nor"),
        ({"steps": [{"weight": "5%"}, {"mirror": "1h"}]}, "step 2: mirror after a weight"),
        ({"steps": [{"analysis": "1h"}]}, "analysis before any weight"),
        ({"steps": [{"weight": "5%"}, {"bake": "1h"}]}, "bake before all traffic has moved"),
        ({"steps": [{"weight": "5%"}], "bake": "1h"}, "leave out bake"),
        ({"steps": [{"wieght": "5%"}]}, "a step is exactly one of mirror, weight, pause, analysis, bake"),
        ({"steps": [{"weight": "5%", "pause": "1h"}]}, "a step is exactly one of"),
        ({"steps": [{"weight": "100%"}, {"analysis": "1h"}]}, "step 2: analysis after all traffic has moved"),
        ({"steps": [{"pause": "tomorrow"}]}, "until promoted"),
        ({"key": "_id"}, "is no column of a request"),
    ],
)
def test_lists_that_make_no_sense_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Rolling.model_validate(given)

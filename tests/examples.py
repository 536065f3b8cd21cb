"""How many examples a law is tried on: as many as it says, or a fifth of them where a quick answer is wanted.

Takes a number of examples; gives the settings of Hypothesis, the same examples in every run; never draws by chance.
"""

from __future__ import annotations

from hypothesis import settings

QUICK = "quick"  # `make check` says --hypothesis-profile=quick
FEWER, FEWEST = 5, 5  # what breaks a law mostly breaks it within a dozen examples; `make test` tries all of them


def register() -> None:
    """Make the profile known."""
    settings.register_profile(QUICK, derandomize=True, deadline=None)


def examples(many: int) -> settings:
    """Settings for a law that is tried on so many examples, and on a fifth of them by `make check`."""
    quick = settings.get_current_profile_name() == QUICK
    few = min(many, max(many // FEWER, FEWEST))
    return settings(max_examples=few if quick else many, derandomize=True, deadline=None)

"""What pytest reads before the tests.

Takes nothing; gives the profile of Hypothesis that `make check` asks for; never changes a test.
"""

from __future__ import annotations

from tests.examples import register

register()

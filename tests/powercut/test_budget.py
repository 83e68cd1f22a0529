"""The write budget (design, section 8): at most 15 MB a day at the block device."""

from __future__ import annotations

import pytest

from tests.powercut.budget import LIMIT_BYTES, day_bytes, hasty_hours
from tests.powercut.day import usual_day
from tests.powercut.disk import why_not


@pytest.fixture(scope="module", autouse=True)
def _can() -> None:
    if why := why_not():
        pytest.skip(why)


def test_a_day_with_four_incidents_stays_within_the_budget() -> None:
    assert 2_000_000 < day_bytes(usual_day) <= LIMIT_BYTES


def test_a_quarter_of_a_day_of_a_commit_every_ten_seconds_does_not() -> None:
    """The control."""
    assert day_bytes(hasty_hours) > LIMIT_BYTES

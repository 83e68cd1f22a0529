"""Each kind of scenario once, on the kernel bench. They take minutes, so all run side by side, and beside other tests.

The stories start when the first test of the session does (see the fixture in conftest.py) and are judged here, last.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.stories import BITES, PROVISIONING, STORIES, Stories

pytestmark = [pytest.mark.bench, pytest.mark.slow]


@pytest.mark.parametrize(("scenario", "router"), STORIES, ids=lambda value: str(value))
def test_scenario_passes(stories: Stories, scenario: str, router: str) -> None:
    code, output, report = stories.result("run", scenario, "--router", router)
    assert code == 0, output
    _keeps_its_form(report)


@pytest.mark.parametrize(("scenario", "router", "profile"), PROVISIONING, ids=lambda value: str(value))
def test_provisioning_passes(stories: Stories, scenario: str, router: str, profile: str) -> None:
    code, output, report = stories.result("run", scenario, "--router", router, "--profile", profile)
    assert code == 0, output
    _keeps_its_form(report)


@pytest.mark.parametrize(("scenario", "router"), BITES, ids=lambda value: str(value))
def test_scenario_fails_when_the_product_is_broken(stories: Stories, scenario: str, router: str) -> None:
    code, output, _ = stories.result("bite", scenario, "--router", router)
    assert code == 0, output


def _keeps_its_form(path: Path) -> None:
    report = json.loads(path.read_text())
    assert report["format"] == 1
    assert report["ok"] is True
    for name, figure in report["figures"].items():
        assert {"value", "unit", "limit", "ok"} <= figure.keys(), name

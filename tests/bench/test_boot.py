"""The stories of a power failure and of what the agent uses, on a bench in memory: known events, known figures."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hil import scenario
from hil.bench import Options
from hil.report import report
from hil.scenarios import cold_start
from tests.bench.fake import Product, opener


def judged(name: str, folder: Path, product: Product | None = None, options: Options | None = None) -> dict[str, Any]:
    found = scenario.find(name)
    run = asyncio.run(scenario.once(found, options or Options(), folder / "run", opener(product)))
    return report(found.name, "7.22", 1, found.measures, [run])


@pytest.mark.parametrize("seed", range(5))
def test_the_short_form_switches_each_box_on_first_with_the_primary_alive_and_dead_clause_l7(seed: int) -> None:
    chosen = cold_start.cases(Random(seed), long=False)
    assert {(case.order[0], case.dead) for case in chosen} == {(b, d) for b in cold_start.BOXES for d in (False, True)}
    assert len({case.order for case in chosen}) == 8
    assert all(sorted(case.order) == sorted(cold_start.BOXES) for case in chosen)
    assert not chosen[0].dead, "a failover before the first dead primary is one without a cause (clause P5)"


@pytest.mark.parametrize("seed", range(5))
def test_the_long_form_has_every_order_with_the_primary_alive_and_dead_clause_l7(seed: int) -> None:
    chosen = cold_start.cases(Random(seed), long=True)
    assert len({(case.order, case.dead) for case in chosen}) == len(chosen) == 48
    assert not chosen[0].dead


@pytest.mark.parametrize("long", [False, True])
def test_a_cold_start_passes_when_all_phones_are_bound_in_time(tmp_path: Path, long: bool) -> None:
    said = judged("cold-start", tmp_path, Product(bound_s=30.0), Options(long=long))
    assert said["outcome"] == "passed", said
    assert said["controls"] == {"L7": "bit", "leases": "bit", "M1": "bit", "P10": "bit"}
    assert said["figures"]["cold_starts"]["value"] == (48.0 if long else 8.0)
    assert 45.0 <= said["figures"]["bound_s"]["value"] <= 160.0  # counted from the power, not from the last box


@pytest.mark.parametrize(
    ("product", "missed"),
    [
        (Product(bound_s=290.0), "unbound"),
        (Product(detection_s=None), "unbound"),
        (Product(detection_s=None), "undecided"),
        (Product(detection_s=None), "unanswered_calls"),
        (Product(decides_s=10.5), "decided_s"),
    ],
)
def test_a_cold_start_fails_when_phones_are_not_bound(tmp_path: Path, product: Product, missed: str) -> None:
    said = judged("cold-start", tmp_path, product)
    assert said["outcome"] == "failed"
    assert not said["figures"][missed]["ok"]


def test_a_cold_start_is_an_error_when_phones_are_bound_without_the_agent_too(tmp_path: Path) -> None:
    said = judged("cold-start", tmp_path, Product(native=True))
    assert (said["outcome"], said["controls"]["L7"][:12]) == ("error", "did not bite")


def test_a_footprint_within_its_limits_passes(tmp_path: Path) -> None:
    said = judged("footprint", tmp_path, Product(rss_mib=30.0, cpu_share=0.01, written_bytes_per_s=100.0))
    assert said["outcome"] == "passed", said
    assert said["controls"] == {"cpu": "bit", "disk": "bit", "memory": "bit"}
    values = {name: entry["value"] for name, entry in said["figures"].items()}
    assert values["rss_peak_mib"] == pytest.approx(30.0)
    assert values["cpu_percent"] == pytest.approx(1.0)
    # 100 bytes a second for a day, and the bytes of the other 190 seconds once
    assert values["written_day_mb"] == pytest.approx(8.64 + 0.019, abs=0.001)


@pytest.mark.parametrize(
    ("product", "missed"),
    [
        (Product(rss_mib=41.0), "rss_peak_mib"),
        (Product(cpu_share=0.021), "cpu_percent"),
        (Product(written_bytes_per_s=174.0), "written_day_mb"),
        (Product(written_bytes_per_s=174.0 * 4, causes=3), "written_day_mb"),
        (Product(causes=4), "commits_with_a_cause"),
        (Product(detection_s=None), "failovers"),
    ],
)
def test_a_footprint_beyond_a_limit_fails(tmp_path: Path, product: Product, missed: str) -> None:
    said = judged("footprint", tmp_path, product)
    assert said["outcome"] == "failed"
    assert not said["figures"][missed]["ok"]


def test_a_commit_with_a_cause_counts_once_and_not_for_every_ten_minutes_of_a_day(tmp_path: Path) -> None:
    said = judged("footprint", tmp_path, Product(written_bytes_per_s=300.0, causes=2))
    assert said["outcome"] == "passed", said
    idle_mb, once_mb = 300.0 * 86400.0 / 1e6 / 3, 300.0 * 620.0 / 1e6 * 2 / 3
    incident_mb = 300.0 * 190.0 / 1e6
    assert said["figures"]["written_day_mb"]["value"] == pytest.approx(idle_mb + once_mb + incident_mb, abs=0.01)


def test_a_footprint_whose_reader_sees_no_waste_is_an_error(tmp_path: Path) -> None:
    said = judged("footprint", tmp_path, Product(blind=True))
    assert said["outcome"] == "error"
    assert all(text.startswith("did not bite") for text in said["controls"].values())

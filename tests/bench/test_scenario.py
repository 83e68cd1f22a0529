"""Finding scenarios, and running stories on a bench in memory: known events, known figures."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hil import events, scenario
from hil.bench import Bench, BenchBroken, CannotRun, Options
from hil.report import Run, report
from hil.scenario import OpenBench, Scenario
from tests.bench.fake import FakeBench, Product, opener
from tests.bench.stories import write_own

QUIET = ("icmp-filtered", "lossy-primary", "options-ignored")


def play(found: Scenario, folder: Path, product: Product | None = None, bench: OpenBench | None = None) -> Run:
    return asyncio.run(scenario.once(found, Options(), folder / "run", bench or opener(product)))


def verdict(found: Scenario, run: Run) -> dict[str, Any]:
    return report(found.name, "7.22", 1, found.measures, [run])


def test_the_fake_is_a_bench() -> None:
    bench: Bench = FakeBench(Options(), Product())
    assert bench.events() == []


# --- finding ------------------------------------------------------------------------------------------------------


def test_every_scenario_is_found_by_its_name() -> None:
    for name, found in scenario.every().items():
        assert scenario.find(name).name == found.name == name
        assert found.measures
        assert found.file == ""


def test_a_scenario_is_found_by_the_path_of_a_file_outside_the_repository(tmp_path: Path) -> None:
    found = scenario.find(write_own(tmp_path))
    assert (found.name, found.file) == ("own-story", str(tmp_path / "own.py"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "no such Python file"),
        ("x = 1", "expected a hil.scenario.Scenario named SCENARIO"),
        ("SCENARIO = 'mine'", "expected a hil.scenario.Scenario named SCENARIO"),
        ("x = (", "cannot be loaded: SyntaxError"),
        ("import nonesuch", "cannot be loaded: ModuleNotFoundError"),
        ("from hil.scenario import Scenario\nScenario('../x', '', None, None, ())", "small letters"),
    ],
)
def test_a_file_that_is_no_scenario_cannot_run_and_says_why(tmp_path: Path, text: str | None, says: str) -> None:
    path = tmp_path / "wrong.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(CannotRun, match=f"wrong.py.*{says}"):
        scenario.find(str(path))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(CannotRun, match=r"no scenario 'nope'; there are agent-dead-fallback, .*failover-blackhole"):
        scenario.find("nope")


# --- a bench that fails -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "says"),
    [(BenchBroken("the emulator died"), "the emulator died"), (KeyError("words"), "KeyError: 'words'")],
)
def test_a_bench_that_fails_is_an_error_whatever_was_measured(tmp_path: Path, error: Exception, says: str) -> None:
    found = scenario.find(write_own(tmp_path))

    async def story(bench: Bench) -> None:
        await found.story(bench)
        raise error

    broken = replace(found, story=story)
    run = play(broken, tmp_path)
    assert run.samples["detection_s"]
    assert says in run.problem
    assert verdict(broken, run)["outcome"] == "error"


def test_the_events_of_a_broken_run_never_become_a_verdict_later(tmp_path: Path) -> None:
    found = scenario.find(write_own(tmp_path))
    play(found, tmp_path, Product(error=BenchBroken("no phones")))
    again = scenario.judged(found, events.load(tmp_path / "run" / "events.jsonl"), 1, "")
    assert again.problem == "no phones"


def test_events_without_the_end_of_the_story_are_an_error(tmp_path: Path) -> None:
    found = scenario.find(write_own(tmp_path))
    play(found, tmp_path)
    seen = events.load(tmp_path / "run" / "events.jsonl")
    assert scenario.judged(found, seen, 1, "").problem == ""
    cut_short = [event for event in seen if event["event"] != "story ended"]
    assert "did not end" in scenario.judged(found, cut_short, 1, "").problem


@pytest.mark.parametrize("when", ["start", "end"])
def test_a_bench_that_does_not_start_or_end_is_an_error(tmp_path: Path, when: str) -> None:
    @contextlib.asynccontextmanager
    async def bad(options: Options, folder: Path) -> AsyncIterator[Bench]:
        if when == "start":
            raise BenchBroken("no router")
        async with opener()(options, folder) as bench:
            yield bench
        raise OSError("no kernel")

    found = scenario.find(write_own(tmp_path))
    run = play(found, tmp_path, bench=bad)
    assert ("no router" if when == "start" else "OSError: no kernel") in run.problem
    assert verdict(found, run)["outcome"] == "error"


def test_both_the_storys_and_the_benchs_failure_are_told(tmp_path: Path) -> None:
    @contextlib.asynccontextmanager
    async def bad(options: Options, folder: Path) -> AsyncIterator[Bench]:
        async with opener(Product(error=BenchBroken("no phones")))(options, folder) as bench:
            yield bench
        raise BenchBroken("no end")

    assert play(scenario.find(write_own(tmp_path)), tmp_path, bench=bad).problem == "no phones\nno end"


def test_figures_that_cannot_be_computed_are_an_error(tmp_path: Path) -> None:
    found = scenario.find(write_own(tmp_path))
    for figures in (
        lambda _events: {"detection_s": [float("nan")]},
        lambda events: {"detection_s": [events[-1]["no"]]},
    ):
        odd = replace(found, figures=figures)
        run = play(odd, tmp_path)
        assert run.problem
        assert verdict(odd, run)["outcome"] == "error"


def test_what_cannot_run_here_is_no_run_at_all(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="nobody"):
        play(scenario.find("lossy-primary"), tmp_path, Product(error=CannotRun("nobody is there")))


def test_events_of_an_earlier_run_in_the_same_folder_are_not_judged(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    old = tmp_path / "run" / "emulator.events"
    old.write_text("{}")
    play(scenario.find(write_own(tmp_path)), tmp_path)
    assert not old.exists()


def test_repeats_have_seeds_and_folders_of_their_own(tmp_path: Path) -> None:
    found = scenario.find("lossy-primary")
    runs = asyncio.run(scenario.repeat(found, Options(seed=7), 3, asyncio.Semaphore(2), tmp_path, opener()))
    assert [run.seed for run in runs] == [7000, 7001, 7002]
    assert len({run.events for run in runs}) == 3


# --- the project's stories ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUIET)
def test_a_quiet_story_passes_when_nothing_happens_until_the_line_really_dies(tmp_path: Path, name: str) -> None:
    found = scenario.find(name)
    run = play(found, tmp_path)
    assert run.samples["failovers"] == [0.0]
    assert run.controls == {"P5": "bit", "voice on lte": "bit"}
    assert verdict(found, run)["outcome"] == "passed"


@pytest.mark.parametrize("name", QUIET)
def test_a_quiet_story_fails_on_a_false_alarm(tmp_path: Path, name: str) -> None:
    found = scenario.find(name)
    run = play(found, tmp_path, Product(false_alarm_s=60.0))
    assert run.samples["failovers"] == [1.0]
    assert run.clauses["P5"].startswith("broken")
    assert verdict(found, run)["outcome"] == "failed"


@pytest.mark.parametrize("name", QUIET)
def test_a_quiet_story_is_an_error_when_the_product_sleeps_through_its_control(tmp_path: Path, name: str) -> None:
    found = scenario.find(name)
    run = play(found, tmp_path, Product(detection_s=None))
    assert run.controls["P5"].startswith("did not bite")
    assert verdict(found, run)["outcome"] == "error"


def test_the_long_form_of_the_lossy_line_watches_longer(tmp_path: Path) -> None:
    found = scenario.find("lossy-primary")
    for long, watched_s in ((False, 240.0), (True, 900.0)):
        run = asyncio.run(scenario.once(found, Options(long=long), tmp_path / "run", opener()))
        assert run.samples["watched_s"] == [pytest.approx(watched_s)]


def test_the_blackhole_storys_figures_are_what_happened(tmp_path: Path) -> None:
    found = scenario.find("failover-blackhole")
    run = play(found, tmp_path, Product(detection_s=1.93, switch_s=0.02, bound_s=30.0, drain_s=5.0, home_s=2.0))
    said = verdict(found, run)
    assert said["outcome"] == "passed", said
    assert set(run.clauses.values()) == {"held"}
    assert run.controls == {"M1": "bit", "P10": "bit", "call gap": "bit"}
    values = {name: entry["value"] for name, entry in said["figures"].items()}
    expected = {
        "detection_s": 1.93,
        "switch_s": 0.02,
        "lease_sentences": 1.0,
        "udp60_binding_s": 30.0,
        "failover_mails": 2.0,
        "failover_mail_s": 10.0,
        "restored_mails": 2.0,
        "home_udp60_s": 37.0,
        "uncallable_udp_s": 2.0,
        "call_gap_s": 0.04,
    }
    assert {name: values[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("product", "missed"),
    [
        (Product(detection_s=3.1), "detection_s"),
        (Product(switch_s=0.6), "switch_s"),
        (Product(bound_s=61.0), "udp60_binding_s"),
        (Product(home_s=11.0), "uncallable_udp_s"),
        (Product(call_gap_s=0.2), "call_gap_s"),
        (Product(detection_s=None), "detection_s"),
    ],
)
def test_the_blackhole_story_fails_by_the_figure_that_is_bad(tmp_path: Path, product: Product, missed: str) -> None:
    found = scenario.find("failover-blackhole")
    said = verdict(found, play(found, tmp_path, product))
    assert said["outcome"] == "failed"
    assert not said["figures"][missed]["ok"]


def test_the_blackhole_story_fails_by_stray_voice_and_is_an_error_without_a_leak_in_its_control(tmp_path: Path) -> None:
    found = scenario.find("failover-blackhole")
    strayed = verdict(found, play(found, tmp_path, Product(strays=1)))
    assert (strayed["outcome"], strayed["clauses"]["P1"][:9]) == ("failed", "broken: 1")
    assert verdict(found, play(found, tmp_path, Product(leaks=False)))["outcome"] == "error"


def test_the_unplugged_story_passes_and_fails_without_an_agent(tmp_path: Path) -> None:
    found = scenario.find("failover-unplug")
    assert verdict(found, play(found, tmp_path, Product(detection_s=0.02)))["outcome"] == "passed"
    assert verdict(found, play(found, tmp_path, Product(detection_s=None)))["outcome"] == "failed"

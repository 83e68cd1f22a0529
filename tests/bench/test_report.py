"""Figures, their judgement and the outcome of a report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hil import report as reports
from hil.report import Measure, Run, exit_code, figure, nearest_rank, table, worst

LIMITED = Measure("wait_s", "s", 3.0)
KEYS = {"format", "scenario", "outcome", "ok", "router", "seed", "repeat", "commit", "versions", "figures", "clauses"}
EXTRAS = {"controls", "problems", "events"}


@pytest.fixture(autouse=True)
def _no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "versions", lambda: {"kernel": "6.1"})
    monkeypatch.setattr(reports, "commit", lambda: "abc")


def run(*samples: float, clause: str = "held", problem: str = "", control: str = "") -> Run:
    return Run({"wait_s": list(samples)}, {"P1": clause}, 1, problem, controls={"M1": control} if control else {})


def said(*runs: Run, measure: Measure = LIMITED) -> dict[str, object]:
    return reports.report("story", "7.22", 1, [measure], runs)


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [(1, 0.95, 1), (19, 0.95, 19), (20, 0.95, 19), (21, 0.95, 20), (4, 0.5, 2), (3, 0, 1)],
)
def test_nearest_rank_is_a_sample_and_never_between_two(count: int, share: float, expected: int) -> None:
    assert nearest_rank(list(range(count, 0, -1)), share) == expected


def test_a_percentile_forgives_one_of_twenty_and_a_maximum_none() -> None:
    samples = [[1.0]] * 19 + [[9.0]]
    assert figure(Measure("x", "s", 3.0, "p95"), samples)["ok"]
    entry = figure(LIMITED, samples)
    assert (entry["value"], entry["ok"], entry["p95"], entry["p50"]) == (9.0, False, 1.0, 1.0)


def test_the_limit_itself_is_allowed() -> None:
    assert figure(LIMITED, [[3.0]])["ok"]
    assert not figure(LIMITED, [[3.00001]])["ok"]


@pytest.mark.parametrize(("samples", "value"), [([2.0, 2.0, 1.0], 1.0), ([2.0, 4.0, 1.0], 4.0)])
def test_an_exact_figure_shows_the_sample_that_is_farthest_off(samples: list[float], value: float) -> None:
    entry = figure(Measure("mails", "", 2, "equal"), [samples])
    assert (entry["value"], entry["ok"]) == (value, False)


def test_an_informational_figure_has_no_limit_and_is_never_missed() -> None:
    for samples in ([7.0], []):
        entry = figure(Measure("x", "s", 5.0, "info"), [samples])
        assert (entry["limit"], entry["ok"]) == (None, True)


def test_a_promised_figure_without_a_limit_is_missed() -> None:
    assert not figure(Measure("x", "s", None), [[1.0]])["ok"]


def test_a_promised_figure_without_samples_is_missed_and_keeps_its_form() -> None:
    entry = figure(LIMITED, [[]])
    assert entry == {
        "value": None, "unit": "s", "limit": 3.0, "ok": False, "p50": None, "p95": None, "samples": []
    }  # fmt: skip


def test_two_samples_in_one_repeat_do_not_stand_for_a_repeat_without_any() -> None:
    assert not figure(LIMITED, [[1.0, 1.0], []])["ok"]
    assert figure(LIMITED, [[1.0, 1.0], [1.0]])["ok"]


def test_outcomes_and_exit_codes() -> None:
    cases = {
        "passed": [run(1.0)],
        "failed": [run(9.0)],
        "error": [run(1.0, problem="the emulator died")],
    }
    codes = []
    for outcome, runs in cases.items():
        found = said(*runs)
        assert (found["outcome"], found["ok"]) == (outcome, outcome == "passed")
        codes.append(exit_code(outcome))
    assert codes == [0, 1, 3]


def test_a_broken_clause_fails_good_figures() -> None:
    assert said(run(1.0, clause="broken: 2 packets"))["outcome"] == "failed"


def test_a_broken_bench_is_an_error_even_when_the_figures_miss() -> None:
    assert said(run(9.0), run(1.0, problem="no"))["outcome"] == "error"


def test_a_scenario_without_any_figure_is_an_error() -> None:
    assert said(Run({}, {}, 1))["outcome"] == "error"
    assert said(run())["outcome"] == "error"
    assert said()["outcome"] == "error"
    assert reports.report("story", "7.22", 1, [], [run(1.0)])["outcome"] == "error"


def test_a_control_that_did_not_bite_is_an_error_and_a_later_bite_does_not_hide_it() -> None:
    found = said(run(1.0, control="did not bite: nothing leaked"), run(1.0, control="bit"))
    assert found["outcome"] == "error"
    assert found["controls"] == {"M1": "did not bite: nothing leaked"}


@pytest.mark.parametrize(
    ("answers", "merged"),
    [
        (("held", "broken: x", "held"), "broken: x"),
        (("broken: x", "broken: y"), "broken: x"),
        (("not exercised", "held"), "held"),
        (("held", "not exercised"), "held"),
        (("not exercised", "not exercised"), "not exercised"),
    ],
)
def test_one_broken_repeat_breaks_the_clause(answers: tuple[str, ...], merged: str) -> None:
    assert said(*(run(1.0, clause=answer) for answer in answers))["clauses"] == {"P1": merged}


def test_the_report_has_the_promised_keys_and_the_file_is_json(tmp_path: Path) -> None:
    found = said(run(1.23456))
    assert found.keys() == KEYS | EXTRAS
    reports.write(found, tmp_path / "new" / "out.json")
    read = json.loads((tmp_path / "new" / "out.json").read_text())
    assert read == found
    assert read["figures"]["wait_s"] == {
        "value": 1.2346, "unit": "s", "limit": 3.0, "ok": True, "p50": 1.2346, "p95": 1.2346, "samples": [1.2346]
    }  # fmt: skip


def test_the_table_shows_misses_broken_clauses_and_problems() -> None:
    text = table(said(run(9.0, clause="broken: 2 packets", problem="the emulator died")))
    assert "MISS wait_s" in text
    assert "MISS clause P1: broken: 2 packets" in text
    assert "ERROR the emulator died" in text


def test_worst_names_what_is_nearest_to_its_limit_or_beyond_it() -> None:
    def of(samples: dict[str, list[float]], clause: str = "held", problem: str = "") -> str:
        measures = [
            LIMITED,
            Measure("mails", "", 2, "equal"),
            Measure("gap_s", "s", 1.0),
            Measure("i", "s", None, "info"),
        ]
        return worst(reports.report("story", "7.22", 1, measures, [Run(samples, {"P1": clause}, 1, problem)]))

    assert of({"wait_s": [1.5], "mails": [2], "gap_s": [0.9], "i": [99]}) == "gap_s 0.900 of 1 s"
    assert of({"wait_s": [4.0], "mails": [2], "gap_s": [0.9]}) == "wait_s 4.000 of 3 s"
    assert of({"wait_s": [4.0], "mails": [2]}) == "gap_s none of 1 s"
    assert of({"wait_s": [1.5], "mails": [2], "gap_s": [0.9]}, "broken: x") == "clause P1 broken: x"
    assert of({"wait_s": [1.5]}, problem="Traceback\nValueError: y\n") == "ValueError: y"

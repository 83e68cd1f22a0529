"""The bench's command line, with benches in memory."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hil import __main__ as cli
from hil import report as reports
from hil import scenario
from hil.bench import BenchBroken, CannotRun
from tests.bench.fake import Product, opener
from tests.bench.stories import write_own
from tests.bench.test_report import EXTRAS, KEYS


@pytest.fixture(autouse=True)
def _in_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(reports, "versions", lambda: {})
    use(monkeypatch, Product())


def use(monkeypatch: pytest.MonkeyPatch, product: Product) -> None:
    monkeypatch.setattr(cli, "open_bench", opener(product))


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_list_names_every_scenario_and_its_routers(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    output = capsys.readouterr().out
    assert all(name in output for name in scenario.every())
    assert "[6.49, 7.22]" in output


@pytest.mark.parametrize(
    "words",
    [
        ["run", "nope"],
        ["run", "no/such/file.py"],
        ["run", "stale-flow-control", "--router", "7.22"],
        ["bite", "stale-flow-control", "--router", "6.49"],
        ["figures", "no-such-file.jsonl"],
    ],
)
def test_what_cannot_run_ends_with_2_and_says_why(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    assert "cannot run: " in capsys.readouterr().err


@pytest.mark.parametrize("words", [["run", "x", "--repeat", "0"], ["run", "x", "--jobs", "0"], ["nope"], []])
def test_a_command_that_makes_no_sense_ends_with_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("product", "code", "outcome"),
    [
        (Product(), 0, "passed"),
        (Product(detection_s=4.0), 1, "failed"),
        (Product(error=BenchBroken("no phones")), 3, "error"),
        (Product(error=ValueError("odd")), 3, "error"),
    ],
)
def test_run_ends_with_its_outcome_and_writes_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, product: Product, code: int, outcome: str
) -> None:
    use(monkeypatch, product)
    target = tmp_path / "out" / "own.json"
    assert cli.main(["run", write_own(tmp_path), "--repeat", "2", "--json", str(target)]) == code
    said = read(target)
    assert (said["outcome"], said["ok"], said["repeat"]) == (outcome, code == 0, 2)


def test_a_machine_that_cannot_run_benches_ends_with_2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, Product(error=CannotRun("no /dev/net/tun")))
    assert cli.main(["run", write_own(tmp_path)]) == 2


@pytest.mark.parametrize(("product", "kept"), [(Product(), 0), (Product(detection_s=4.0), 1)])
def test_event_files_that_nobody_asked_for_stay_only_where_something_is_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], product: Product, kept: int
) -> None:
    use(monkeypatch, product)
    cli.main(["run", write_own(tmp_path)])
    found = list(tmp_path.glob("edgeagent-hil-*"))
    assert len(found) == kept
    assert (f"event files and logs: {''.join(map(str, found))}\n" in capsys.readouterr().err) == bool(kept)


def test_a_mistake_of_the_bench_itself_ends_with_3_and_never_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong() -> dict[str, scenario.Scenario]:
        raise KeyError("oops")

    monkeypatch.setattr(scenario, "every", wrong)
    assert cli.main(["list"]) == 3


def test_the_report_has_exactly_the_promised_form(tmp_path: Path) -> None:
    target = tmp_path / "own.json"
    assert cli.main(["run", write_own(tmp_path), "--json", str(target), "--seed", "5"]) == 0
    said = read(target)
    assert said.keys() == KEYS | EXTRAS
    figure_keys = {"value", "unit", "limit", "ok", "p50", "p95", "samples"}
    assert {name: entry.keys() for name, entry in said["figures"].items()} == {"detection_s": figure_keys}
    assert (said["format"], said["scenario"], said["router"], said["seed"]) == (1, "own-story", "7.22", 5)
    assert said["clauses"].keys() == {"M1", "N1", "P1", "P2", "P5", "P10"}
    assert [Path(path).parent.parent for path in said["events"]] == [tmp_path / "own.events"]


@pytest.mark.parametrize("name", ["own", "failover-blackhole", "lossy-primary"])
def test_figures_recomputes_exactly_what_run_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    target = tmp_path / "report.json"
    chosen = write_own(tmp_path) if name == "own" else name
    assert cli.main(["run", chosen, "--repeat", "2", "--json", str(target)]) == 0
    said = read(target)
    capsys.readouterr()
    assert cli.main(["figures", *said["events"]]) == 0
    again = json.loads(capsys.readouterr().out)
    same = ("scenario", "router", "outcome", "repeat", "figures", "clauses", "controls")
    assert {key: again[key] for key in same} == {key: said[key] for key in same}


def test_figures_of_a_broken_run_end_with_3_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, Product(error=BenchBroken("no phones")))
    target = tmp_path / "own.json"
    assert cli.main(["run", write_own(tmp_path), "--json", str(target)]) == 3
    assert cli.main(["figures", *read(target)["events"]]) == 3


def test_figures_of_a_moved_scenario_file_need_its_new_place(tmp_path: Path) -> None:
    path = Path(write_own(tmp_path))
    target = tmp_path / "own.json"
    assert cli.main(["run", str(path), "--json", str(target)]) == 0
    path.rename(tmp_path / "moved.py")
    assert cli.main(["figures", *read(target)["events"]]) == 2
    assert cli.main(["figures", *read(target)["events"], "--scenario", str(tmp_path / "moved.py")]) == 0


def test_figures_refuses_to_mix_scenarios_and_files_that_are_no_runs(tmp_path: Path) -> None:
    files = []
    for name in ("lossy-primary", "icmp-filtered"):
        target = tmp_path / f"{name}.json"
        assert cli.main(["run", name, "--json", str(target)]) == 0
        files += read(target)["events"]
    assert cli.main(["figures", *files]) == 2
    other = tmp_path / "emulator.events"
    other.write_text('{"t":1,"source":"emulator","event":"flow_started"}\n')
    assert cli.main(["figures", str(other)]) == 2


@pytest.mark.parametrize(
    ("product", "code", "word"),
    [
        (Product(), 0, "bites"),
        (Product(immune=True), 1, "BLUNT"),
        (Product(error=BenchBroken("no phones")), 3, "ERROR"),
    ],
)
def test_bite_ends_with_0_only_if_every_broken_product_fails(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    product: Product,
    code: int,
    word: str,
) -> None:
    use(monkeypatch, product)
    target = tmp_path / "bite.json"
    assert cli.main(["bite", write_own(tmp_path), "--json", str(target)]) == code
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines] == [
        [word, "own-story", "with", "agent-not-started:"],
        [word, "own-story", "with", "lease-swallowed:"],
    ]
    assert [said["breakage"] for said in read(target)] == ["agent-not-started", "lease-swallowed"]


def test_bite_counts_a_quiet_story_whose_control_shows_that_the_product_is_dead(tmp_path: Path) -> None:
    assert cli.main(["bite", "lossy-primary"]) == 0


def test_bite_leaves_out_breakages_for_another_router() -> None:
    found = replace(scenario.find("failover-unplug"), breakages=("everywhere", "old-only@6.49"))
    assert found.breakages_with("6.49") == ["everywhere", "old-only"]
    assert found.breakages_with("7.22") == ["everywhere"]
    assert replace(found, routers=("6.49",)).breakages_with("7.22") == []


# --- bench --------------------------------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two scenarios, one of them about one router only."""
    chosen = {name: scenario.find(name) for name in ("failover-unplug", "lossy-primary")}
    chosen["failover-unplug"] = replace(chosen["failover-unplug"], routers=("6.49",))
    monkeypatch.setattr(scenario, "every", lambda: chosen)


@pytest.mark.usefixtures("few")
def test_bench_runs_the_long_form_of_everything_and_ends_with_a_summary(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, Product(detection_s=0.5))
    target = tmp_path / "out" / "bench.json"
    assert cli.main(["bench", "--repeat", "2", "--json", str(target), "--jobs", "2"]) == 0
    found = read(target)
    assert [(said["scenario"], said["router"], said["repeat"], said["outcome"]) for said in found] == [
        ("failover-unplug", "6.49", 2, "passed"),
        ("lossy-primary", "6.49", 2, "passed"),
        ("lossy-primary", "7.22", 2, "passed"),
    ]
    assert found[1]["figures"]["watched_s"]["value"] == 900.0
    summary = [line.split(maxsplit=3) for line in capsys.readouterr().out.splitlines()[-3:]]
    assert [line[:3] for line in summary] == [[said["scenario"], said["router"], "passed"] for said in found]
    assert summary[0][3] == "returned_s 30.100 of 45 s"


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("product", "code", "summary"),
    [
        (Product(detection_s=2.0), 1, "failed     detection_s 2.000 of 1 s"),
        (Product(error=BenchBroken("no phones")), 3, "error      no phones"),
        (Product(error=CannotRun("no root")), 2, "cannot run no root"),
    ],
)
def test_bench_ends_with_the_worst_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], product: Product, code: int, summary: str
) -> None:
    use(monkeypatch, product)
    assert cli.main(["bench"]) == code
    assert summary in capsys.readouterr().out

"""Figures and their judgement, and the one JSON shape that every measuring command of the project writes."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORMAT = 1
EXIT_PASSED, EXIT_FAILED, EXIT_CANNOT, EXIT_BROKEN = 0, 1, 2, 3


@dataclass(frozen=True)
class Measure:
    """One figure that a scenario promises.

    ``judge``: ``p95`` (nearest rank over all samples), ``max``, ``equal`` (every sample equals the limit) or ``info``.
    """

    name: str
    unit: str
    limit: float | None
    judge: str = "max"


Samples = dict[str, list[float]]


@dataclass
class Run:
    """What one repeat gave: samples by figure, what each clause's checker said, what went wrong with the bench."""

    samples: Samples
    clauses: dict[str, str]
    seed: int
    problem: str = ""
    events: str = ""
    controls: dict[str, str] = field(default_factory=dict)


def nearest_rank(samples: Sequence[float], share: float) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def figure(measure: Measure, samples: Sequence[float], repeats: int) -> dict[str, Any]:
    """One figure of the report. A promised figure without a sample in each repeat is a miss, not a pass."""
    entry: dict[str, Any] = {"value": None, "unit": measure.unit, "limit": measure.limit, "ok": measure.judge == "info"}
    if not samples:
        return entry
    value = nearest_rank(samples, 0.95) if measure.judge == "p95" else max(samples)
    if measure.judge == "equal" and measure.limit is not None:
        value = max(samples, key=lambda sample: abs(sample - float(measure.limit or 0)))
    ok = measure.judge == "info" or (
        len(samples) >= repeats
        and measure.limit is not None
        and (value == measure.limit if measure.judge == "equal" else value <= measure.limit)
    )
    rounded = [round(sample, 4) for sample in samples]
    return {
        **entry,
        "value": round(value, 4),
        "ok": ok,
        "p50": round(nearest_rank(samples, 0.5), 4),
        "p95": round(nearest_rank(samples, 0.95), 4),
        "samples": rounded,
    }


def report(scenario: str, router: str, seed: int, measures: Iterable[Measure], runs: Sequence[Run]) -> dict[str, Any]:
    """The report of all repeats. A control that did not bite, or a broken bench, makes it an error."""
    figures = {
        measure.name: figure(measure, [s for run in runs for s in run.samples.get(measure.name, ())], len(runs))
        for measure in measures
    }
    clauses = _merged(runs)
    problems = [run.problem for run in runs if run.problem]
    problems += [f"control {name}: {said}" for run in runs for name, said in run.controls.items() if said != "bit"]
    good = all(entry["ok"] for entry in figures.values()) and not any(
        said.startswith("broken") for said in clauses.values()
    )
    outcome = "error" if problems or not any(run.samples for run in runs) else "passed" if good else "failed"
    return {
        "format": FORMAT,
        "scenario": scenario,
        "outcome": outcome,
        "ok": outcome == "passed",
        "router": router,
        "seed": seed,
        "repeat": len(runs),
        "commit": commit(),
        "versions": {},
        "figures": figures,
        "clauses": clauses,
        "controls": {name: said for run in runs for name, said in sorted(run.controls.items())},
        "problems": problems,
        "events": [run.events for run in runs if run.events],
    }


def exit_code(outcome: str) -> int:
    """What the command ends with."""
    return {"passed": EXIT_PASSED, "failed": EXIT_FAILED, "error": EXIT_BROKEN}[outcome]


def table(found: Mapping[str, Any]) -> str:
    """The report as lines for a person."""
    lines = [
        f"{found['scenario']}  router {found['router']}  seed {found['seed']}  x{found['repeat']}: {found['outcome']}"
    ]
    for name, entry in found["figures"].items():
        mark = "ok  " if entry["ok"] else "MISS"
        limit = "" if entry["limit"] is None else f"  limit {entry['limit']:g}"
        value = "none" if entry["value"] is None else f"{entry['value']:.3f}"
        spread = f"  p50 {entry['p50']:.3f}  p95 {entry['p95']:.3f}" if "p50" in entry else ""
        lines.append(f"  {mark} {name:<24} {value:>9} {entry['unit']}{limit}{spread}")
    lines += [
        f"  {'ok  ' if not said.startswith('broken') else 'MISS'} clause {name}: {said}"
        for name, said in found["clauses"].items()
    ]
    lines += [f"  control {name}: {said}" for name, said in found["controls"].items()]
    lines += [f"  ERROR {problem}" for problem in found["problems"]]
    return "\n".join(lines)


def commit() -> str:
    """The commit under test, with ``+`` where the tree differs from it."""
    folder = Path(__file__).resolve().parent
    try:
        name = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name + ("+" if changed else "")


def write(found: Mapping[str, Any], path: Path) -> None:
    """Write the report as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")


def _merged(runs: Sequence[Run]) -> dict[str, str]:
    """A clause is held if no repeat broke it and one at least exercised it."""
    merged: dict[str, str] = {}
    for run in runs:
        for name, said in run.clauses.items():
            if said.startswith("broken") or merged.get(name, "not exercised") == "not exercised":
                merged[name] = said if not merged.get(name, "").startswith("broken") else merged[name]
    return dict(sorted(merged.items()))

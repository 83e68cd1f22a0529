"""Figures and their judgement, and the one JSON shape that every measuring command of the project writes."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hil.versions import versions

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


def figure(measure: Measure, repeats: Sequence[Sequence[float]]) -> dict[str, Any]:
    """One figure of the report, from the samples of each repeat. A repeat without a promised sample is a miss."""
    samples = [sample for one in repeats for sample in one]
    info = measure.judge == "info"
    value = _value(measure, samples) if samples else None
    return {
        "value": _rounded(value),
        "unit": measure.unit,
        "limit": None if info else measure.limit,
        "ok": info or (value is not None and all(repeats) and _within(measure, value)),
        "p50": _rounded(nearest_rank(samples, 0.5)) if samples else None,
        "p95": _rounded(nearest_rank(samples, 0.95)) if samples else None,
        "samples": [_rounded(sample) for sample in samples],
    }


def _value(measure: Measure, samples: Sequence[float]) -> float:
    """The one value that the limit judges: of an exact figure, the sample that is farthest off."""
    if measure.judge == "p95":
        return nearest_rank(samples, 0.95)
    if measure.judge == "equal" and measure.limit is not None:
        limit = measure.limit
        return max(samples, key=lambda sample: abs(sample - limit))
    return max(samples)


def _within(measure: Measure, value: float) -> bool:
    if measure.limit is None:
        return False
    return value == measure.limit if measure.judge == "equal" else value <= measure.limit


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def report(scenario: str, router: str, seed: int, measures: Iterable[Measure], runs: Sequence[Run]) -> dict[str, Any]:
    """The report of all repeats. A control that did not bite, or a broken bench, makes it an error."""
    figures = {
        measure.name: figure(measure, [run.samples.get(measure.name, []) for run in runs]) for measure in measures
    }
    clauses = _merged(runs)
    problems = [run.problem for run in runs if run.problem]
    problems += [f"control {name}: {said}" for run in runs for name, said in run.controls.items() if said != "bit"]
    measured = bool(figures) and any(samples for run in runs for samples in run.samples.values())
    if not measured and not problems:
        problems = ["nothing was measured"]
    good = all(entry["ok"] for entry in figures.values()) and not any(_is_broken(said) for said in clauses.values())
    outcome = "error" if problems else "passed" if good else "failed"
    return {
        "format": FORMAT,
        "scenario": scenario,
        "outcome": outcome,
        "ok": outcome == "passed",
        "router": router,
        "seed": seed,
        "repeat": len(runs),
        "commit": commit(),
        "versions": versions(),
        "figures": figures,
        "clauses": clauses,
        "controls": _worst_controls(runs),
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
        spread = f"  p50 {entry['p50']:.3f}  p95 {entry['p95']:.3f}" if entry["samples"] else ""
        lines.append(f"  {mark} {name:<24} {value:>9} {entry['unit']}{limit}{spread}")
    lines += [
        f"  {'MISS' if _is_broken(said) else 'ok  '} clause {name}: {said}" for name, said in found["clauses"].items()
    ]
    lines += [f"  control {name}: {said}" for name, said in found["controls"].items()]
    lines += [f"  ERROR {problem}" for problem in found["problems"]]
    return "\n".join(lines)


def worst(found: Mapping[str, Any]) -> str:
    """What came nearest to its limit, or was farthest beyond it, in a few words: a summary's last column."""
    if found["problems"]:
        return str(found["problems"][0]).strip().splitlines()[-1]
    broken = [f"clause {name} {said}" for name, said in found["clauses"].items() if _is_broken(said)]
    judged = {name: entry for name, entry in found["figures"].items() if entry["limit"] is not None}
    if not judged or (broken and all(entry["ok"] for entry in judged.values())):
        return broken[0] if broken else "no figure with a limit"
    name = max(judged, key=lambda name: _tightness(judged[name]))
    entry = judged[name]
    value = "none" if entry["value"] is None else f"{entry['value']:.3f}"
    return f"{name} {value} of {entry['limit']:g} {entry['unit']}".rstrip()


def _tightness(entry: Mapping[str, Any]) -> tuple[bool, float]:
    """Misses first, then by the share of the limit that is used; counts that are as they should be come last."""
    missed = not entry["ok"]
    if entry["value"] is None:
        return missed, float("inf")
    if not missed and not entry["unit"]:
        return missed, 0.0
    return missed, entry["value"] / entry["limit"] if entry["limit"] else float(missed)


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


def write(found: Mapping[str, Any] | Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write a report, or a list of them, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")


def _is_broken(said: str) -> bool:
    return said.startswith("broken")


def _merged(runs: Sequence[Run]) -> dict[str, str]:
    """A clause is held if no repeat broke it and one at least exercised it."""
    said = _by_name(run.clauses for run in runs)
    return {name: max(answers, key=lambda one: (_is_broken(one), one == "held")) for name, answers in said.items()}


def _worst_controls(runs: Sequence[Run]) -> dict[str, str]:
    """A control bit only if it did in every repeat that has it."""
    said = _by_name(run.controls for run in runs)
    return {name: max(answers, key=lambda one: one != "bit") for name, answers in said.items()}


def _by_name(answers: Iterable[Mapping[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in answers:
        for name, said in one.items():
            found.setdefault(name, []).append(said)
    return dict(sorted(found.items()))

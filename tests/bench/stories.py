"""Scenario files as a user writes them outside the repository."""

from __future__ import annotations

from pathlib import Path

OWN = """
from __future__ import annotations

from dataclasses import dataclass

from hil import events as seen
from hil.report import Measure
from hil.scenario import Scenario


@dataclass
class Moment:
    at_s: float


async def story(bench):
    await bench.start_site()
    cut = Moment(await bench.cut("wan"))
    bench.observe("cause")
    bench.observe("cut", at_s=cut.at_s)
    await bench.sleep(20.0)


def figures(events):
    cut = seen.of(events, "bench", "cut")
    lease = seen.first(seen.leases_taken(events), cut[0]["at_s"]) if cut else None
    if lease is None:
        return {"cuts": [1.0]} if cut else {}
    return {"detection_s": [lease["t"] - cut[0]["at_s"]]}


SCENARIO = Scenario(
    "own-story",
    "what a user wrote",
    story,
    figures,
    (Measure("detection_s", "s", 3.0, "p95"),),
    breakages=("agent-not-started", "lease-swallowed"),
)
"""


def write_own(folder: Path) -> str:
    """The file of a scenario of one's own; returns its path."""
    path = folder / "own.py"
    path.write_text(OWN)
    return str(path)

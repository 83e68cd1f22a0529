"""What a scenario is, where scenarios are found, and how one is run and judged."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import pkgutil
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hil import checks, events, scenarios
from hil.bench import Bench, BenchBroken, CannotRun, Event, Options
from hil.report import Measure, Run, Samples


@dataclass(frozen=True)
class Scenario:
    """One story with its figures.

    ``story`` drives the bench and notes what it does; ``figures`` computes samples from the events alone, so that they
    can be computed again from the file. ``routers``: the versions it is about. ``breakages``: ways of breaking the
    product from outside that must make it fail.
    """

    name: str
    purpose: str
    story: Callable[[Bench], Awaitable[None]]
    figures: Callable[[Sequence[Event]], Samples]
    measures: tuple[Measure, ...]
    routers: tuple[str, ...] = ("6.49", "7.22")
    breakages: tuple[str, ...] = ()
    controls: Callable[[Sequence[Event]], dict[str, str]] = lambda _events: {}


def find(name: str) -> Scenario:
    """A scenario by name, or by the path of a Python file that defines ``SCENARIO``."""
    if name.endswith(".py"):
        return _from_file(Path(name))
    known = every()
    if name not in known:
        raise CannotRun(f"no scenario {name!r}; there are {', '.join(known)}, or the path of a Python file")
    return known[name]


def every() -> dict[str, Scenario]:
    """All scenarios of the project, by name."""
    found = [
        importlib.import_module(f"hil.scenarios.{module.name}").SCENARIO
        for module in pkgutil.iter_modules(scenarios.__path__)
        if not module.name.startswith("_")
    ]
    return {scenario.name: scenario for scenario in sorted(found, key=lambda scenario: scenario.name)}


def _from_file(path: Path) -> Scenario:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.exists():
        raise CannotRun(f"{path}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    scenario = getattr(module, "SCENARIO", None)
    if not isinstance(scenario, Scenario):
        raise CannotRun(f"{path}: expected a hil.scenario.Scenario named SCENARIO")
    return scenario


OpenBench = Callable[[Options, Path], contextlib.AbstractAsyncContextManager[Bench]]


async def repeat(
    scenario: Scenario, options: Options, times: int, jobs: int, folder: Path, bench: OpenBench
) -> list[Run]:
    """Run a scenario several times, ``jobs`` at once, each with a seed and a bench of its own."""
    turn = asyncio.Semaphore(jobs)

    async def one(index: int) -> Run:
        own = replace(options, seed=options.seed * 1000 + index)
        async with turn:
            return await once(scenario, own, folder / f"{scenario.name}-{options.router}-{own.seed}", bench)

    return list(await asyncio.gather(*(one(index) for index in range(times))))


async def once(scenario: Scenario, options: Options, folder: Path, open_bench: OpenBench) -> Run:
    """Run a scenario once. A failing bench becomes a problem of the run, never a figure."""
    problem = ""
    try:
        async with open_bench(options, folder) as bench:
            bench.observe("scenario", name=scenario.name, router=options.router, seed=options.seed)
            try:
                await scenario.story(bench)
            except BenchBroken as error:
                problem = str(error)
    except CannotRun:
        raise
    except Exception:  # noqa: BLE001  (whatever the bench does wrong must not look like a verdict on the product)
        problem = traceback.format_exc(limit=-4)
    path = folder / "events.jsonl"
    if not path.exists():
        return Run({}, {}, options.seed, problem or "no events were written")
    return judged(scenario, events.load(path), options.seed, str(path), problem)


def judged(scenario: Scenario, seen: Sequence[Event], seed: int, path: str, problem: str = "") -> Run:
    """Figures, clauses and controls of one run, from its events alone."""
    return Run(
        samples=scenario.figures(seen),
        clauses=checks.judge(seen),
        seed=seed,
        problem=problem,
        events=path,
        controls={**checks.controls(seen), **scenario.controls(seen)} if not problem else {},
    )

"""What a scenario is, where scenarios are found, and how one is run and judged."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import json
import math
import pkgutil
import re
import shutil
import sys
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
    product from outside that must make it fail; ``name@version`` is for one router only. ``file``: where it was loaded
    from, if not from the project. ``start``: see ``bench.Options``.
    """

    name: str
    purpose: str
    story: Callable[[Bench], Awaitable[None]]
    figures: Callable[[Sequence[Event]], Samples]
    measures: tuple[Measure, ...]
    routers: tuple[str, ...] = ("6.49", "7.22")
    breakages: tuple[str, ...] = ()
    controls: Callable[[Sequence[Event]], dict[str, str]] = lambda _events: {}
    start: str = "as-now"
    file: str = ""

    def __post_init__(self) -> None:
        """Its name becomes part of a folder's."""
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.name):
            raise ValueError(f"a scenario's name is small letters, digits and single hyphens, not {self.name!r}")

    def breakages_with(self, router: str) -> list[str]:
        """The names of the breakages that must make it fail with this router."""
        parted = [breakage.partition("@") for breakage in self.breakages if router in self.routers]
        return [name for name, _, only in parted if only in ("", router)]


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
    spec = importlib.util.spec_from_file_location(f"hil_scenario_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise CannotRun(f"{path}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise CannotRun(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    scenario = getattr(module, "SCENARIO", None)
    if not isinstance(scenario, Scenario):
        raise CannotRun(f"{path}: expected a hil.scenario.Scenario named SCENARIO")
    return replace(scenario, file=str(path.resolve()))


OpenBench = Callable[[Options, Path], contextlib.AbstractAsyncContextManager[Bench]]


async def repeat(
    scenario: Scenario, options: Options, times: int, turn: asyncio.Semaphore, folder: Path, bench: OpenBench
) -> list[Run]:
    """Run a scenario several times, each with a seed and a bench of its own, as many at once as ``turn`` allows."""

    async def one(index: int) -> Run:
        own = replace(options, seed=options.seed * 1000 + index)
        async with turn:
            return await once(scenario, own, folder / f"{scenario.name}-{options.router}-{own.seed}", bench)

    return list(await asyncio.gather(*(one(index) for index in range(times))))


async def once(scenario: Scenario, options: Options, folder: Path, open_bench: OpenBench) -> Run:
    """Run a scenario once. A failing bench becomes a problem of the run, never a figure."""
    options = replace(options, start=scenario.start)
    shutil.rmtree(folder, ignore_errors=True)  # benches append to their logs: those of an earlier run are not ours
    problem = await _played(scenario, options, folder, open_bench)
    path = folder / "events.jsonl"
    if not path.exists():
        return Run({}, {}, options.seed, problem or "no events were written")
    if problem:
        _note(path, problem)
    try:
        return judged(scenario, events.load(path), options.seed, str(path))
    except ValueError as error:
        return Run({}, {}, options.seed, "\n".join(filter(None, (problem, str(error)))), str(path))


async def _played(scenario: Scenario, options: Options, folder: Path, open_bench: OpenBench) -> str:
    """Play the story; what went wrong with the bench, or nothing."""
    problems = []
    try:
        async with open_bench(options, folder) as bench:
            note = {"name": scenario.name, "router": options.router, "seed": options.seed, "file": scenario.file}
            bench.observe("scenario", **note)
            try:
                await scenario.story(bench)
                bench.observe("story ended")
            except CannotRun:
                raise
            except Exception as error:  # noqa: BLE001  (kept, whatever else goes wrong when the bench is cleared)
                problems.append(_told(error))
    except CannotRun:
        raise
    except Exception as error:  # noqa: BLE001  (whatever the bench does wrong must not look like a verdict)
        problems.append(_told(error))
    return "\n".join(problems)


def _told(error: Exception) -> str:
    if isinstance(error, BenchBroken):
        return str(error) or "the bench is broken and does not say how"
    return "".join(traceback.format_exception(error, limit=-4))


def _note(path: Path, problem: str) -> None:
    """Keep the problem with the events, so that nobody computes a verdict from them later."""
    with path.open("a") as target:
        target.write(json.dumps({"t": 0.0, "source": "bench", "event": "problem", "text": problem}) + "\n")


def judged(scenario: Scenario, seen: Sequence[Event], seed: int, path: str) -> Run:
    """Figures, clauses and controls of one run, from its events alone."""
    problems = [str(event["text"]) for event in events.of(seen, "bench", "problem")]
    if not problems and not events.of(seen, "bench", "story ended"):
        problems = ["the story did not end: its controls may be missing"]
    run = Run({}, {}, seed, "\n".join(problems), path)
    try:
        run.samples = scenario.figures(seen)
        run.clauses = checks.judge(seen)
        run.controls = {} if problems else {**checks.controls(seen), **scenario.controls(seen)}
        _check_finite(run.samples)
    except Exception as error:  # noqa: BLE001  (events that cannot be judged are no verdict on the product)
        run.problem = "\n".join([*problems, _told(error)])
    return run


def _check_finite(samples: Samples) -> None:
    odd = [name for name, values in samples.items() if not all(math.isfinite(value) for value in values)]
    if odd:
        raise BenchBroken(f"no numbers: {', '.join(odd)}")

"""``python -m hil``: list, run, figures, bite, router."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from hil import events, scenario
from hil.bench import CannotRun, Options
from hil.report import EXIT_BROKEN, EXIT_CANNOT, EXIT_FAILED, EXIT_PASSED, exit_code, report, table, write
from hil.virtual.bench import open_bench

JOBS = 5
ROUTERS, PROFILES = ("6.49", "7.22"), ("rb2011", "hap-ac2", "generic")


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code says how it ended (0 passed, 1 missed, 2 cannot run here, 3 bench broken)."""
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["router"]:
        from hil.virtual.routeros.main import main as router

        return router(words[1:])
    arguments = _parser().parse_args(words)
    try:
        code: int = arguments.command(arguments)
    except CannotRun as error:
        print(f"cannot run: {error}", file=sys.stderr)
        return EXIT_CANNOT
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hil", description="The bench: stories on real routing and real phones.")
    commands = parser.add_subparsers(required=True)
    commands.add_parser("list", help="the scenarios").set_defaults(command=_list)
    run = commands.add_parser("run", help="run one scenario and judge it")
    run.add_argument("scenario", help="a name from `list`, or the path of a Python file that defines SCENARIO")
    run.set_defaults(command=_run)
    bite = commands.add_parser("bite", help="break the product from outside; each scenario must then fail")
    bite.add_argument("scenario", nargs="?", help="only this one")
    bite.set_defaults(command=_bite)
    for one in (run, bite):
        one.add_argument("--router", choices=ROUTERS, default="7.22")
        one.add_argument("--profile", choices=PROFILES, default="rb2011")
        one.add_argument("--repeat", type=int, default=1, metavar="N")
        one.add_argument("--jobs", type=int, default=JOBS, metavar="N", help="repeats at once (%(default)s)")
        one.add_argument("--seed", type=int, default=1)
        one.add_argument("--long", action="store_true", help="the long form, where a scenario has one")
        one.add_argument("--json", type=Path, metavar="FILE", help="write the report; event files go beside it")
    figures = commands.add_parser("figures", help="compute the figures again from event files")
    figures.add_argument("events", type=Path, nargs="+")
    figures.set_defaults(command=_figures)
    commands.add_parser("router", help="serve a virtual RouterOS alone (see `router --help`)")
    return parser


def _list(_arguments: argparse.Namespace) -> int:
    for name, found in scenario.every().items():
        print(f"{name:<22} {found.purpose}  [{', '.join(found.routers)}]")
    return EXIT_PASSED


def _options(arguments: argparse.Namespace, breakage: str = "") -> Options:
    return Options(arguments.router, arguments.profile, arguments.seed, arguments.long, breakage)


def _run(arguments: argparse.Namespace) -> int:
    found = scenario.find(arguments.scenario)
    if arguments.router not in found.routers:
        raise CannotRun(f"{found.name} is about RouterOS {', '.join(found.routers)}; give --router")
    folder = _folder(arguments)
    runs = asyncio.run(
        scenario.repeat(found, _options(arguments), arguments.repeat, arguments.jobs, folder, open_bench)
    )
    said = report(found.name, arguments.router, arguments.seed, found.measures, runs)
    print(table(said), flush=True)
    if arguments.json:
        write(said, arguments.json)
    return exit_code(said["outcome"])


def _bite(arguments: argparse.Namespace) -> int:
    """Each breakage of each scenario must make it fail; a broken product that passes is what this finds."""
    chosen = [scenario.find(arguments.scenario)] if arguments.scenario else list(scenario.every().values())
    pairs = [(one, breakage) for one in chosen if arguments.router in one.routers for breakage in one.breakages]
    folder = _folder(arguments)

    async def work() -> list[str]:
        turn = asyncio.Semaphore(arguments.jobs)

        async def one(found: scenario.Scenario, breakage: str) -> str:
            async with turn:
                options = _options(arguments, breakage)
                run = await scenario.once(found, options, folder / f"{found.name}-{breakage}", open_bench)
            return str(report(found.name, arguments.router, arguments.seed, found.measures, [run])["outcome"])

        return await asyncio.gather(*(one(*pair) for pair in pairs))

    outcomes = asyncio.run(work())
    for (found, breakage), outcome in zip(pairs, outcomes, strict=True):
        print(f"{'bites ' if outcome == 'failed' else 'BLUNT '} {found.name} with {breakage}: {outcome}", flush=True)
    if "error" in outcomes:
        return EXIT_BROKEN
    return EXIT_PASSED if pairs and all(outcome == "failed" for outcome in outcomes) else EXIT_FAILED


def _figures(arguments: argparse.Namespace) -> int:
    runs = []
    named = None
    for path in arguments.events:
        seen = events.load(path)
        named = events.of(seen, "bench", "scenario")[-1]
        found = scenario.find(named["name"])
        runs.append(scenario.judged(found, seen, named["seed"], str(path)))
    assert named is not None
    said = report(named["name"], named["router"], named["seed"], found.measures, runs)
    print(json.dumps(said, indent=1))
    return exit_code(said["outcome"])


def _folder(arguments: argparse.Namespace) -> Path:
    """Where event files and logs go: beside the report, else into a temporary folder that is kept."""
    if arguments.json:
        folder: Path = arguments.json.parent / f"{arguments.json.stem}.events"
        return folder
    return Path(tempfile.mkdtemp(prefix="edgeagent-hil-"))


if __name__ == "__main__":
    sys.exit(main())

"""``python -m hil``: demo, list, run, bench, figures, bite, router."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hil import events, scenario
from hil.bench import CannotRun, Event, Options
from hil.report import EXIT_BROKEN, EXIT_CANNOT, EXIT_FAILED, EXIT_PASSED, exit_code, report, table, worst, write
from hil.scenario import Scenario
from hil.virtual.bench import open_bench

JOBS, BENCH_JOBS = 5, 4
ROUTERS, PROFILES = ("6.49", "7.22"), ("rb2011", "hap-ac2", "generic")
BITES, BLUNT, ERROR = "bites", "BLUNT", "ERROR"
CLEARING_S = 8.0
T = TypeVar("T")


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code says how it ended (0 passed, 1 missed, 2 cannot run here, 3 bench broken)."""
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["router"]:
        from hil.virtual.routeros.main import main as router

        return router(words[1:])
    arguments = _parser().parse_args(words)
    code: int = EXIT_BROKEN
    try:
        code = arguments.command(arguments)
    except CannotRun as error:
        print(f"cannot run: {error}", file=sys.stderr)
        return EXIT_CANNOT
    except Exception:  # noqa: BLE001  (Python would end with 1, and that means that the product missed)
        traceback.print_exc()
        return EXIT_BROKEN
    finally:
        _clear(arguments.temporary, code)
    return code


def _clear(temporary: Path | None, code: int) -> None:
    """Remove the event files and logs that nobody asked for, unless there is something to look up in them."""
    if temporary is None:
        return
    if code == EXIT_PASSED or not any(path.is_file() for path in temporary.rglob("*")):
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        print(f"event files and logs: {temporary}", file=sys.stderr)


def _finished(work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``. SIGTERM cancels it as Ctrl-C does: its benches are cleared away before this ends."""

    async def guarded() -> T:
        loop, this = asyncio.get_running_loop(), asyncio.current_task()
        assert this is not None
        # Once: a second signal must not interrupt the clearing away.
        loop.add_signal_handler(signal.SIGTERM, lambda: this.cancelling() or this.cancel())
        try:
            return await work
        except asyncio.CancelledError:
            # Of several benches at once, only the first was waited for.
            others = asyncio.all_tasks() - {this}
            with contextlib.suppress(asyncio.CancelledError):
                if others:
                    await asyncio.wait(others, timeout=CLEARING_S)
            raise

    try:
        return asyncio.run(guarded())
    except asyncio.CancelledError:
        raise SystemExit(128 + signal.SIGTERM) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hil", description="The bench: stories on real routing and real phones.")
    parser.set_defaults(temporary=None)
    commands = parser.add_subparsers(required=True)
    demo = commands.add_parser("demo", help="the agent in a minute, without root: a line dies and returns")
    demo.add_argument("--keep", action="store_true", help="keep the folder with site.toml, logs and events")
    demo.add_argument("--refuse-mail", action="store_true", help="a control: the mail server refuses all; fails then")
    demo.add_argument("--router", choices=ROUTERS, default="7.22")
    demo.set_defaults(command=_demo)
    commands.add_parser("list", help="the scenarios").set_defaults(command=_list)
    run = commands.add_parser("run", help="run one scenario and judge it")
    run.add_argument("scenario", help="a name from `list`, or the path of a Python file that defines SCENARIO")
    run.set_defaults(command=_run)
    bite = commands.add_parser("bite", help="break the product from outside; each scenario must then fail")
    bite.add_argument("scenario", nargs="?", help="only this one")
    bite.set_defaults(command=_bite)
    bench = commands.add_parser("bench", help="run the long form of every scenario for every router it is about")
    bench.set_defaults(command=_bench, long=True)
    for one in (run, bite):
        one.add_argument("--router", choices=ROUTERS, default="7.22")
        one.add_argument("--long", action="store_true", help="the long form, where a scenario has one")
    for one in (run, bench):
        one.add_argument("--repeat", type=_count, default=1, metavar="N")
    for one in (run, bite, bench):
        jobs = BENCH_JOBS if one is bench else JOBS
        one.add_argument("--profile", choices=PROFILES, default="rb2011")
        one.add_argument("--jobs", type=_count, default=jobs, metavar="N", help="benches at once (%(default)s)")
        one.add_argument("--seed", type=int, default=1)
        one.add_argument("--json", type=Path, metavar="FILE", help="write the report; event files go beside it")
    figures = commands.add_parser("figures", help="compute the figures again from event files")
    figures.add_argument("events", type=Path, nargs="+")
    figures.add_argument("--scenario", help="a name or file, if the one that the events name is elsewhere now")
    figures.set_defaults(command=_figures)
    commands.add_parser("router", help="serve a virtual RouterOS alone (see `router --help`)")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _demo(arguments: argparse.Namespace) -> int:
    from hil.demo.story import play

    try:
        good = _finished(play(arguments.router, keep=arguments.keep, refuse_mail=arguments.refuse_mail))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return EXIT_PASSED if good else EXIT_FAILED


def _list(_arguments: argparse.Namespace) -> int:
    for name, found in scenario.every().items():
        print(f"{name:<22} {found.purpose}  [{', '.join(found.routers)}]")
    return EXIT_PASSED


def _options(arguments: argparse.Namespace, router: str, breakage: str = "") -> Options:
    return Options(router, arguments.profile, arguments.seed, arguments.long, breakage)


def _run(arguments: argparse.Namespace) -> int:
    found = scenario.find(arguments.scenario)
    if arguments.router not in found.routers:
        raise CannotRun(f"{found.name} is about RouterOS {', '.join(found.routers)}; give --router")
    turn, folder = asyncio.Semaphore(arguments.jobs), _folder(arguments)
    said = _finished(_measured(found, arguments.router, arguments, turn, folder))
    print(table(said), flush=True)
    if arguments.json:
        write(said, arguments.json)
    return exit_code(said["outcome"])


async def _measured(
    found: Scenario, router: str, arguments: argparse.Namespace, turn: asyncio.Semaphore, folder: Path
) -> dict[str, Any]:
    """The report of all repeats of one scenario with one router."""
    runs = await scenario.repeat(found, _options(arguments, router), arguments.repeat, turn, folder, open_bench)
    # In a thread: it asks programs for their versions, and other benches of this process go on meanwhile.
    return await asyncio.to_thread(report, found.name, router, arguments.seed, found.measures, runs)


def _bench(arguments: argparse.Namespace) -> int:
    """Everything once or more; a scenario that cannot run here does not keep the others from it."""
    pairs = [(found, router) for found in scenario.every().values() for router in found.routers]
    turn, folder = asyncio.Semaphore(arguments.jobs), _folder(arguments)

    async def one(found: Scenario, router: str) -> dict[str, Any] | CannotRun:
        try:
            said = await _measured(found, router, arguments, turn, folder)
        except CannotRun as error:
            return error
        print(table(said), end="\n\n", flush=True)
        return said

    async def work() -> list[dict[str, Any] | CannotRun]:
        return await asyncio.gather(*(one(*pair) for pair in pairs))

    results = _finished(work())
    print(_summary(pairs, results), flush=True)
    if arguments.json:
        write([said for said in results if not isinstance(said, CannotRun)], arguments.json)
    return max(EXIT_CANNOT if isinstance(said, CannotRun) else exit_code(said["outcome"]) for said in results)


def _summary(pairs: Sequence[tuple[Scenario, str]], results: Sequence[dict[str, Any] | CannotRun]) -> str:
    """One line for each scenario and router."""
    lines = []
    for (found, router), said in zip(pairs, results, strict=True):
        outcome, why = ("cannot run", str(said)) if isinstance(said, CannotRun) else (said["outcome"], worst(said))
        lines.append(f"{found.name:<22} {router:<5} {outcome:<10} {why}")
    return "\n".join(lines)


def _bite(arguments: argparse.Namespace) -> int:
    """Each breakage of each scenario must make it fail; a broken product that passes is what this finds."""
    chosen = [scenario.find(arguments.scenario)] if arguments.scenario else list(scenario.every().values())
    pairs = [(one, breakage) for one in chosen for breakage in one.breakages_with(arguments.router)]
    if not pairs:
        raise CannotRun(f"nothing of {arguments.scenario or 'all this'} can be broken with RouterOS {arguments.router}")
    turn, folder = asyncio.Semaphore(arguments.jobs), _folder(arguments)

    async def one(found: Scenario, breakage: str) -> dict[str, Any]:
        async with turn:
            options = _options(arguments, arguments.router, breakage)
            run = await scenario.once(found, options, folder / f"{found.name}-{breakage}", open_bench)
        return await asyncio.to_thread(report, found.name, options.router, options.seed, found.measures, [run])

    async def work() -> list[dict[str, Any]]:
        return await asyncio.gather(*(one(*pair) for pair in pairs))

    reports = _finished(work())
    verdicts = [_bitten(said) for said in reports]
    for (found, breakage), said, verdict in zip(pairs, reports, verdicts, strict=True):
        print(f"{verdict} {found.name} with {breakage}: {said['outcome']}, {worst(said)}", flush=True)
    if arguments.json:
        write([{**said, "breakage": pair[1]} for pair, said in zip(pairs, reports, strict=True)], arguments.json)
    return EXIT_BROKEN if ERROR in verdicts else EXIT_FAILED if BLUNT in verdicts else EXIT_PASSED


def _bitten(said: Mapping[str, Any]) -> str:
    """What a run of a broken product proves. That it did not leave a line that really died is noticing it, too."""
    asleep = {name: f"control {name}: {said['controls'].get(name)}" for name in ("P5", "voice on lte")}
    dead = asleep["P5"] in said["problems"] and set(said["problems"]) <= set(asleep.values())
    if said["outcome"] == "failed" or (said["outcome"] == "error" and dead):
        return BITES
    return BLUNT if said["outcome"] == "passed" else ERROR


def _figures(arguments: argparse.Namespace) -> int:
    logs = [(path, _loaded(path)) for path in arguments.events]
    named = [_named(path, seen) for path, seen in logs]
    if len({(one["name"], one["router"]) for one in named}) > 1:
        raise CannotRun("these event files are of different scenarios or routers; give those of one at a time")
    found = scenario.find(arguments.scenario or named[0].get("file") or named[0]["name"])
    runs = [scenario.judged(found, seen, one["seed"], str(path)) for (path, seen), one in zip(logs, named, strict=True)]
    said = report(found.name, named[0]["router"], named[0]["seed"], found.measures, runs)
    print(json.dumps(said, indent=1))
    return exit_code(said["outcome"])


def _loaded(path: Path) -> list[Event]:
    try:
        return events.load(path)
    except (OSError, ValueError) as error:
        raise CannotRun(str(error)) from error


def _named(path: Path, seen: Sequence[Event]) -> Event:
    """What a run noted about itself at its beginning."""
    found = events.of(seen, "bench", "scenario")
    if len(found) != 1 or not {"name", "router", "seed"} <= found[0].keys():
        raise CannotRun(f"{path}: not the events.jsonl of one run; it names {len(found)} scenarios")
    return found[0]


def _folder(arguments: argparse.Namespace) -> Path:
    """Where event files and logs go: beside the report, else into a temporary folder (see :func:`_clear`)."""
    if arguments.json:
        report_path: Path = arguments.json.resolve()  # programs of a bench have working folders of their own
        return report_path.with_name(f"{report_path.stem}.events")
    folder = Path(tempfile.mkdtemp(prefix="edgeagent-hil-"))
    arguments.temporary = folder
    return folder


if __name__ == "__main__":
    sys.exit(main())

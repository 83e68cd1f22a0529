"""Mutated API replies, over a real socket into the code that the agent runs: no crash, stall, growth (clause X3).

``python -m tests.fuzz.replies --cases N --seed S [--first N]``; ``--case N`` runs that one alone. A case is one
conversation of one part of the agent with a router, one of whose replies is mutated: a login, single commands, the
actuator, the poller, the listener, the router's pings. Whatever survives the wire goes on into the core, its journal
and the status. All parts live through the whole run, as they do at a site; only the time is the fuzzer's.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import logging
import os
import random
import signal
import socket
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, cast

import msgspec

from edgeagent.config.site import Site
from edgeagent.core.facts import Instant, Lease
from edgeagent.core.intents import MoveFlows, Probing
from edgeagent.daemon import postman
from edgeagent.daemon.actuator import Actuator
from edgeagent.daemon.loop import Loop
from edgeagent.daemon.pollers import PingedPath, Rounds, RouterPoller
from edgeagent.routeros import sentences
from edgeagent.routeros.errors import RouterError, RouterTrap
from edgeagent.routeros.session import (
    Listener,
    Session,
    Streams,
    _closing_on_error,
    _deadline,
    _encoded,
    _log_in,
    _Wire,
)
from edgeagent.store.store import Store
from tests.agent.support import site_at
from tests.fuzz.router import Peer

CPU_LIMIT_S = 1.0  # of a whole case: then no turn of the event loop held the others up for longer either
DEADLINE_S = 0.03  # of each command, where a router falls silent
HOLD_SHARE = 0.02
TURNS_MAX = 80  # of two deadlines each, far beyond any sum of them: what is not over by then never ends
GROWTH_MAX_KIB = 8 * 1024
WARM_CASES = 2000
LOOK_EVERY = 100
LINE_MAX = 2000  # of the log, in characters
_libc = ctypes.CDLL(None)
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
LOGIN = _encoded(["/login", "=name=edgeagent", "=password=secret"])
LISTEN = _encoded(["/interface/listen", "=.proplist=.id,name,running"])
LISTS = ("edge-alive", "edge-wan-site", "edge-wan-phone", "edge-lte-site", "edge-lte-phone")
MARKS = ("edge-wan", "edge-lte", "edge-lte-media")
ALIVE, SITE_AWAY = Lease("edge-alive", "0.0.0.0/0"), Lease("edge-lte-site", "0.0.0.0/0")
PHONE_AWAY = Lease("edge-lte-phone", "192.168.88.11")
WISHES = (
    frozenset({ALIVE}),
    frozenset({ALIVE, SITE_AWAY}),
    frozenset({ALIVE, PHONE_AWAY}),
    frozenset({ALIVE, SITE_AWAY, PHONE_AWAY}),
)
MOVES = (MoveFlows("lte", pinned=True), MoveFlows("primary", sources=frozenset({"192.168.88.12"})))


class BrokenRule(Exception):
    """What must never happen."""


class TooSlow(BaseException):
    """No ``except Exception`` may catch it."""


class Disk:
    """Takes everything at once, and holds nothing."""

    aside = None

    async def load_snapshot(self) -> None:
        return None

    async def journal_tail(self, _count: int) -> list[Any]:
        return []

    async def commit(self, *_records: Any, **_more: Any) -> None:
        return None

    async def prune(self, _older: float | None) -> int:
        return 0


class NoRounds:
    """Rounds that nobody sends."""

    def order(self, plan: Probing) -> None:
        return None

    def next_round_s(self) -> float:
        return 0.0

    def close(self) -> None:
        return None


class Agent:
    """What a router's words reach in the agent, joined as daemon/wiring.py joins it, on a connection without TLS."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.at_s = 1000.0
        self.deadline_s = DEADLINE_S
        self.near: socket.socket | None = None
        self.wire: _Wire | None = None
        self.opened: Session | None = None
        media, paths = frozenset({MARKS[2]}), site.paths
        tools = (paths, LISTS, MARKS, media, site.id, self.tell, self.now)
        self.actuator, unused = Actuator(self.session, *tools), Actuator(self.session, *tools)
        self.router = RouterPoller(self.session, paths, MARKS, media, self.tell, self.now, table_s=DEADLINE_S)
        rounds: dict[str, Rounds] = {path.name: NoRounds() for path in paths}
        store, outgoing = cast(Store, Disk()), partial(postman.outgoing, site)
        self.loop = Loop(site.settings(), store, unused, self.router, rounds, outgoing, self.instant)
        self.core = asyncio.create_task(self.loop.run())

    def now(self) -> float:
        return self.at_s

    def instant(self) -> Instant:
        return Instant(self.at_s, "a boot of the fuzzer", None, "unknown")

    def tell(self, fact: Any) -> None:
        self.loop.tell(fact)

    async def connected(self) -> _Wire:
        """As session._open, less the TLS."""
        assert self.near is not None
        reader, writer = await asyncio.open_connection(sock=self.near)
        self.wire = wire = _Wire(reader, writer, "of the fuzzer")
        async with _deadline(self.deadline_s, "no login"):
            with _closing_on_error(wire):
                await _log_in(wire, "edgeagent", LOGIN)
        return wire

    async def session(self) -> Session:
        self.opened = Session(await self.connected(), self.deadline_s)
        return self.opened

    def watches(self) -> bool:
        """A router of an unknown version is asked nothing after the greeting, so its end is not noticed."""
        return self.actuator.watching and self.opened is not None and not self.opened._turn.locked()

    def check(self) -> None:
        """The core lives, and what it knows can be told and kept."""
        if self.core.done():
            raise BrokenRule(f"the core ended: {_said(self.core.exception())}")
        msgspec.json.encode(self.loop.document())

    async def close(self) -> None:
        self.core.cancel()
        await asyncio.wait({self.core})


# --- the parts of the agent, each with what gives it a reason to speak again ------------------------------------------

Part = tuple[Coroutine[Any, Any, None], Callable[[], None]]
Work = Callable[["Agent", random.Random], Part]


def login(agent: Agent, _rng: random.Random) -> Part:
    async def work() -> None:
        await (await agent.session()).close()

    return work(), lambda: None


def commands(agent: Agent, rng: random.Random) -> Part:
    every: list[Callable[[Session], Awaitable[Any]]] = [
        lambda session: session.print("/ip/route", (".id", "dst-address", "gateway", "comment")),
        lambda session: session.print("/ip/firewall/mangle", (".id", "chain", "comment"), ("?dynamic=false",)),
        lambda session: session.print("/user/group", ("name", "policy")),
        lambda session: session.add("/ip/route", {"dst-address": "192.0.2.0/24", "gateway": "ether1"}),
        lambda session: session.set("/ip/route", "*80000001", {"distance": "2"}),
        lambda session: session.remove("/ip/route", "*80000001"),
        lambda session: session.send("/system/script/run"),
    ]

    async def work() -> None:
        session = await agent.session()
        try:
            for command in rng.choices(every, k=3):
                try:
                    await command(session)
                except RouterTrap as trap:
                    assert not session.closed, trap
        finally:
            await session.close()

    return work(), lambda: None


def actuator(agent: Agent, rng: random.Random) -> Part:
    def stir() -> None:
        agent.at_s += 25.0
        agent.actuator.order(rng.choice(WISHES))
        agent.actuator.move(rng.choice(((), MOVES[:1], MOVES)))
        agent.actuator.wake.set()

    stir()
    return agent.actuator.run(), stir


def poller(agent: Agent, _rng: random.Random) -> Part:
    def stir() -> None:
        agent.at_s += 20.0
        agent.router.changed.set()

    return agent.router.run(), stir


def listener(agent: Agent, _rng: random.Random) -> Part:
    opened: list[Listener] = []

    async def work() -> None:
        wire = await agent.connected()
        await wire.write(LISTEN)
        opened.append(Listener(wire, "/interface/listen"))
        try:
            async for row in opened[0]:
                agent.router.link_seen(row, agent.at_s)
        finally:
            await opened[0].close()

    def stir() -> None:
        """A silent router is none that hangs: the stream ends when we end it."""
        closing.extend(asyncio.ensure_future(one.close()) for one in opened)

    closing: list[asyncio.Future[None]] = []
    return work(), stir


def pings(agent: Agent, rng: random.Random) -> Part:
    async def work() -> None:
        session = await agent.session()
        paths = [PingedPath(path, agent.tell, agent.now) for path in agent.site.paths]
        try:
            rows = await session.print("/system/resource", ("version",))
            command = sentences.ping_command(rows[0].get("version", "") if rows else "")
            streams = Streams(session)
            for path in paths:
                path.pinger.attach(streams, command)
                path.order(Probing(path.path.name, rng.choice((1.0, 60.0)), 0))
            await streams.run(agent.deadline_s)
        finally:
            for path in paths:
                path.pinger.detach()
                path.close()
            await session.close()

    def stir() -> None:
        agent.at_s += 1.0

    return work(), stir


# A part, how often it is chosen, and how often each of a conversation's replies: those with many values more often.
PARTS: tuple[tuple[Work, int, tuple[int, ...]], ...] = (
    (login, 5, (1,)),
    (commands, 15, (1, 5, 5, 5)),
    (actuator, 30, (1, 2, 4, 8, 4, 4, 4, 4)),
    (poller, 30, (1, 4, 3, 3, 10, 1, 1, 1, 6)),
    (listener, 8, (1, 9)),
    (pings, 12, (1, 2, 9)),
)


# --- the judge --------------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """How the cases ended, by the kind of error (``good``: none), and those that broke a rule."""

    ends: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)
    grown_kib: int = 0


class Judge(logging.Handler):
    """Runs cases. Everything that is logged, or that asyncio complains of, comes here."""

    def __init__(self, site: Site, seed: int) -> None:
        super().__init__()
        self.site = site
        self.seed = seed
        self.complaints: list[str] = []
        self.agent: Agent | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """A traceback has no place in the agent's log, nor has what a router said at full length."""
        text = record.getMessage()
        if record.exc_info or record.name == "asyncio":
            error = record.exc_info[1] if record.exc_info else None
            self.complaints.append(f"logged: {text[:200]} {_said(error)}")
        elif len(text) > LINE_MAX:
            self.complaints.append(f"a line of {len(text)} characters in the log: {text[:100]}")

    def complain(self, _loop: Any, context: dict[str, Any]) -> None:
        """What nobody awaited."""
        self.complaints.append(f"asyncio: {context['message']} {_said(context.get('exception'))}")

    async def case(self, number: int) -> str:
        """How the case ended; raises BrokenRule."""
        rng = random.Random(f"{self.seed}/{number}")
        part, _, replies = rng.choices(PARTS, [one[1] for one in PARTS])[0]
        if self.agent is None:
            self.agent = Agent(self.site)
        self.agent.near, far = socket.socketpair()
        with far:
            at = rng.choices(range(len(replies)), replies)[0]
            peer = Peer(far, rng, at, rest=rng.random() < 0.1, hold=rng.random() < HOLD_SHARE)
            error = await conversation(part, self.agent, peer, rng)
        self._judge(part.__name__, self.agent, error, peer)
        return type(error).__name__ if error else "good"

    def _judge(self, name: str, agent: Agent, error: BaseException | None, peer: Peer) -> None:
        if isinstance(error, TooSlow):
            raise error
        if error is not None and not isinstance(error, RouterError):
            raise BrokenRule(f"{name}: {_said(error)}")
        agent.check()
        if self.complaints:
            raise BrokenRule(f"{name}: {self.complaints[0]}")
        if peer.strange:
            raise BrokenRule(f"{name}: {peer.strange}")
        if agent.wire is None or not agent.wire._writer.transport.is_closing():
            raise BrokenRule(f"{name}: the connection was left open")
        expected = {asyncio.current_task(), agent.core, *agent.loop.saving, *agent.loop.pruning, agent.loop.loading}
        if left := asyncio.all_tasks() - expected:
            raise BrokenRule(f"{name}: left running: {left}"[:300])

    async def limited(self, number: int) -> str:
        """The case within its processor time, so that a busy machine makes no difference."""
        signal.setitimer(signal.ITIMER_VIRTUAL, CPU_LIMIT_S)
        try:
            return await self.case(number)
        except TooSlow:
            raise BrokenRule("it held up everything else") from None
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)

    async def forget(self) -> None:
        """After a broken rule: a fresh agent."""
        agent, self.agent = self.agent, None
        self.complaints.clear()
        if agent is not None:
            if agent.wire is not None:
                agent.wire.abort()
            await agent.close()
            await asyncio.sleep(0)
            self.complaints.clear()

    async def run(self, cases: int, first: int, warm: int, enough: int) -> Outcome:
        """``warm``: what is larger than it ever was in so many cases has grown; ``enough`` broken rules end the run."""
        asyncio.get_running_loop().set_exception_handler(self.complain)
        found, base_kib, base_files = Outcome(), 0, 0
        for number in range(first, first + cases):
            try:
                found.ends[await self.limited(number)] += 1
                if number - first <= warm and (number - first) % min(warm, LOOK_EVERY) == 0:
                    base_kib, base_files = max(base_kib, resident_kib()), _files()
                elif number - first > warm and number % LOOK_EVERY == 0:
                    found.grown_kib = max(found.grown_kib, resident_kib() - base_kib)
                    _no_more(found.grown_kib, _files() - base_files)
            except BrokenRule as broken:
                found.failures.append((number, str(broken)))
                await self.forget()
            if len(found.failures) >= enough or found.grown_kib > GROWTH_MAX_KIB:
                break
        await self.forget()
        return found


async def conversation(part: Work, agent: Agent, peer: Peer, rng: random.Random) -> BaseException | None:
    """One part of the agent and the router's end; what the part ended with. Raises BrokenRule where it never ends."""
    agent.wire = agent.opened = None
    work, peer.stir = part(agent, rng)
    task = asyncio.create_task(work)
    await peer.serve(task)
    if part is actuator and agent.watches():
        task.cancel()
    if not await _over(task, peer.stir):
        task.cancel()
        raise BrokenRule(f"{part.__name__}: not over within {TURNS_MAX} times its deadline")
    for _ in range(4):  # what it told is taken in, what it closed is closed
        await asyncio.sleep(0)
    return None if task.cancelled() else task.exception()


async def _over(task: asyncio.Task[None], stir: Callable[[], None]) -> bool:
    """Whether it ends in time. One that only waits for its next reason to speak is given it."""
    for _ in range(TURNS_MAX):  # counted, not timed: a busy machine takes the turns from all alike
        done, _ = await asyncio.wait({task}, timeout=2 * DEADLINE_S)
        if done:
            return True
        stir()
    return False


def _said(error: BaseException | None) -> str:
    """An error and where it came from, in one line."""
    if error is None:
        return ""
    frames = traceback.extract_tb(error.__traceback__)[-2:]
    where = ", ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
    return f"{type(error).__name__}: {str(error)[:200]} ({where})"


def _no_more(grown_kib: int, more_files: int) -> None:
    if grown_kib > GROWTH_MAX_KIB:
        raise BrokenRule(f"{grown_kib} KiB larger than it ever was while it got warm")
    if more_files > 0:
        raise BrokenRule(f"{more_files} more files are open")


def resident_kib() -> int:
    """Memory in use. What is only kept for reuse goes back first: most of it is of the fuzzer's own largest replies."""
    gc.collect()
    _libc.malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_KIB


def _files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextmanager
def _watched(judge: Judge) -> Iterator[None]:
    """Log and processor time go to the judge alone; a test runner's own handlers would keep all that is logged."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise TooSlow

    former = signal.signal(signal.SIGVTALRM, stop)
    loggers = [(logging.getLogger(name), level) for name, level in (("edgeagent", "INFO"), ("asyncio", "WARNING"))]
    before = [(one, one.propagate, one.level) for one, _ in loggers]
    for one, level in loggers:
        one.addHandler(judge)
        one.propagate = False
        one.setLevel(level)
    try:
        yield
    finally:
        for one, propagate, number in before:
            one.removeHandler(judge)
            one.propagate = propagate
            one.setLevel(number)
        signal.signal(signal.SIGVTALRM, former)


def run(cases: int, seed: int, folder: Path, first: int = 0, *, warm: int = WARM_CASES, enough: int = 20) -> Outcome:
    """So many cases of one seed, from number ``first`` on; files of the site are in ``folder``."""
    judge = Judge(site_at(folder), seed)
    with _watched(judge):
        return asyncio.run(judge.run(cases, first, warm, enough))


def reproduced(seed: int, number: int, folder: Path) -> str:
    """The command that shows a failure again: the case alone, or with all before it."""
    alone = run(1, seed, folder, number).failures
    rest = f"--case {number}" if alone else f"--cases {number + 1}"
    return f"python -m tests.fuzz.replies --seed {seed} {rest}"


def main(words: Sequence[str] | None = None) -> int:
    """Many cases of one seed, or one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--case", type=int, help="only the case of this number")
    options = parser.parse_args(words)
    first, cases = (options.first, options.cases) if options.case is None else (options.case, 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = run(cases, options.seed, folder, first)
        for number, why in found.failures:
            again = "" if options.case is not None else f"\n    {reproduced(options.seed, number, folder)}"
            sys.stdout.write(f"--- seed {options.seed}, case {number}: {why}{again}\n")
    ends = ", ".join(f"{count} {name}" for name, count in found.ends.most_common())
    sys.stdout.write(
        f"replies: {cases} mutated conversations ({ends}), {len(found.failures)} crashes or stalls, "
        f"{found.grown_kib} KiB larger\n"
    )
    return 1 if found.failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""The fuzzer of API replies: its share of every run, and for each of its rules an agent that was broken on purpose."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import random
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from edgeagent.core import journal
from edgeagent.core.facts import Lease
from edgeagent.daemon.pollers import FLOWS_MAX
from edgeagent.routeros import durations, flows, leases, session, uplinks
from edgeagent.routeros.session import Listener, Row, Session
from tests.agent.support import site_at
from tests.fuzz import replies
from tests.fuzz.reply_mutator import Reply
from tests.fuzz.router import RECORDED, Peer

Broken = Callable[[pytest.MonkeyPatch], None]
SEED = 20260731
READINGS = 8  # three of the rows in each
FLOOD_ROWS = 4500  # more would be refused for their words


@pytest.mark.slow
def test_twenty_thousand_mutated_replies_crash_stall_and_grow_nothing_clause_x3(tmp_path: Path) -> None:
    found = replies.run(20_000, SEED, tmp_path)
    assert not found.failures, "\n".join(
        f"{replies.reproduced(SEED, number, tmp_path)}: {why}" for number, why in found.failures
    )
    assert found.grown_kib <= replies.GROWTH_MAX_KIB
    least = {
        "good": 1000,
        "RouterUnreachable": 4000,
        "RouterProtocolError": 4000,
        "RouterTimeout": 50,
        "RouterTrap": 40,
    }
    assert {name: found.ends[name] >= count for name, count in least.items()} == dict.fromkeys(least, True), found.ends


# --- controls --------------------------------------------------------------------------------------------------------


def with_numbers_without_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(flows, "whole", lambda text, most=0: int(text) if text.isdecimal() else 0)


def with_numbers_too_large_for_the_journal(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(flows, "whole", lambda text, most=0: int(text) if text.isdecimal() and len(text) < 1000 else 0)


def trusting_every_row(patch: pytest.MonkeyPatch) -> None:
    def held(rows: Sequence[Row], lists: Sequence[str]) -> tuple[dict[Lease, str], frozenset[Lease]]:
        return {Lease(row["list"], row["address"]): row[".id"] for row in rows}, frozenset()

    patch.setattr(leases, "held", held)


def trusting_every_id(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(leases, "row_id", lambda row: row.get(".id"))


def never_done_with_a_value(patch: pytest.MonkeyPatch) -> None:

    def seconds(text: str) -> int | None:
        while "9" * 300 in text:
            pass
        return durations.seconds(text)

    patch.setattr(flows, "seconds", seconds)


def without_deadlines(patch: pytest.MonkeyPatch) -> None:
    async def send(self: Session, words: str | Sequence[str], /, **_more: Any) -> list[Row]:
        sentence = [words] if isinstance(words, str) else list(words)
        rows, trap = await self._wire.exchange(sentence[0], session._encoded(sentence))
        if trap is not None:
            raise trap
        return rows

    patch.setattr(Session, "send", send)
    patch.setattr(replies, "TURNS_MAX", 8)


def keeping_what_was_said(patch: pytest.MonkeyPatch) -> None:
    right, kept = session._row, []

    def row(words: Sequence[str], names: dict[str, str]) -> Row:
        kept.append(bytes(4000))
        return right(words, names)

    patch.setattr(session, "_row", row)


def leaving_sessions_open(patch: pytest.MonkeyPatch) -> None:
    async def close(self: Session) -> None:
        return None

    patch.setattr(Session, "close", close)


def leaving_tasks_behind(patch: pytest.MonkeyPatch) -> None:
    right, left = Listener.close, []

    async def close(self: Listener) -> None:
        left.append(asyncio.create_task(asyncio.sleep(60.0)))
        await right(self)

    patch.setattr(Listener, "close", close)


def logging_what_it_cannot_read(patch: pytest.MonkeyPatch) -> None:
    def beside(rows: Sequence[Row], interface: str, gateway: str) -> str | None:
        try:
            return next(row["address"] for row in rows if row["interface"] == interface)
        except (KeyError, StopIteration):
            logging.getLogger("edgeagent").exception("no address")
            return None

    patch.setattr(uplinks, "address_beside", beside)


def logging_at_full_length(patch: pytest.MonkeyPatch) -> None:
    right = leases.held

    def held(rows: Sequence[Row], lists: Sequence[str]) -> tuple[dict[Lease, str], frozenset[Lease]]:
        logging.getLogger("edgeagent").warning("the router holds %s", rows)
        return right(rows, lists)

    patch.setattr(leases, "held", held)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (with_numbers_without_end, "ValueError"),
        (with_numbers_too_large_for_the_journal, "OverflowError"),
        (trusting_every_row, "KeyError"),
        (trusting_every_id, "it sent"),
        (never_done_with_a_value, "held up everything else"),
        (without_deadlines, "not over within"),
        (keeping_what_was_said, "KiB larger"),
        (leaving_sessions_open, "left open"),
        (leaving_tasks_behind, "left running"),
        (logging_what_it_cannot_read, "logged: no address"),
        (logging_at_full_length, "characters in the log"),
    ],
)
def test_control_an_agent_broken_on_purpose_is_caught(
    broken: Broken, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert replies.run(200, 7, tmp_path).failures == []
    broken(monkeypatch)
    found = replies.run(10_000, 7, tmp_path, warm=200, enough=1)
    assert [why for _, why in found.failures if said in why], f"not found: {found.failures}"


def test_a_failure_comes_again_by_the_command_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trusting_every_row(monkeypatch)
    number, why = replies.run(5000, 7, tmp_path, enough=1).failures[0]
    assert replies.reproduced(7, number, tmp_path) == f"python -m tests.fuzz.replies --seed 7 --case {number}"
    assert replies.main(["--seed", "7", "--case", str(number)]) == 1
    assert f"--- seed 7, case {number}: {why}\n" in capsys.readouterr().out


# --- a router that says as much as it may, all the time ---------------------------------------------------------------


def flood(number: int) -> Reply:
    """The largest reading of voice rows that is taken; no row is like one of another reading."""
    rows = [
        [
            *(
                b"!re",
                b"=protocol=udp",
                b"=connection-mark=edge-wan",
                b"=repl-bytes=9",
            ),
            *(b"=src-address=10.%d.%d.%d:5060" % (number, row // 250, row % 250), b"=reply-dst-address=192.0.2.2:5060"),
            *(b"=dst-address=127.30.0.10:5060", b"=orig-bytes=%d" % (row + number)),
        ]
        for row in range(FLOOD_ROWS)
    ]
    return [*rows, [b"!done"]]


def flooded(folder: Path, rows_max: int) -> int:
    """How much larger, in KiB, the agent is after many readings than after a few. For a process of its own: one that
    has been larger before has room that it need not ask for.
    """
    journal.ROWS_MAX = rows_max

    async def read(agent: replies.Agent, number: int) -> None:
        agent.near, far = socket.socketpair()
        with far:
            peer = Peer(far, random.Random(number), 10**9, rest=False, hold=False)
            peer.recorded = {**RECORDED, "/ip/firewall/connection/print": [flood(number)]}
            await replies.conversation(replies.poller, agent, peer, peer.rng)

    async def run() -> int:
        agent = replies.Agent(site_at(folder))
        agent.deadline_s = agent.router.table_s = 10.0
        sizes = []
        for number in range(READINGS):
            await read(agent, number)
            sizes.append(replies.resident_kib())
            assert len(agent.loop.state.phones.counts) == FLOWS_MAX
        agent.check()
        await agent.close()
        return max(sizes[2:]) - sizes[1]

    return asyncio.run(run())


@pytest.mark.slow
def test_a_router_that_floods_makes_the_agent_no_larger_clause_c5_x3(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        assert pool.apply(flooded, (tmp_path, journal.ROWS_MAX)) <= replies.GROWTH_MAX_KIB
        forgetting = pool.apply(flooded, (tmp_path, 10**9))
    assert forgetting > replies.GROWTH_MAX_KIB, "the control: what is never taken from memory is seen"

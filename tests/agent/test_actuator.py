"""The actuator against a router that misbehaves: the intended leases stand in the end, once, and never with a hole."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from edgeagent.config.site import Site
from edgeagent.core.facts import Fact, Lease, LeasesSeen, RouterLost, RouterReached, UplinkSeen
from edgeagent.core.intents import MoveFlows
from edgeagent.daemon import actuator as module
from edgeagent.daemon.actuator import Actuator
from edgeagent.host import clock
from edgeagent.routeros.errors import RouterError
from edgeagent.routeros.session import Session
from hil.virtual.routeros.values import VERSIONS, Version
from tests.agent.support import GUARD_S, LTE, PASSWORD, USER, WAN, Beats, Rig, rig, run, site_at, until

LIST = "/ip/firewall/address-list"
CONNECTIONS = "/ip/firewall/connection"
DEADLINE_S = 1.5  # of each command: long enough for a busy machine
ALIVE, AWAY = Lease("edge-alive", "0.0.0.0/0"), Lease("edge-lte-site", "0.0.0.0/0")
HOME_LEASES, AWAY_LEASES = frozenset({ALIVE}), frozenset({ALIVE, AWAY})
LISTS = ("edge-alive", "edge-wan-site", "edge-wan-phone", "edge-lte-site", "edge-lte-phone")
MARKS = ("edge-wan", "edge-lte", "edge-lte-media")
FLOW = {"protocol": "udp", "src-address": "192.168.88.11:5060", "dst-address": "127.30.0.10:5060"}


class Clock:
    """Monotonic time plus what a test adds."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return clock.mono_s() + self.ahead_s


class Bed:
    """An actuator, what it told, and a core that orders the same again and again until it is stopped."""

    def __init__(self, on: Rig, site: Site, pinned: str, deadline_s: float = DEADLINE_S) -> None:
        self.on = on
        self.told: list[Fact] = []
        self.clock = Clock()
        self.wanted: frozenset[Lease] | None = None
        self.turning = True

        async def open_session() -> Session:
            return await Session.open("127.0.0.1", on.port, USER, PASSWORD, pinned, deadline_s, source="127.0.0.1")

        self.actuator = Actuator(
            open_session, site.paths, LISTS, MARKS, frozenset({MARKS[2]}), site.id, self.told.append, self.clock
        )

    async def supervise(self) -> None:
        while True:
            with contextlib.suppress(RouterError):
                await self.actuator.run()
            await asyncio.sleep(0.02)

    async def turns(self) -> None:
        while True:
            if self.turning:
                self.actuator.order(self.wanted)
            await asyncio.sleep(0.02)

    async def hold(self, wanted: frozenset[Lease]) -> None:
        self.wanted = wanted
        await until(lambda: self.on.leases() == {(lease.list, lease.address) for lease in wanted})

    def later(self, seconds: float) -> None:
        """Let time pass for the agent and for the router."""
        self.clock.ahead_s += seconds
        self.on.router.store.clock = self.clock
        self.actuator.wake.set()

    def said(self, command: str) -> list[list[str]]:
        return [words for words in self.on.heard() if words[0] == command]

    def tellings(self, kind: type) -> int:
        return sum(isinstance(fact, kind) for fact in self.told)


@asynccontextmanager
async def bed(folder: Path, version: Version = "7.22") -> AsyncIterator[Bed]:
    async with rig(folder, version) as on:
        found = Bed(on, site_at(folder, on.port), await asyncio.to_thread((folder / "router.crt").read_text))
        tasks = [asyncio.create_task(found.supervise()), asyncio.create_task(found.turns())]
        try:
            yield found
            assert not any(task.done() for task in tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_is_wanted_of_the_router_before_what_it_holds_is_known(version: Version, tmp_path: Path) -> None:
    async def test() -> None:
        async with bed(tmp_path, version) as it:
            await it.on.do(f"{LIST}/add", "=list=edge-lte-site", "=address=0.0.0.0/0", "=timeout=1m")
            await until(lambda: it.tellings(LeasesSeen) == 1)
            seen = next(fact for fact in it.told if isinstance(fact, LeasesSeen))
            assert seen.leases == (AWAY,)
            assert it.tellings(RouterReached) == 1
            addresses = {fact.path: fact.address for fact in it.told if isinstance(fact, UplinkSeen)}
            assert addresses == {"primary": WAN, "lte": LTE}
            assert all(words[0].endswith("/print") for words in it.on.heard())

    run(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_voice_moves_with_one_add_and_moves_back_with_one_remove_clause_p3(version: Version, tmp_path: Path) -> None:
    async def test() -> None:
        async with bed(tmp_path, version) as it:
            await it.hold(HOME_LEASES)
            before = len(it.on.heard())
            await it.hold(AWAY_LEASES)
            await asyncio.sleep(0.1)
            (only,) = it.on.heard()[before:]
            assert only[0] == f"{LIST}/add"
            assert "=comment=edgeagent:site-7" in only
            await it.hold(HOME_LEASES)
            await asyncio.sleep(0.1)
            assert [words[0] for words in it.on.heard()[before + 1 :]] == [f"{LIST}/remove"]

    run(test)


def test_leases_are_renewed_by_set_alone_clause_p2(tmp_path: Path) -> None:
    async def test() -> None:
        async with bed(tmp_path) as it:
            await it.hold(AWAY_LEASES)

            def fresh() -> bool:  # the replies have come too: a time noted later would be after the next leap
                return it.clock() - min(it.actuator.renewed_s.values()) < 5

            await until(fresh)
            ids = {row[".id"] for row in it.on.rows(LIST) if row["dynamic"] == "true"}
            for _ in range(5):
                it.later(25)
                await until(fresh)
                assert {row[".id"] for row in it.on.rows(LIST) if row["dynamic"] == "true"} == ids
            await asyncio.sleep(0.05)
            assert it.on.leases() == {("edge-alive", "0.0.0.0/0"), ("edge-lte-site", "0.0.0.0/0")}
            assert len(it.said(f"{LIST}/add")) == 2
            assert len(it.said(f"{LIST}/set")) == 5 * 2
            assert it.said(f"{LIST}/remove") == []

    run(test)


def test_leases_lapse_when_the_core_stops_turning_clause_p8(tmp_path: Path) -> None:
    async def test() -> None:
        async with bed(tmp_path) as it:
            await it.hold(AWAY_LEASES)
            it.turning = False
            await asyncio.sleep(0.05)
            for _ in range(4):
                it.later(20.1)
                await asyncio.sleep(0.1)
            await it.on.do(f"{LIST}/print")
            assert it.on.leases() == set()
            assert it.said(f"{LIST}/set") == []
            it.turning = True  # and when it turns again, they stand again
            await it.hold(AWAY_LEASES)

    run(test)


@pytest.mark.parametrize(
    "kind", ["drop", "drop_after", "mute", "hang", "hang_mid_word", "trap", "trap_after_rows", "slow", "swallow"]
)
@pytest.mark.parametrize("command", ["add", "print", "set", "remove"])
def test_after_any_fault_the_intended_leases_stand_once_clause_p3(kind: str, command: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with bed(tmp_path) as it:
            await it.hold(HOME_LEASES)
            more = {"message": "failure: already have such entry"} if kind == "trap" else {}
            it.on.strike(kind, f"{LIST}/{command}", count=1, delay_s=0.1, **more)
            for wanted in (AWAY_LEASES, HOME_LEASES, AWAY_LEASES):
                it.wanted = wanted
                await asyncio.sleep(0.05)
                it.later(21)
                expected = {(lease.list, lease.address) for lease in wanted}
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await until(lambda expected=expected: it.on.leases() == expected)  # type: ignore[misc]
                it.later(21)  # what was swallowed shows at the next renewal
                await until(lambda expected=expected: it.on.leases() == expected)  # type: ignore[misc]
            rows = [row for row in it.on.rows(LIST) if row["list"].startswith("edge-")]
            assert len(rows) == 2

    run(test)


def test_a_reply_lost_after_its_effect_is_read_and_not_repeated_clause_p3(tmp_path: Path) -> None:
    async def test() -> None:
        for kind in ("drop_after", "mute"):
            folder = tmp_path / kind
            folder.mkdir()
            async with bed(folder) as it:
                await it.hold(HOME_LEASES)
                it.on.strike(kind, f"{LIST}/add", count=1)
                await it.hold(AWAY_LEASES)
                await until(lambda: it.tellings(RouterReached) == 2)
                await asyncio.sleep(0.1)
                assert len(it.said(f"{LIST}/add")) == 2
                assert it.tellings(RouterLost) == 1
                assert it.actuator.held.keys() == AWAY_LEASES

    run(test)


def test_a_hung_api_costs_one_deadline_and_is_told_clause_l6(tmp_path: Path) -> None:
    async def test() -> None:
        async with bed(tmp_path) as it:
            await it.hold(HOME_LEASES)
            it.on.strike("hang", f"{LIST}/add", count=1)
            begun_s, beats = clock.mono_s(), Beats()
            await it.hold(AWAY_LEASES)
            assert clock.mono_s() - begun_s > 0.9 * DEADLINE_S
            assert beats.end() < 2 * DEADLINE_S
            assert [fact.code for fact in it.told if isinstance(fact, RouterLost)] == ["router_unreachable"]

    run(test)


def test_a_rebooted_router_gets_its_leases_back_clause_l5(tmp_path: Path) -> None:
    async def test() -> None:
        async with bed(tmp_path) as it:
            await it.hold(AWAY_LEASES)
            it.on.router.reboot(0.2)
            await until(lambda: it.on.leases() == set())
            await until(lambda: not it.on.router.rebooting)
            it.later(21)  # an idle connection is found dead by the next renewal
            await it.hold(AWAY_LEASES)
            assert it.tellings(RouterLost) >= 1
            assert it.tellings(LeasesSeen) == 2

    run(test)


def test_a_router_that_is_only_watched_is_found_lost_too_clause_l6(tmp_path: Path) -> None:
    async def test() -> None:
        async with bed(tmp_path) as it:
            it.on.router.store._settings["/system/resource"]["version"] = "8.1 (stable)"
            it.wanted = AWAY_LEASES
            await until(lambda: it.tellings(RouterReached) == 1)
            it.on.router.reboot(0.2)
            await until(lambda: not it.on.router.rebooting)
            it.later(11)
            await until(lambda: it.tellings(RouterLost) >= 1)
            assert it.on.leases() == set()

    run(test)


def test_leases_that_somebody_removed_are_back_at_the_next_renewal_clause_p3(tmp_path: Path) -> None:
    async def test() -> None:
        async with bed(tmp_path) as it:
            await it.hold(AWAY_LEASES)
            for row in it.on.rows(LIST):
                if row["dynamic"] == "true":
                    await it.on.do(f"{LIST}/remove", f"=.id={row['.id']}")
            it.later(21)
            await it.hold(AWAY_LEASES)

    run(test)


def flows(*nats: str) -> list[dict[str, str]]:
    return [
        {
            **FLOW,
            "src-address": f"192.168.88.{n}:5060",
            "reply-dst-address": f"{nat}:5060",
            "connection-mark": "edge-wan",
        }
        for n, nat in enumerate(nats, 11)
    ]


async def left(it: Bed) -> list[str]:
    return [row[".id"] for row in await it.on.plane.rows(CONNECTIONS) or []]


async def moved(it: Bed, expected: list[str]) -> None:
    async with asyncio.timeout(GUARD_S):
        while await left(it) != expected:  # noqa: ASYNC110  the router is only seen from outside
            await asyncio.sleep(0.02)


def test_flows_on_the_old_path_are_removed_once_the_lease_stands_clause_p1(tmp_path: Path) -> None:
    async def test() -> None:
        async with bed(tmp_path) as it:
            await it.hold(HOME_LEASES)
            ids = it.on.plane.set_connections([*flows(WAN, LTE, WAN), {"protocol": "tcp", "connection-mark": "owner"}])
            it.actuator.order(AWAY_LEASES)
            it.actuator.move((MoveFlows("lte", pinned=True),))
            it.wanted = AWAY_LEASES
            await moved(it, [ids[1], ids[3]])
            heard = [words[0] for words in it.on.heard()]
            assert heard.index(f"{CONNECTIONS}/remove") > max(n for n, one in enumerate(heard) if one == f"{LIST}/add")
            assert it.said(f"{CONNECTIONS}/remove") == [[f"{CONNECTIONS}/remove", f"=.id={ids[0]},{ids[2]}"]]

    run(test)


def test_a_move_that_comes_while_a_former_order_is_being_answered_waits_for_its_own_lease_clause_p1(
    tmp_path: Path,
) -> None:
    """A flow removed before its lease stands would be made anew on the dead line."""

    async def test() -> None:
        async with bed(tmp_path) as it:
            await it.hold(HOME_LEASES)
            ids = it.on.plane.set_connections(flows(WAN, LTE))
            renewed = len(it.said(f"{LIST}/set"))
            it.on.strike("slow", f"{LIST}/set", count=1, delay_s=0.5)
            it.later(max(module.RENEW_S.values()))
            await until(lambda: len(it.said(f"{LIST}/set")) > renewed)
            it.actuator.order(AWAY_LEASES)
            it.actuator.move((MoveFlows("lte", pinned=True),))
            it.wanted = AWAY_LEASES
            await moved(it, [ids[1]])
            heard = [words[0] for words in it.on.heard()]
            assert heard.index(f"{CONNECTIONS}/remove") > max(n for n, one in enumerate(heard) if one == f"{LIST}/add")

    run(test)


def test_very_many_flows_are_removed_by_several_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOGETHER_MAX", 2)

    async def test() -> None:
        async with bed(tmp_path) as it:
            await it.hold(AWAY_LEASES)
            ids = it.on.plane.set_connections(flows(WAN, WAN, WAN))
            it.actuator.move((MoveFlows("lte"),))
            await moved(it, [])
            said = [words[1] for words in it.said(f"{CONNECTIONS}/remove")]
            assert said == [f"=.id={ids[0]},{ids[1]}", f"=.id={ids[2]}"]

    run(test)


class Mute:
    """A session whose router makes what it is told to, and does not say under which id."""

    def __init__(self) -> None:
        self.rows: list[dict[str, str]] = []

    async def send(self, words: list[str]) -> list[dict[str, str]]:
        if words[0].endswith("/print"):
            return self.rows
        assert words[0].endswith("/add")
        row = dict(word[1:].split("=", 1) for word in words[1:])
        self.rows.append({**row, ".id": f"*{len(self.rows) + 1}", "dynamic": "true"})
        return [{"ret": "no id"}]


def test_a_lease_whose_id_the_router_does_not_tell_is_looked_up_clause_x3(tmp_path: Path) -> None:
    async def unused() -> Session:
        raise AssertionError

    site, mute = site_at(tmp_path), Mute()
    actuator = Actuator(unused, site.paths, LISTS, MARKS, frozenset(), site.id, lambda fact: None, clock.mono_s)
    asyncio.run(actuator._hold(cast(Session, mute), AWAY_LEASES))
    assert actuator.held == {ALIVE: "*1", AWAY: "*2"}


def test_a_flow_that_ends_between_print_and_remove_does_not_save_the_others(tmp_path: Path) -> None:
    async def test() -> None:
        async with bed(tmp_path) as it:
            await it.hold(AWAY_LEASES)
            it.on.plane.set_connections(flows(WAN, WAN, WAN))
            it.on.strike("trap", f"{CONNECTIONS}/remove", count=2)
            it.actuator.move((MoveFlows("lte"),))
            await until(lambda: len(it.said(f"{CONNECTIONS}/remove")) == 4)
            async with asyncio.timeout(30):
                while len(await left(it)) != 1:  # noqa: ASYNC110  heard is not yet done
                    await asyncio.sleep(0.02)
            assert it.tellings(RouterLost) == 0
            it.actuator.move((MoveFlows("lte"),))
            await moved(it, [])

    run(test)


@pytest.mark.parametrize("kind", ["drop", "drop_after", "mute", "hang"])
@pytest.mark.parametrize("command", ["print", "remove"])
def test_flows_are_moved_although_the_connection_fails_meanwhile_clause_p3(
    kind: str, command: str, tmp_path: Path
) -> None:
    async def test() -> None:
        async with bed(tmp_path) as it:
            await it.hold(AWAY_LEASES)
            it.on.plane.set_connections(flows(WAN, WAN))
            it.on.strike(kind, f"{CONNECTIONS}/{command}", count=1)
            it.actuator.move((MoveFlows("lte"),))
            await moved(it, [])

    run(test)


def test_moves_that_came_too_late_are_not_made_up_for_clause_p1(tmp_path: Path) -> None:
    """While the router was away voice left and came home: the flows of now must not be thrown off the line."""

    async def test() -> None:
        async with bed(tmp_path) as it:
            await it.hold(HOME_LEASES)
            it.on.router.reboot(0.3)
            it.actuator.move((MoveFlows("lte", pinned=True),))
            it.actuator.move((MoveFlows("primary", sources=frozenset({"192.168.88.99"})),))
            it.actuator.move((MoveFlows("primary", spare=frozenset({"192.168.88.12"})),))
            it.actuator.move((MoveFlows("primary", sources=frozenset({"192.168.88.13"})),))
            await until(lambda: not it.on.router.rebooting)
            ids = it.on.plane.set_connections(flows(WAN, LTE, LTE))
            await moved(it, ids[:2])
            await asyncio.sleep(0.1)
            assert await left(it) == ids[:2]

    run(test)


def test_a_path_without_an_address_moves_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with bed(tmp_path) as it:
            await it.hold(AWAY_LEASES)
            ids = it.on.plane.set_connections(flows(WAN))
            it.actuator.addresses.clear()
            it.actuator.move((MoveFlows("lte"),))
            await until(lambda: not it.actuator.moves)
            assert await left(it) == ids
            it.actuator.address_seen("lte", None)
            assert it.actuator.addresses == {}

    run(test)


def test_moves_that_wait_are_capped_clause_c5(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            it = Bed(on, site_at(tmp_path, on.port), "")
            for number in range(1000):
                it.actuator.move((MoveFlows("lte", sources=frozenset({str(number)})),))
            assert len(it.actuator.moves) == module.MOVES_MAX

    run(test)


def test_the_lease_goes_before_the_flows_when_voice_must_turn_round_in_mid_move_clause_p2(tmp_path: Path) -> None:
    """A slow move of the way home is under way when the line dies again."""

    async def test() -> None:
        async with bed(tmp_path) as it:
            await it.hold(HOME_LEASES)
            it.on.plane.set_connections(flows(LTE, WAN))
            it.on.strike("slow", f"{CONNECTIONS}/print", delay_s=0.2, count=1)
            it.actuator.move((MoveFlows("primary"),))
            await until(lambda: len(it.said(f"{CONNECTIONS}/print")) == 1)
            it.wanted = AWAY_LEASES
            it.actuator.order(AWAY_LEASES)
            it.actuator.move((MoveFlows("lte", pinned=True),))
            await until(lambda: len(it.said(f"{CONNECTIONS}/print")) == 2)
            said = [words[0] for words in it.on.heard() if words[0].startswith("/ip/firewall")]
            taken = max(index for index, command in enumerate(said) if command == "/ip/firewall/address-list/add")
            looked = max(index for index, command in enumerate(said) if command == f"{CONNECTIONS}/print")
            assert taken < looked
            assert f"{CONNECTIONS}/remove" not in said[:taken]

    run(test)


def test_an_entry_without_a_time_is_told_and_holds_nothing_up(tmp_path: Path) -> None:
    async def test() -> None:
        async with bed(tmp_path) as it:
            await it.on.do("/ip/firewall/address-list/add", "=list=edge-alive", "=address=0.0.0.0/0")
            it.wanted = AWAY_LEASES
            await until(lambda: ("edge-lte-site", "0.0.0.0/0") in it.on.leases())
            await asyncio.sleep(0.2)
            assert it.tellings(RouterLost) == 0

    run(test)

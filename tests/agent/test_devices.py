"""Voice devices that the router has learnt are written down, and forgotten after a week without an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edgeagent.core import orders
from edgeagent.core.facts import Flow
from edgeagent.daemon import actuator, drift, pollers
from edgeagent.daemon.devices import DEVICES_MAX, FORGOTTEN_S, Devices
from edgeagent.daemon.survey import wish
from edgeagent.routeros.dialect_v7 import DialectV7
from edgeagent.routeros.diff import Remove, ruleset_changes
from edgeagent.routeros.flows import questions
from edgeagent.routeros.ruleset import build
from edgeagent.routeros.session import Session
from edgeagent.store.exclusive import Exclusive
from hil.virtual.routeros.values import VERSIONS, Version
from tests.agent.support import PASSWORD, USER, Rig, agent, board, rig, run, site_at, until
from tests.agent.test_provision import provisioned
from tests.agent.test_ruleset import rows, site

LISTS = "/ip/firewall/address-list"
PHONE, OTHER = "192.168.88.11", "192.168.88.12"


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


async def connected(on: Rig, folder: Path) -> Session:
    certificate = (folder / "router.crt").read_text()
    return await Session.open("127.0.0.1", on.port, USER, PASSWORD, certificate, 5.0, source="127.0.0.1")


@asynccontextmanager
async def alone() -> AsyncIterator[bool]:
    yield True


async def learn(on: Rig, address: str) -> None:
    await on.do(f"{LISTS}/add", "=list=edge-phones", f"=address={address}", "=timeout=7d")


def known(on: Rig) -> dict[str, bool]:
    """By address: whether it is there for good."""
    return {row["address"]: row["dynamic"] != "true" for row in on.rows(LISTS) if row["list"] == "edge-phones"}


def answered(source: str) -> Flow:
    return Flow("udp", source, 5060, "203.0.113.10", 5060, "192.0.2.2", 700, 600, False, False, 1.0)


def test_what_was_learnt_is_written_down_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            session, devices = await connected(on, tmp_path), Devices(Clock(), alone, names=False)
            await learn(on, PHONE)
            await devices.refresh(session)
            assert known(on) == {PHONE: True}
            before = len(on.heard())
            await devices.refresh(session)
            assert [words[0] for words in on.heard()[before:]] == [f"{LISTS}/print"]
            await session.close()

    run(test)


def test_a_new_device_loses_the_row_that_it_asked_in_before_it_was_known(tmp_path: Path) -> None:
    rows = [
        {".id": "*1", "src-address": f"{PHONE}:5353", "dst-address": "192.168.88.1:53"},
        {".id": "*2", "src-address": PHONE, "dst-address": "9.9.9.9", "dst-port": "53"},
        {".id": "*3", "src-address": f"{PHONE}:5060", "dst-address": "203.0.113.10:5060"},
        {".id": "*4", "src-address": f"{OTHER}:5353", "dst-address": "192.168.88.1:53"},
        {"src-address": f"{PHONE}:5353", "dst-address": "192.168.88.1:53"},
    ]
    assert questions(rows, [PHONE]) == ["*1", "*2"]

    async def test() -> None:
        async with rig(tmp_path) as on:
            session, devices = await connected(on, tmp_path), Devices(Clock(), alone, names=True)
            await learn(on, PHONE)
            await devices.refresh(session)
            await devices.refresh(session)
            asked = [words for words in on.heard() if words[0] == "/ip/firewall/connection/print"]
            assert len(asked) == 1, "once, when it is new"
            await session.close()

    run(test)


def test_a_week_without_an_answer_and_it_is_forgotten(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            clock = Clock()
            session, devices = await connected(on, tmp_path), Devices(clock, alone, names=False)
            for address in (PHONE, OTHER):
                await learn(on, address)
            await devices.refresh(session)
            clock.now_s += FORGOTTEN_S - 1
            devices.seen([answered(OTHER), answered("192.168.88.50")])
            await devices.refresh(session)
            assert known(on) == {PHONE: True, OTHER: True}
            clock.now_s += 2
            await devices.refresh(session)
            assert known(on) == {OTHER: True}
            await session.close()

    run(test)


def test_rows_of_the_owner_and_subnets_are_not_touched_and_there_is_a_cap_clause_c5(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            clock = Clock()
            session, devices = await connected(on, tmp_path), Devices(clock, alone, names=False)
            await on.do(f"{LISTS}/add", "=list=edge-phones", "=address=192.168.99.7", "=comment=by hand")
            await on.do(f"{LISTS}/add", "=list=edge-phones", "=address=192.168.20.0/24")
            for number in range(DEVICES_MAX + 5):
                await learn(on, f"10.0.{number // 250}.{number % 250 + 1}")
            await devices.refresh(session)
            assert sum(known(on).values()) == DEVICES_MAX + 2
            clock.now_s += FORGOTTEN_S + 1
            await devices.refresh(session)
            assert {"192.168.99.7", "192.168.20.0/24"} <= known(on).keys()
            await session.close()

    run(test)


def test_provisioning_leaves_them_and_removal_takes_them_clause_p4(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            site = site_at(tmp_path, on.port)
            await provisioned(site, "apply")
            session = await connected(on, tmp_path)
            await learn(on, PHONE)
            await Devices(Clock(), alone, names=False).refresh(session)
            await session.close()
            assert "0 changes made" in await provisioned(site, "apply")
            assert known(on) == {PHONE: True}
            await provisioned(site, "remove")
            assert not known(on)

    run(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_removal_takes_what_was_learnt_too_and_nothing_of_the_owners_clause_p4(
    version: Version, tmp_path: Path
) -> None:
    async def test() -> None:
        async with rig(tmp_path, version) as on:
            site = site_at(tmp_path, on.port)
            await on.do(f"{LISTS}/add", "=list=edge-owner", f"=address={PHONE}", "=timeout=7d")
            before = timed(on)
            await provisioned(site, "apply")
            await learn(on, PHONE)
            await learn(on, OTHER)
            await on.do(f"{LISTS}/add", "=list=edge-drill", f"=address={PHONE}", "=timeout=45s")
            for name in ("edge-alive", "edge-lte-site", "edge-wan-site"):
                await on.do(f"{LISTS}/add", f"=list={name}", "=address=0.0.0.0/0", "=timeout=60s")
            await provisioned(site, "apply")
            assert len(timed(on)) == len(before) + 6, "the control: nothing else takes them"
            lapsing = next(row[".id"] for row in on.rows(LISTS) if row["list"] == "edge-drill")
            on.strike("trap", f"{LISTS}/remove", count=1, arguments=rf"^=\.id=\{lapsing}$", message="no such item")
            await provisioned(site, "remove")
            assert len(timed(on)) == len(before) + 1, "one that has just lapsed stops nothing"
            await provisioned(site, "remove")
            assert timed(on) == before
            assert not [row for row in static(on) if row["list"].startswith("edge-")]

    run(test)


def timed(on: Rig) -> set[tuple[str, str]]:
    return {(row["list"], row["address"]) for row in on.rows(LISTS) if row["dynamic"] == "true"}


def static(on: Rig) -> list[dict[str, str]]:
    return [row for row in on.rows(LISTS) if row["dynamic"] != "true" and row["list"].startswith("edge-")]


# With the whole agent around them


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pollers, "UPLINKS_EVERY_S", 0.2)
    monkeypatch.setattr(drift, "ROUND_S", 0.5)
    monkeypatch.setattr(actuator, "AGAIN_S", 0.1)
    monkeypatch.setattr(orders, "SWITCHING_S", 0.0)


async def looked(on: Rig, times: int = 5) -> None:
    """The uplinks, with which devices are looked at, were read so often since."""
    begun = len(on.heard())
    reading = "/ip/firewall/connection/tracking/print"
    await until(lambda: sum(words[0] == reading for words in on.heard()[begun:]) >= times)


def of_devices(on: Rig, since: int) -> list[list[str]]:
    """Sentences that change who is a voice device, or take rows of connection tracking away."""
    numbers = {f"=.id={row['.id']}" for row in on.rows(LISTS) if row["list"] == "edge-phones"}
    return [
        words
        for words in on.heard()[since:]
        if "=list=edge-phones" in words
        or words[0] == "/ip/firewall/connection/remove"
        or (words[0] == f"{LISTS}/remove" and numbers.intersection(words))
    ]


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("version", VERSIONS)
def test_after_a_removal_a_running_agent_writes_none_down_clause_p4(
    version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift, "ROUND_S", 4800.0)  # for a while the core knows of no removal

    async def test() -> None:
        async with rig(tmp_path, version) as on:
            site = site_at(tmp_path, on.port)
            before = static(on)
            await provisioned(site, "apply")
            async with agent(site) as daemon:
                await learn(on, PHONE)
                await until(lambda: known(on) == {PHONE: True})  # the control: it does so while the rules stand
                await provisioned(site, "remove")
                await learn(on, OTHER)  # as if a packet had been on its way
                begun = len(on.heard())
                assert daemon.router.keep_devices
                await looked(on)
                assert known(on) == {OTHER: False}
                daemon.rows._round(whole=True)
                daemon.rows.wake()
                await until(lambda: daemon.loop.state.guard.provisioned is False)
                await looked(on)
                assert known(on) == {OTHER: False}
                assert of_devices(on, begun) == []
                assert static(on) == before

    run(test)


@pytest.mark.usefixtures("often")
def test_while_a_person_is_at_the_router_none_is_written_down(tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path) as on:
            site = site_at(tmp_path, on.port)
            await provisioned(site, "apply")
            async with agent(site) as daemon:
                await until(lambda: daemon.router.keep_devices)
                person = Exclusive(site.state_folder)
                assert await person.take()
                await learn(on, PHONE)
                begun = len(on.heard())
                await looked(on)
                assert (known(on), of_devices(on, begun)) == ({PHONE: False}, [])
                await person.close()
                await until(lambda: known(on) == {PHONE: True})

    run(test)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("version", VERSIONS)
def test_while_another_agent_leads_none_is_written_down_clause_p7(version: Version, tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path, version) as on:
            site = site_at(tmp_path, on.port)
            await provisioned(site, "apply")
            alive = ["=list=edge-alive", "=address=0.0.0.0/0", "=timeout=1h", "=comment=edgeagent:site-8"]
            await on.do(f"{LISTS}/add", *alive)
            begun = len(on.heard())
            async with agent(site) as daemon:
                await until(lambda: "router_held_by_other" in daemon.loop.state.faults.raised)
                await until(lambda: daemon.loop.state.guard.provisioned is True)
                await learn(on, PHONE)
                await looked(on)
                assert (known(on), of_devices(on, begun)) == ({PHONE: False}, [])
                row = next(row for row in on.rows(LISTS) if row["list"] == "edge-alive")
                await on.do(f"{LISTS}/remove", f"=.id={row['.id']}")
                await until(lambda: known(on) == {PHONE: True})  # the control: it leads now
                assert of_devices(on, begun)

    run(test)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("version", VERSIONS)
def test_on_a_version_that_is_watched_only_none_is_written_down(version: Version, tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path, version) as on:
            site = site_at(tmp_path, on.port)
            await provisioned(site, "apply")
            known_version = on.router.store._settings["/system/resource"]["version"]
            for shown, written in ((known_version, True), ("8.1 (stable)", False)):
                on.router.store._settings["/system/resource"]["version"] = shown
                address = PHONE if written else OTHER
                async with agent(site) as daemon:
                    await learn(on, address)
                    if written:
                        await until(lambda: known(on).get(PHONE) is True)
                        continue
                    await until(lambda: "router_version_unlisted" in daemon.loop.state.faults.raised)
                    begun = len(on.heard())
                    await looked(on)
                    assert (known(on)[OTHER], of_devices(on, begun)) == (False, [])

    run(test)


def test_a_site_that_names_its_phones_subnets_keeps_none_of_them() -> None:
    device = {".id": "*77", "list": "edge-phones", "address": PHONE, "comment": f"edgeagent:edge-phones/{PHONE}"}
    assert Remove(LISTS, "*77") not in ruleset_changes(rows("7.22"), {LISTS: [device]})
    named = build(wish(site({"voice.lans": ["192.168.20.0/24"]}), board(DialectV7())), DialectV7())
    assert Remove(LISTS, "*77") in ruleset_changes(named, {LISTS: [device]})

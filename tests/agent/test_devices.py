"""Voice devices that the router has learnt are written down, and forgotten after a week without an answer."""

from __future__ import annotations

from pathlib import Path

from edgeagent.core.facts import Flow
from edgeagent.daemon.devices import DEVICES_MAX, FORGOTTEN_S, Devices
from edgeagent.daemon.survey import wish
from edgeagent.routeros.dialect_v7 import DialectV7
from edgeagent.routeros.diff import Remove, ruleset_changes
from edgeagent.routeros.flows import questions
from edgeagent.routeros.ruleset import build
from edgeagent.routeros.session import Session
from tests.agent.support import PASSWORD, USER, Rig, board, rig, run, site_at
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
            session, devices = await connected(on, tmp_path), Devices(Clock(), names=False)
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
            session, devices = await connected(on, tmp_path), Devices(Clock(), names=True)
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
            session, devices = await connected(on, tmp_path), Devices(clock, names=False)
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
            session, devices = await connected(on, tmp_path), Devices(clock, names=False)
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
            await Devices(Clock(), names=False).refresh(session)
            await session.close()
            assert "0 changes made" in await provisioned(site, "apply")
            assert known(on) == {PHONE: True}
            await provisioned(site, "remove")
            assert not known(on)

    run(test)


def test_a_site_that_names_its_phones_subnets_keeps_none_of_them() -> None:
    device = {".id": "*77", "list": "edge-phones", "address": PHONE, "comment": f"edgeagent:edge-phones/{PHONE}"}
    assert Remove(LISTS, "*77") not in ruleset_changes(rows("7.22"), {LISTS: [device]})
    named = build(wish(site({"voice.lans": ["192.168.20.0/24"]}), board(DialectV7())), DialectV7())
    assert Remove(LISTS, "*77") in ruleset_changes(named, {LISTS: [device]})

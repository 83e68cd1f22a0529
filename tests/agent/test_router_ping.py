"""``probe = "router_ping"``: the router's own ping, against the virtual router of both versions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import tomli

from edgeagent.config.site import ConfigError, Site, parse
from edgeagent.core.facts import Fact, ProbeReplied, RoundSent
from edgeagent.core.intents import Probing
from edgeagent.daemon import wiring
from edgeagent.daemon.pollers import PingedPath
from edgeagent.daemon.wiring import Daemon
from edgeagent.host import clock
from edgeagent.probes.router_ping import RouterPinger
from edgeagent.routeros.durations import fine_seconds
from hil.virtual.routeros.values import VERSIONS, Version
from tests.agent.support import GOOD, MAIL_PASSWORD, PASSWORD, Beats, Rig, agent, rig, run, until
from tests.agent.test_provision import everything, foreign, ours, provisioned

pytestmark = pytest.mark.slow
PRIMARY = ("127.30.0.10", "127.40.0.1", "127.40.0.2")
LTE = ("127.40.0.3",)
Take = Callable[[dict[str, str]], None]


def router_site(folder: Path, port: int, **agent: str) -> Site:
    found = tomli.loads(GOOD.replace("FOLDER", str(folder)))
    found["router"]["port"] = port
    del found["router"]["alias_address"]
    found["agent"] |= {"probe": "router_ping", **agent}
    for name, secret in (("router.password", PASSWORD), ("mail.password", MAIL_PASSWORD)):
        (folder / name).write_text(secret)
    return parse(found, "site.toml")


@asynccontextmanager
async def running(folder: Path, version: Version = "7.22") -> AsyncIterator[tuple[Rig, Daemon]]:
    async with rig(folder, version) as on:
        site = router_site(folder, on.port)
        await provisioned(site, "apply")
        async with agent(site) as daemon:
            yield on, daemon


def cut(on: Rig, targets: Sequence[str] = PRIMARY, *, lost: bool = True) -> None:
    for target in targets:
        on.plane.set_ping(target, lost=lost)


def verdict(daemon: Daemon, path: str) -> str:
    return daemon.loop.state.paths[path].verdict


def pings(on: Rig) -> list[list[str]]:
    return [words for words in on.heard() if words[0].endswith("/ping")]


def on_lte(on: Rig) -> bool:
    return ("edge-lte-site", "0.0.0.0/0") in on.leases()


@pytest.mark.parametrize("version", VERSIONS)
def test_provisioning_gives_the_router_its_addresses_and_takes_them_back_clause_p4(
    version: Version, tmp_path: Path
) -> None:
    async def test() -> None:
        async with rig(tmp_path, version) as on:
            site = router_site(tmp_path, on.port)
            before = everything(on)
            await provisioned(site, "apply")
            (bridge,) = [row for row in on.rows("/interface/bridge") if ours(row)]
            assert (bridge["name"], bridge["protocol-mode"]) == ("edge-probe", "none")
            assert not any(row["bridge"] == "edge-probe" for row in on.rows("/interface/bridge/port"))
            addresses = {(row["address"], row["interface"]) for row in on.rows("/ip/address") if ours(row)}
            assert addresses == {(f"127.9.9.{last}/32", "edge-probe") for last in (2, 3)}
            menu = "/ip/route/rule" if version == "6.49" else "/routing/rule"
            rules = {row["src-address"].removesuffix("/32"): row["table"] for row in on.rows(menu) if ours(row)}
            assert rules["127.9.9.2"] == "edge-wan"
            assert rules["127.9.9.3"] == "edge-lte"
            assert "0 changes made" in await provisioned(site, "apply")
            await provisioned(site, "remove")
            assert not any(ours(row) for rows in everything(on).values() for row in rows if isinstance(row, dict))
            assert foreign(everything(on)).keys() == before.keys()

    run(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_site_that_goes_over_to_alias_addresses_leaves_no_bridge_behind(version: Version, tmp_path: Path) -> None:
    async def test() -> None:
        async with rig(tmp_path, version) as on:
            await provisioned(router_site(tmp_path, on.port), "apply")
            found = tomli.loads(GOOD.replace("FOLDER", str(tmp_path)))
            found["router"]["port"] = on.port
            site = parse(found, "site.toml")
            await provisioned(site, "apply")
            assert not any(ours(row) for row in on.rows("/interface/bridge"))
            assert {row["address"] for row in on.rows("/ip/address") if ours(row)} == {"127.9.9.1/29"}
            assert "0 changes made" in await provisioned(site, "apply")

    run(test)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_dead_line_is_left_in_six_seconds_and_comes_back_clause_l2(version: Version, tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path, version) as (on, daemon):
            await until(lambda: (verdict(daemon, "primary"), verdict(daemon, "lte")) == ("up", "up"))
            cut(on)
            began_s, beats = clock.mono_s(), Beats()
            await until(lambda: on_lte(on))
            assert clock.mono_s() - began_s > 4.0
            assert beats.end() < 8.0
            cut(on, lost=False)
            await until(lambda: verdict(daemon, "primary") == "up")
            spoken = pings(on)
            assert {words[0] for words in spoken} == {"/ping" if version == "6.49" else "/tool/ping"}
            for source, targets in (("127.9.9.2", PRIMARY), ("127.9.9.3", LTE)):
                mine = [words for words in spoken if f"=src-address={source}" in words]
                assert {words[1] for words in mine} == {f"=address={target}" for target in targets}
                assert all("=size=28" in words for words in mine)
            # The primary's never end, one for each target through the whole outage.
            assert sum("=src-address=127.9.9.2" in words for words in spoken) == len(PRIMARY)

    run(test)


def test_all_pings_go_over_one_connection_of_four(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as (on, daemon):
            await until(lambda: (verdict(daemon, "primary"), verdict(daemon, "lte")) == ("up", "up"))
            await until(lambda: len(on.rows("/user/active")) == 4)

    run(test)


def test_one_lost_target_is_no_outage_clause_p5(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as (on, daemon):
            await until(lambda: verdict(daemon, "lte") == "up" and verdict(daemon, "primary") == "up")
            cut(on, PRIMARY[:2])
            rounds = daemon.pinged["primary"].number
            await until(lambda: daemon.pinged["primary"].number >= rounds + 8)
            assert verdict(daemon, "primary") == "up"
            assert not on_lte(on)
            cut(on)  # the control: now all are dead
            await until(lambda: on_lte(on))

    run(test)


@pytest.mark.parametrize("kind", ["hang", "drop"])
def test_an_api_that_breaks_is_no_outage_and_the_pings_come_back_clause_p5(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "SILENCE_S", 1.5)

    async def test() -> None:
        async with running(tmp_path) as (on, daemon):
            await until(lambda: verdict(daemon, "lte") == "up" and verdict(daemon, "primary") == "up")
            on.strike(kind, "/tool/ping")
            for session in list(on.router.sessions.values()):
                session.close()
            await until(lambda: "probes_not_sent" in daemon.loop.state.faults.raised)
            assert verdict(daemon, "primary") == "up"
            assert not on_lte(on)
            cut(on)
            on.router.misbehaviour.clear()
            await until(lambda: on_lte(on))  # and what they say then counts

    run(test)


def test_a_user_without_the_test_policy_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with running(tmp_path) as (on, _):
            on.strike("lost_policy", "/tool/ping", policy="test")
            for session in list(on.router.sessions.values()):
                session.close()
            await until(lambda: len(pings(on)) > 3 * 4)
            assert not on_lte(on)

    run(test)
    assert sum("not enough permissions" in record.message for record in caplog.records) == 1


def test_the_metered_path_is_pinged_once_a_minute_clause_m2() -> None:
    """Orders by an imagined clock: single echoes, never sooner than ordered, and a hurry that ends."""

    async def test() -> None:
        said: list[list[str]] = []
        stopped: list[str] = []
        takers: list[Take] = []
        now_s = 1000.0

        class Heard:
            def start(self, words: Sequence[str], take: Take, *, ends: bool) -> str:
                said.append(list(words))
                takers.append(take)
                assert ends == any(word.startswith("=count=") for word in words)
                return str(len(said))

            def stop(self, tag: str) -> None:
                stopped.append(tag)

        echoes: list[tuple[str, float, bool]] = []
        pinger = RouterPinger("10.0.0.1", ("192.0.2.9",), lambda *echo: echoes.append(echo), now=lambda: now_s)
        pinger.order(60.0)
        assert said == []
        pinger.attach(Heard(), "/ping")
        await until(lambda: len(said) == 1)
        assert said[0][0] == "/ping"
        assert said[0][-1] == "=count=1"
        takers[0]({"host": "192.0.2.9", "time": "20ms", "seq": "0"})
        assert echoes == [("192.0.2.9", 1000.0 - 0.02, True)]
        now_s += 5.0
        pinger.order(1.0)  # hurried
        await until(lambda: len(said) == 2)
        assert "=interval=1000ms" in said[1]
        assert not any(word.startswith("=count=") for word in said[1])
        takers[1]({"host": "192.0.2.9", "status": "timeout"})
        assert echoes[-1] == ("192.0.2.9", now_s - 1.0, False)
        pinger.order(60.0)
        assert stopped == ["1", "2"]
        assert pinger._timer is not None
        due_s = pinger._timer.when() - asyncio.get_running_loop().time()
        assert 58.0 < due_s <= 59.0
        pinger.close()
        await asyncio.sleep(0)
        assert len(said) == 2

    run(test)


class Told:
    """A path's rounds out of rows given by hand."""

    def __init__(self, site: Site) -> None:
        self.facts: list[Fact] = []
        self.path = PingedPath(site.paths[0], self.facts.append, clock.mono_s)
        self.path.order(Probing("primary", 1.0, 0))

    def rounds(self) -> dict[int, set[str]]:
        found: dict[int, set[str]] = {fact.number: set() for fact in self.facts if isinstance(fact, RoundSent)}
        for fact in self.facts:
            if isinstance(fact, ProbeReplied):
                found[fact.number].add(fact.target)
        return found


def test_rows_are_cut_into_rounds_where_a_target_speaks_again(tmp_path: Path) -> None:
    async def test() -> None:
        told = Told(router_site(tmp_path, 1))
        for target, answered in [("a", True), ("b", False), ("c", False), ("a", False), ("c", True), ("a", False)]:
            told.path._echoed({"a": PRIMARY[0], "b": PRIMARY[1], "c": PRIMARY[2]}[target], clock.mono_s(), answered)
        assert told.rounds() == {
            1: {"control", f"icmp:{PRIMARY[0]}"},
            2: {"control", f"icmp:{PRIMARY[2]}"},
            3: {"control"},
        }
        told.path.close()

    run(test)


def test_rounds_without_rows_claim_nothing_clause_p5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeagent.daemon.pollers.ANSWER_S", 0.0)

    async def test() -> None:
        told = Told(router_site(tmp_path, 1))
        told.path.order(Probing("primary", 0.02, 0))
        await until(lambda: len(told.facts) >= 3)
        told.path.close()
        assert all(isinstance(fact, RoundSent) and not fact.targets and not fact.control for fact in told.facts)

    run(test)


@pytest.mark.parametrize(
    ("text", "seconds"), [("23ms", 0.023), ("23ms401us", 0.023401), ("812us", 0.000812), ("1s2ms", 1.002), ("", None),
                          ("timeout", None), ("٣ms", 0.003), ("9" * 99 + "ms", None)]
)  # fmt: skip
def test_round_trips_are_read_as_both_versions_write_them(text: str, seconds: float | None) -> None:
    assert fine_seconds(text) == (pytest.approx(seconds) if seconds is not None else None)


def test_only_the_two_kinds_of_probe_are_known_and_aliases_are_asked_for_where_needed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"agent\.probe: found 'ping', expected one of icmp, router_ping"):
        router_site(tmp_path, 1, probe="ping")
    with pytest.raises(ConfigError, match=r"router\.alias_address: found nothing"):
        router_site(tmp_path, 1, probe="icmp")


def test_mail_leaves_from_the_agents_own_address(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as (_, daemon):
            assert daemon._voice_source() == "127.0.0.1"

    run(test)

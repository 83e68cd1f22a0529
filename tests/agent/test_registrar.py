"""A registrar by name: what site.toml may say, what is remembered, when the agent starts anew, without a wait."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edgeagent.cli import known
from edgeagent.config.redact import Redactor
from edgeagent.config.site import ConfigError, Site, parse, resolved
from edgeagent.core.facts import Fact, PartFailed, PartWorks
from edgeagent.daemon import registrar, survey
from edgeagent.daemon.registrar import DAY_S, FLOOR_S, GONE_S, OUTSIDE, UNRESOLVED, Registrar
from edgeagent.probes import dns
from edgeagent.probes.dns import A, Answer
from edgeagent.probes.errors import NameUnresolved
from edgeagent.routeros.dialect_v7 import DialectV7
from edgeagent.store.store import Store
from tests.adapters.test_dns import OWN, Resolver, record, resolver, response
from tests.agent.support import REGISTRAR, board, run, table
from tests.names import free_port

NAME, OTHER, FOREIGN = "sbc.provider.example", "127.30.0.11", "203.0.113.9"
RESOLVERS = ["127.40.0.53"]
Tree = dict[str, Any]


def named() -> Tree:
    """The good site with a name in place of the registrar's address."""
    found = table()
    found["provider"]["registrar"] = NAME
    found["path"]["primary"]["targets"][0] = NAME
    found["voice"] = {"resolvers": RESOLVERS}
    return found


def site() -> Site:
    return resolved(parse(named(), "site.toml"), REGISTRAR)


# -- site.toml --


def test_a_name_stands_for_its_address_wherever_it_is_written() -> None:
    found = named()
    found["provider"]["registrar"] = NAME.upper()
    found["path"]["lte"]["targets"] = [NAME, "127.40.0.3"]
    written = parse(found, "site.toml")
    assert written.provider.registrar == written.provider.registrar_name == NAME
    assert written.canaries == ("127.40.0.1", "127.40.0.2")
    site = resolved(written, REGISTRAR)
    assert site.provider.registrar == REGISTRAR
    assert [path.targets[0] for path in site.paths] == [REGISTRAR, REGISTRAR]
    assert site.settings().paths[0].registrar == f"icmp:{REGISTRAR}"
    assert NAME not in str([site.paths, site.settings()])


def test_what_is_known_with_the_address_is_the_same_as_if_it_were_written() -> None:
    plain = table()
    plain["voice"] = {"resolvers": RESOLVERS}
    known_board = board(DialectV7())
    by_address, by_name = survey.wish(parse(plain, "site.toml"), known_board), survey.wish(site(), known_board)
    assert set(by_name.agent_hosts) == {*by_address.agent_hosts, *RESOLVERS}  # the agent's own questions cross LTE
    assert not set(by_address.agent_hosts).intersection(RESOLVERS)


def refused(found: Tree) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        parse(found, "site.toml")
    return {problem.key: problem.expected for problem in caught.value.problems}


def test_a_name_that_nobody_can_be_asked_for_is_refused() -> None:
    found = named()
    del found["voice"]
    assert refused(found) == {"provider.registrar": "an address, or voice.resolvers that can be asked for the name"}


def test_targets_have_the_registrars_name_and_no_other() -> None:
    found = named()
    found["path"]["primary"]["targets"][0] = REGISTRAR  # the address that the name has today
    assert "path.primary.targets" in refused(found)
    found["path"]["primary"]["targets"] = [NAME, "www.example.net", "127.40.0.1"]
    assert refused(found) == {"path.primary.targets": f"addresses; the only name may be provider.registrar {NAME}"}


@pytest.mark.parametrize(
    "name",
    [
        *("sbc", "sbc.", ".sbc", "a..b", "-a.example", "a-.example", "1.2.3", "1.2.3.4.5", "a_b.example"),
        *("b\u00fccher.example", "a" * 64 + ".example", ".".join(["a" * 60] * 4) + ".example"),
        *("sbc.provider.example:5060", "sip:sbc.example"),
    ],
)
def test_what_is_neither_a_name_nor_an_address_is_refused(name: str) -> None:
    found = named()
    found["provider"]["registrar"] = name
    assert "provider.registrar" in refused(found)


def test_the_name_and_the_address_that_was_learnt_may_stand_in_the_log() -> None:
    redactor = Redactor(known.known(parse(named(), "site.toml"), {}))
    assert redactor.line(f"{NAME}: at {FOREIGN}") == f"{NAME}: at [address]"
    redactor.learn(FOREIGN)
    assert redactor.line(f"{NAME}: at {FOREIGN}") == f"{NAME}: at {FOREIGN}"


# -- what the disk remembers --


def test_the_last_good_address_outlives_the_process(tmp_path: Path) -> None:
    async def test() -> None:
        store = await Store.open(tmp_path / "store.db")
        await store.commit([], keep=registrar.kept(site(), OTHER))
        await store.close()
        opening = asyncio.create_task(Store.open(tmp_path / "store.db"))
        found = await registrar.first(parse(named(), "site.toml"), opening)
        assert (found.address, found.kept) == (OTHER, True)
        await opening.result().close()

    run(test)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\xff",
        b"[]",
        b"1",
        b'{"name": "sbc.provider.example"}',
        b'{"name": "other.provider.example", "address": "127.30.0.10"}',  # another name has been written since
        b'{"name": "sbc.provider.example", "address": "203.0.113.9"}',  # and other prefixes
        b'{"name": "sbc.provider.example", "address": "127.30.0.10/27"}',
        b'{"name": "sbc.provider.example", "address": ["127.30.0.10"]}',
    ],
)
def test_what_does_not_fit_site_toml_is_not_remembered(value: bytes | None) -> None:
    assert registrar.remembered(site(), value) == ""
    assert registrar.remembered(site(), registrar.kept(site(), OTHER)[registrar.KEPT]) == OTHER  # the control


# -- a start without memory --


async def never_opened() -> Store:
    """A disk that hangs."""
    await asyncio.Event().wait()
    raise AssertionError


def only_from(source: str, served: list[Resolver]) -> Callable[[bytes], list[bytes]]:
    """Answers questions that came by one path."""

    def reply(question: bytes) -> list[bytes]:
        address = record(OWN, A, bytes(map(int, REGISTRAR.split("."))))
        wanted = [address] if dns.decoded_question(question)[1][1] == A else []
        return [response(question, *wanted)] if served[0].heard[-1][1][0] == source else []

    return reply


@pytest.mark.parametrize("source", ["127.9.9.2", "127.9.9.3"])  # of the primary, of the backup
def test_a_disk_that_hangs_and_a_dead_primary_hold_no_start_up_clause_l6(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns, "ASK_S", 0.2)
    monkeypatch.setattr(registrar, "STORE_S", 0.2)
    monkeypatch.setattr(dns, "PORT", free_port(RESOLVERS[0]))

    async def test() -> None:
        opening = asyncio.create_task(never_opened())
        served: list[Resolver] = []
        async with resolver(RESOLVERS[0], dns.PORT, only_from(source, served)) as one:
            served.append(one)
            found = await registrar.first(parse(named(), "site.toml"), opening)
        assert (found.address, found.kept) == (REGISTRAR, False)
        assert [*dict.fromkeys(sender[0] for _, sender in one.heard)][-1] == source
        opening.cancel()

    run(test)


# -- following the name --


class Leaping(selectors.DefaultSelector):
    """Nothing happens but what is due: time leaps to it."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        self.now_s += timeout or 0.0
        return super().select(0)


@dataclass
class Life:
    """One run of the agent. ``answers``: by the second; None: nobody answers."""

    answers: Callable[[float], tuple[str, ...] | None]
    ttl_s: int = 300
    quiet: Callable[[float], bool] = lambda _: True
    disk: Callable[[float], bool] = lambda _: True
    asked_s: list[float] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    told: list[Fact] = field(default_factory=list)
    ended_s: float | None = None

    def live(self, seconds: float, *, kept: bool = True) -> Life:
        selector = Leaping()
        loop = asyncio.SelectorEventLoop(selector)
        loop.time = lambda: selector.now_s - 1000.0  # type: ignore[method-assign]

        async def ask() -> Answer:
            self.asked_s.append(loop.time())
            found = self.answers(loop.time())
            if found is None:
                raise NameUnresolved("nobody answers")
            return Answer(found, self.ttl_s)

        async def keep(address: str) -> bool:
            if self.disk(loop.time()):
                self.kept.append(address)
            return self.disk(loop.time())

        async def life() -> None:
            following = Registrar(
                site(), ask, keep, lambda: self.quiet(loop.time()), self.told.append, now=lambda: loop.time()
            )
            async with asyncio.timeout(seconds):
                await following.follow(0.0, kept=kept)
            self.ended_s = loop.time()

        try:
            loop.run_until_complete(life())
        except TimeoutError:
            pass
        finally:
            loop.close()
        return self

    def faults(self) -> list[str]:
        """What was told, without repetitions."""
        codes = [fact.code if isinstance(fact, PartFailed) else "" for fact in self.told]
        assert all(isinstance(fact, PartFailed | PartWorks) for fact in self.told)
        return [code for at, code in enumerate(codes) if at == 0 or codes[at - 1] != code]


@pytest.mark.parametrize(("ttl_s", "every_s"), [(0, FLOOR_S), (30, FLOOR_S), (7200, 7200), (604800, DAY_S)])
def test_it_is_asked_for_when_its_time_is_over_within_bounds(ttl_s: int, every_s: float) -> None:
    life = Life(lambda _: (REGISTRAR,), ttl_s).live(3 * every_s + 1)
    assert life.asked_s == [0.0, every_s, 2 * every_s, 3 * every_s]
    assert (life.kept, life.faults(), life.ended_s) == ([], [""], None)


def test_an_address_that_is_new_to_the_disk_is_kept_once() -> None:
    for ttl_s in (0, 604800):
        life = Life(lambda _: (OTHER, REGISTRAR), ttl_s, disk=lambda at_s: at_s > 1000).live(2000, kept=False)
        assert (life.kept, life.ended_s) == ([REGISTRAR], None)


def test_another_address_is_kept_and_started_with_once_the_present_one_has_gone() -> None:
    life = Life(lambda at_s: (REGISTRAR,) if at_s < 7000 else (FOREIGN, OTHER), 3600).live(DAY_S)
    assert life.kept == [OTHER]
    assert life.ended_s == 7200 + GONE_S
    assert life.faults() == [""]


def test_a_name_server_that_hands_out_one_of_several_in_turn_starts_nothing() -> None:
    turns = (REGISTRAR, OTHER, "127.30.0.12", "127.30.0.13")
    life = Life(lambda at_s: (turns[int(at_s / FLOOR_S) % 4],)).live(30 * DAY_S)
    assert (life.kept, life.ended_s) == ([], None)
    assert min(later - earlier for earlier, later in zip(life.asked_s, life.asked_s[1:], strict=False)) == FLOOR_S
    gone = Life(lambda at_s: (turns[1 + int(at_s / FLOOR_S) % 3],)).live(DAY_S)  # the control
    assert gone.ended_s == GONE_S


def test_nobody_is_disturbed_by_a_new_start() -> None:
    life = Life(lambda _: (OTHER,), quiet=lambda at_s: at_s > 40_000).live(DAY_S)
    assert life.ended_s is not None
    assert 40_000 < life.ended_s <= 40_000 + FLOOR_S
    assert life.kept == [OTHER]
    busy = Life(lambda at_s: (OTHER,) if at_s < 20_000 else (REGISTRAR,), quiet=lambda at_s: at_s > 40_000)
    assert busy.live(DAY_S).ended_s is None  # it has come back meanwhile


def test_what_the_disk_does_not_take_is_not_started_with() -> None:
    assert Life(lambda _: (OTHER,), disk=lambda _: False).live(DAY_S).ended_s is None
    assert Life(lambda _: (OTHER,)).live(DAY_S).ended_s == GONE_S  # the control


def test_addresses_outside_the_prefixes_are_a_fault_and_the_present_one_stays() -> None:
    life = Life(lambda at_s: (FOREIGN,) if at_s < 50_000 else (REGISTRAR,)).live(DAY_S)
    assert (life.kept, life.ended_s, life.faults()) == ([], None, [OUTSIDE, ""])


def test_a_name_that_nobody_tells_is_a_fault_and_the_present_address_stays() -> None:
    life = Life(lambda at_s: None if at_s < 50_000 else (REGISTRAR,)).live(DAY_S)
    assert (life.kept, life.ended_s, life.faults()) == ([], None, [UNRESOLVED, ""])

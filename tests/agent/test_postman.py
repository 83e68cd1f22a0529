"""Delivery of what is queued: when, in which form, in order, with one Message-ID, by the path that carries voice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from edgeagent.core.facts import Fact, Instant, PartFailed, PartWorks
from edgeagent.core.intents import Notify
from edgeagent.core.settings import MailSettings
from edgeagent.daemon import postman
from edgeagent.daemon.outbox import Outbox
from edgeagent.daemon.postman import Postman
from edgeagent.outlets import mail
from edgeagent.outlets.mail import MailRefused, MailServer, MailUnreachable, Receipt
from edgeagent.store.errors import StoreUnavailable
from edgeagent.store.records import Outgoing
from edgeagent.store.store import Store
from tests.agent.support import run, site_at

SERVER = MailServer("127.0.0.1", 465, "tls", "mail.example", "u", "p")
CUT, REFUSED = MailUnreachable("connect", "nobody"), MailRefused("recipient", 550, "no")
UNTRUSTED = MailUnreachable("certificate", "not yet valid")


class Bed:
    """A postman whose server does as ``fails`` says: by kind, what it answers instead of taking the message."""

    def __init__(self, folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch, delay_s: float) -> None:
        self.site = site_at(folder)
        self.store: Store | None = store
        self.now_s = 100.0
        self.boot, self.wall_s, self.wall_quality = "boot-1", 1_785_500_000.0, "synced"  # the wall time at second 0
        self.source = "127.9.9.3"
        self.fails: dict[str, Exception] = {}
        self.taken_then_lost: set[str] = set()
        self.refused: tuple[str, ...] = ()
        self.ends_at_goodbye = False
        self.sent: list[tuple[str, str]] = []
        self.to: list[tuple[str, ...]] = []
        self.told: list[Fact] = []
        self.unstored: list[Outgoing] = []
        outbox = Outbox(lambda: self.store, lambda: self.unstored, self.pending, self.instant)
        self.postman = Postman(
            self.site, lambda: SERVER, outbox, lambda: self.source, self.instant, self.told.append,
            MailSettings(delay_s=delay_s),
        )  # fmt: skip
        monkeypatch.setattr(mail, "submit", self.submit)

    def pending(self) -> set[str]:
        return {message.message_id for message in self.unstored}

    def instant(self) -> Instant:
        return Instant(self.now_s, self.boot, self.wall_s + self.now_s, self.wall_quality)

    async def submit(
        self, message: Any, _server: MailServer, source: str, _deadline_s: float, recipients: tuple[str, ...] = (),
        handing_over: Callable[[], Awaitable[None]] | None = None, taken: Callable[[Receipt], None] | None = None,
    ) -> Receipt:  # fmt: skip
        kind = message["X-Edgeagent-Incident"].split("; ")[1]
        if kind in self.fails:
            raise self.fails[kind]
        assert handing_over is not None
        await handing_over()
        self.sent.append((message["Message-ID"], source))
        self.to.append(recipients)
        if kind in self.taken_then_lost:
            raise MailUnreachable("lost", "after the dot", maybe_taken=True)
        assert taken is not None
        taken(Receipt("250 ok", self.refused))
        if self.ends_at_goodbye:
            raise MailUnreachable("lost", "at the goodbye", maybe_taken=True)
        return Receipt("250 ok", self.refused)

    async def queue(self, kind: str, audience: str = "support", incident: str = "i-1") -> None:
        notice = Notify(incident, kind, audience, {"path": "lte", "wall_quality": "synced"})
        message = postman.outgoing(self.site, notice, self.instant())
        if self.store is None:
            self.unstored.append(message)
        else:
            await self.store.commit([], outbox=[message])

    async def later(self, seconds: float) -> None:
        self.now_s += seconds
        await self.postman._round()

    def kinds(self) -> list[str]:
        return [message_id.split(".")[2] for message_id, _ in self.sent]


def bed(folder: Path, monkeypatch: pytest.MonkeyPatch, test: Any, delay_s: float = 0.0) -> None:
    async def go() -> None:
        store = await Store.open(folder / "store.db")
        try:
            await test(Bed(folder, store, monkeypatch, delay_s))
        finally:
            await store.close()

    run(go)


def test_restored_never_overtakes_failover_clause_n1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(it: Bed) -> None:
        it.taken_then_lost = {"failover"}  # so that it cannot be merged
        await it.queue("failover")
        await it.later(0.0)
        await it.queue("restored")
        await it.later(1.0)  # failover waits for its next try
        assert it.kinds() == ["failover"]
        it.taken_then_lost = set()
        await it.later(10.0)
        assert it.kinds() == ["failover", "failover", "restored"]

    bed(tmp_path, monkeypatch, test)


def test_a_blip_undone_before_its_first_mail_is_one_summary_clause_n1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(it: Bed) -> None:
        await it.queue("failover")
        await it.later(40.0)
        assert it.sent == []
        await it.queue("restored")
        await it.later(0.0)
        assert it.kinds() == ["summary"]
        assert it.store is not None
        assert await it.store.outbox_count() == 0
        await it.later(1000.0)
        assert it.kinds() == ["summary"]

    bed(tmp_path, monkeypatch, test, delay_s=45.0)


def test_what_a_server_may_have_taken_is_sent_again_as_it_was_also_by_a_new_process_clause_n3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def before(it: Bed) -> None:
        it.taken_then_lost = {"failover"}
        await it.queue("failover")
        await it.later(0.0)

    async def after(it: Bed) -> None:
        await it.queue("restored")
        await it.later(0.0)
        assert it.kinds() == ["failover", "restored"]  # no summary: the failover may be there already
        assert it.sent[0][0] == "<site-7.i-1.failover.support@provider.example>"

    bed(tmp_path, monkeypatch, before)
    bed(tmp_path, monkeypatch, after)


def test_a_retry_keeps_its_message_id_across_restarts_and_is_sent_once_clause_n3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def before(it: Bed) -> None:
        it.fails = {"failover": CUT}
        await it.queue("failover")
        await it.later(0.0)
        assert it.postman.failed == "mail_unreachable"

    async def after(it: Bed) -> None:
        await it.queue("failover")  # the same notice again is the same message
        await it.later(400.0)
        await it.later(0.0)
        assert it.sent == [("<site-7.i-1.failover.support@provider.example>", "127.9.9.3")]

    bed(tmp_path, monkeypatch, before)
    bed(tmp_path, monkeypatch, after)


def test_mail_leaves_by_the_path_that_carries_voice_and_at_once_when_that_changes_clause_n4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(it: Bed) -> None:
        it.fails = {"failover": CUT}
        await it.queue("failover")
        for _ in range(8):
            await it.later(60.0)  # the waits have grown
        it.fails, it.source = {}, "127.9.9.2"
        await it.later(1.0)
        assert it.sent == []
        it.postman.way_changed()
        await it.later(0.0)
        assert [source for _, source in it.sent] == ["127.9.9.2"]

    bed(tmp_path, monkeypatch, test)


def test_a_certificate_that_is_wrong_until_the_clock_is_set_delays_a_mail_by_a_minute_at_most_clause_n4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(it: Bed) -> None:
        it.fails = {"failover": CUT}
        await it.queue("failover")
        for _ in range(60):
            await it.later(61.0)  # a long outage of all lines
        it.fails = {"failover": UNTRUSTED}
        for _ in range(58):
            await it.later(61.0)  # the line is back; who sets the clock takes his time
        it.fails = {}
        await it.later(60.0)
        assert it.kinds() == ["failover"]

    bed(tmp_path, monkeypatch, test)


def test_a_certificate_that_is_wrong_for_an_hour_is_not_asked_for_each_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(it: Bed) -> None:
        tries = 0

        async def untrusted(*_: Any, **__: Any) -> None:
            nonlocal tries
            tries += 1
            raise UNTRUSTED

        monkeypatch.setattr(mail, "submit", untrusted)
        await it.queue("failover")
        for _ in range(61):
            await it.later(60.0)
        assert tries >= 60
        before = tries
        for _ in range(60):
            await it.later(60.0)
        assert tries - before <= 4
        it.postman.way_changed()  # another path, perhaps without the page that answered here
        for _ in range(30):
            await it.later(60.0)
        assert tries - before >= 30

    bed(tmp_path, monkeypatch, test)


def test_a_new_way_is_tried_as_if_there_had_been_no_other_clause_n4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(it: Bed) -> None:
        it.fails = {"failover": CUT}
        await it.queue("failover")
        for _ in range(20):
            await it.later(60.0)
        it.postman.way_changed()
        await it.later(0.0)  # the new path is not quite there yet
        it.fails = {}
        await it.later(4.0)
        assert it.kinds() == ["failover"]

    bed(tmp_path, monkeypatch, test)


def test_a_refusal_stands_on_any_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(it: Bed) -> None:
        it.fails = {"failover": REFUSED}
        await it.queue("failover")
        await it.later(0.0)
        it.fails = {}
        it.postman.way_changed()
        await it.later(60.0)
        assert it.sent == []

    bed(tmp_path, monkeypatch, test)


def test_a_clock_that_is_behind_after_a_reboot_holds_no_mail_back_clauses_n4_c4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def before(it: Bed) -> None:
        for number in range(6):
            await it.queue("failover", incident=f"i-{number}")
            await it.later(1.0)
        assert len(it.sent) == 6

    async def another_boot(it: Bed) -> None:
        it.boot, it.now_s, it.wall_s, it.wall_quality = "boot-2", 10.0, 1_735_689_600.0, "unknown"
        for number in range(6, 14):  # more than an hour may have (clause N5)
            await it.queue("failover", incident=f"i-{number}")
            await it.later(1.0)
        assert len(it.sent) == 6
        # The clock is set: it is ten minutes after the first ones.
        it.wall_s, it.wall_quality = 1_785_500_700.0, "synced"
        await it.later(3590.0)
        assert len(it.sent) == 6
        await it.later(20.0)
        assert len(it.sent) == 8

    async def a_third_boot(it: Bed) -> None:
        it.boot, it.now_s, it.wall_s = "boot-3", 10.0, 1_785_505_000.0
        done = it.postman.outbox.done
        await it.later(0.0)
        # What left while the clock was not set is noted without a time of day: nobody could tell how long ago it was.
        assert [one.at.wall is None for one in done()] == [False] * 6 + [True] * 6 + [False] * 2

    bed(tmp_path, monkeypatch, before)
    bed(tmp_path, monkeypatch, another_boot)
    bed(tmp_path, monkeypatch, a_third_boot)


def test_what_left_before_a_slow_disk_could_be_read_counts_once_clause_n4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(it: Bed) -> None:
        store, it.store = it.store, None
        assert store is not None
        await it.queue("failover")
        await it.later(0.0)
        await store.commit([], outbox=it.unstored)
        it.store, it.unstored = store, []
        await it.later(1.0)
        await it.later(1.0)
        assert [sent.message_id for sent in await store.outbox_sent()] == [it.sent[0][0].strip("<>")]
        assert [one.incident for one in it.postman.outbox.done()] == ["i-1"]

    bed(tmp_path, monkeypatch, test)


def test_a_refusal_for_good_is_a_fault_and_is_not_repeated_every_minute_clause_n2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(it: Bed) -> None:
        it.fails = {"failover": REFUSED}
        await it.queue("failover")
        await it.later(0.0)
        assert it.told == [PartFailed("mail support", "mail_refused", 100.0)]
        it.fails = {}
        await it.later(600.0)
        assert it.sent == []
        await it.later(301.0)
        assert it.kinds() == ["failover"]
        assert it.told[1:] == [PartWorks("mail support", 1001.0)]

    bed(tmp_path, monkeypatch, test)


def test_recipients_that_were_refused_are_tried_again_alone_clause_n2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(it: Bed) -> None:
        it.refused = ("late@provider.example",)
        await it.queue("failover")
        await it.later(0.0)
        it.refused = ()
        await it.later(901.0)
        assert it.to == [(), ("late@provider.example",)]
        await it.later(5000.0)
        assert len(it.sent) == 2

    bed(tmp_path, monkeypatch, test)


def test_a_goodbye_that_fails_sends_nothing_twice_clause_n3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(it: Bed) -> None:
        it.ends_at_goodbye = True
        await it.queue("failover")
        for _ in range(5):
            await it.later(1000.0)
        assert it.kinds() == ["failover"]
        assert it.told == []

    bed(tmp_path, monkeypatch, test)


def test_what_left_before_its_row_was_there_does_not_leave_again_after_a_restart_clause_n3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(it: Bed) -> None:
        store, it.store = it.store, None
        assert store is not None
        await it.queue("failover")  # in memory: the disk is full
        it.store = store  # it takes changes, as changing no row succeeds on a full disk
        await it.later(0.0)
        assert it.kinds() == ["failover"]
        await store.commit([], outbox=it.unstored)  # there is room again
        it.unstored = []
        await it.later(1.0)
        again = Outbox(lambda: store, list, set, it.instant)
        assert await again.queue() == []

    bed(tmp_path, monkeypatch, test)


def test_a_mail_without_words_stops_no_other_clause_l5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(it: Bed) -> None:
        await it.queue("of a later version", incident="i-0")
        await it.queue("failover")
        await it.later(0.0)
        assert it.kinds() == ["failover"]
        assert PartFailed("mail support", "mail_unusable", 100.0) in it.told

    bed(tmp_path, monkeypatch, test)


def test_one_dead_address_keeps_nothing_from_the_others_and_counts_once_clause_n4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(it: Bed) -> None:
        it.refused = ("dead@provider.example",)
        for incident in range(8):
            await it.queue("failover", incident=f"i-{incident}")
            await it.queue("restored", incident=f"i-{incident}")
            await it.later(46.0)
        first = [where for where, to in zip(it.sent, it.to, strict=True) if to == ()]
        assert len(first) == 6  # as many as an hour may have (clause N5), and no more
        assert len({message_id for message_id, _ in first}) == 6
        await it.later(3700.0)
        assert len([to for to in it.to if to == ()]) > 6
        assert {to for to in it.to if to != ()} == {("dead@provider.example",)}

    bed(tmp_path, monkeypatch, test, delay_s=0.0)


def test_a_full_or_missing_disk_holds_no_mail_up_and_none_leaves_twice_clause_c3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(it: Bed) -> None:
        store, it.store = it.store, None
        await it.queue("failover")
        await it.later(0.0)
        assert it.kinds() == ["failover"]
        await it.later(100.0)
        assert it.kinds() == ["failover"]
        # The disk is back: the loop writes what it had, and the outbox says that it has left.
        assert store is not None
        await store.commit([], outbox=it.unstored)
        it.store = store
        it.unstored = []
        await it.later(100.0)
        assert it.kinds() == ["failover"]
        assert await store.outbox_count() == 0

    bed(tmp_path, monkeypatch, test)


def test_mails_in_a_file_that_is_damaged_meanwhile_are_saved_again_clause_n2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(it: Bed) -> None:
        store = it.store
        assert store is not None
        it.fails = {"failover": CUT}
        it.taken_then_lost = {"restored"}
        await it.queue("failover", "support")
        await it.queue("restored", "customer")
        await it.later(0.0)
        # The disk fails; when it is back, what is on it is not what was written.
        database = store._database
        database.close()
        (tmp_path / "store.db").write_bytes(b"not a database at all" * 500)
        await it.later(100.0)
        await it.later(100.0)
        assert store.aside is not None
        queued = {one.kind: one.maybe_taken for one in await store.outbox_queued()}
        assert queued == {"failover": False, "restored": True}
        it.fails, it.taken_then_lost = {}, set()
        it.sent.clear()
        await it.later(1000.0)
        assert sorted(it.kinds()) == ["failover", "restored"]
        assert await store.outbox_count() == 0

    bed(tmp_path, monkeypatch, test)


def test_a_store_that_fails_after_the_sending_does_not_make_it_happen_twice_clause_n3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(it: Bed) -> None:
        async def refuses(*_: Any, **__: Any) -> None:
            raise StoreUnavailable("full", "here")

        await it.queue("failover")
        with monkeypatch.context() as broken:
            broken.setattr(it.store, "mark_sent", refuses)
            await it.later(0.0)
            await it.later(100.0)
        assert it.kinds() == ["failover"]
        await it.later(100.0)
        assert it.kinds() == ["failover"]
        assert it.store is not None
        assert await it.store.outbox_count() == 0

    bed(tmp_path, monkeypatch, test)


def test_a_message_that_no_server_would_take_does_not_stop_the_others_clause_n2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(it: Bed) -> None:
        def broken(one: Any, real: Any = it.postman._message) -> Any:
            if one.notice.audience == "customer":
                raise ValueError("odd")
            return real(one)

        monkeypatch.setattr(it.postman, "_message", broken)
        await it.queue("failover", "customer")
        await it.queue("failover", "support")
        await it.later(0.0)
        assert len(it.sent) == 1
        assert PartFailed("mail customer", "mail_unusable", 100.0) in it.told
        assert it.store is not None
        assert await it.store.outbox_count() == 1

    bed(tmp_path, monkeypatch, test)


def test_after_seven_days_a_mail_is_given_up_and_that_is_a_fault_clause_n2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(it: Bed) -> None:
        it.fails = {"failover": CUT}
        await it.queue("failover")
        await it.later(7 * 86400.0 - 1)
        assert it.store is not None
        assert await it.store.outbox_count() == 1
        await it.later(2.0)
        await it.later(0.0)
        assert await it.store.outbox_count() == 0
        assert [fact.code for fact in it.told if isinstance(fact, PartFailed)][-1] == "mail_too_old"
        ends = [fact for fact in it.told if fact == PartWorks("outbox", it.now_s)]
        await it.later(postman.DROPPED_S - 10)
        assert ends == [fact for fact in it.told if isinstance(fact, PartWorks) and fact.part == "outbox"] == []
        await it.later(20.0)
        assert PartWorks("outbox", it.now_s) in it.told

    bed(tmp_path, monkeypatch, test)


def test_a_failed_try_is_written_once_and_not_each_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(it: Bed) -> None:
        written = []
        assert it.store is not None
        real = it.store.mark_try

        async def counted(*args: Any, **named: Any) -> None:
            written.append(args)
            await real(*args, **named)

        monkeypatch.setattr(it.store, "mark_try", counted)
        it.fails = {"failover": CUT}
        await it.queue("failover")
        for _ in range(50):
            await it.later(61.0)
        assert len(written) == 1

    bed(tmp_path, monkeypatch, test)


def test_the_postman_ends_when_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(it: Bed) -> None:
        task = asyncio.create_task(it.postman.run())
        for _ in range(5):
            await asyncio.sleep(0.01)
            it.postman.wake.set()
        task.cancel()
        await asyncio.wait([task], timeout=2)
        assert task.cancelled()

    bed(tmp_path, monkeypatch, test)


@pytest.mark.parametrize("slow", ["build", "_tls_context"])
def test_a_card_that_is_slow_to_give_what_a_mail_needs_delays_no_probe_clause_l6(
    slow: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The libraries, with the first mail, and the authorities' certificates, with each."""
    real, submit = getattr(mail, slow), mail.submit

    def slowly(argument: Any) -> Any:
        time.sleep(0.5)
        return real(argument)

    async def worst_lag_s(until: asyncio.Task[None]) -> float:
        worst_s = 0.0
        while not until.done():
            begun_s = time.monotonic()
            await asyncio.sleep(0.01)
            worst_s = max(worst_s, time.monotonic() - begun_s)
        return worst_s

    async def test(it: Bed) -> None:
        monkeypatch.setattr(mail, "submit", submit)
        monkeypatch.setattr(mail, slow, slowly)
        await it.queue("failover")
        begun_s = time.monotonic()
        assert await worst_lag_s(asyncio.create_task(it.later(0.0))) < 0.3
        assert time.monotonic() - begun_s > 0.5, "the control: it was slow"
        assert it.postman.failed is not None, "it was tried; there is no server"

    bed(tmp_path, monkeypatch, test)

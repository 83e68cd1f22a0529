"""Delivery of what is queued: in order, with one Message-ID, by the path that carries voice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from edgeagent.core.facts import Fact, Instant, NoticeSent
from edgeagent.core.intents import Notify
from edgeagent.daemon import postman
from edgeagent.daemon.postman import Postman
from edgeagent.outlets import mail
from edgeagent.outlets.mail import MailServer, MailUnreachable
from edgeagent.store.store import Store
from tests.agent.support import run, site_at

SERVER = MailServer("127.0.0.1", 465, "tls", "mail.example", "u", "p")


class Bed:
    def __init__(self, folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site = site_at(folder)
        self.store = store
        self.now_s = 100.0
        self.source = "127.9.9.3"
        self.fails: set[str] = set()
        self.sent: list[tuple[str, str]] = []
        self.told: list[Fact] = []
        self.postman = Postman(self.site, SERVER, store, lambda: self.source, self.instant, self.told.append)
        monkeypatch.setattr(mail, "submit", self.submit)

    def instant(self) -> Instant:
        return Instant(self.now_s, "boot-1", 1_785_500_000.0, "synced")

    async def submit(self, message: Any, _server: MailServer, source: str, _deadline_s: float) -> str:
        kind = message["X-Edgeagent-Incident"].split("; ")[1]
        if kind in self.fails:
            raise MailUnreachable("connect", "nobody there")
        self.sent.append((message["Message-ID"], source))
        return "250 ok"

    async def queue(self, kind: str, audience: str = "support") -> None:
        notice = Notify("i-1", kind, audience, {"path": "lte", "wall_quality": "synced"})
        await self.store.commit([], outbox=[postman.outgoing(self.site, notice, self.instant())])

    def kinds(self) -> list[str]:
        return [message_id.split(".")[2] for message_id, _ in self.sent]


def bed(folder: Path, monkeypatch: pytest.MonkeyPatch, test: Any) -> None:
    async def go() -> None:
        store = await Store.open(folder / "store.db")
        try:
            await test(Bed(folder, store, monkeypatch))
        finally:
            await store.close()

    run(go)


def test_restored_never_overtakes_failover_clause_n1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(it: Bed) -> None:
        it.fails = {"failover"}
        await it.queue("failover")
        await it.postman._round()
        it.now_s += 1.0  # failover waits for its next try
        await it.queue("restored")
        it.fails = set()
        await it.postman._round()
        assert it.sent == []
        it.now_s += 10.0
        await it.postman._round()
        assert it.kinds() == ["failover", "restored"]
        assert all(isinstance(fact, NoticeSent) for fact in it.told)

    bed(tmp_path, monkeypatch, test)


def test_a_retry_keeps_its_message_id_across_restarts_and_is_sent_once_clause_n3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def before(it: Bed) -> None:
        it.fails = {"failover"}
        await it.queue("failover")
        await it.postman._round()
        assert "nobody there" in (it.postman.failed or "")

    async def after(it: Bed) -> None:
        it.now_s += 400.0
        await it.queue("failover")  # the same notice again is the same message
        await it.postman._round()
        await it.postman._round()
        assert it.sent == [("<site-7.i-1.failover.support@provider.example>", "127.9.9.3")]

    bed(tmp_path, monkeypatch, before)
    bed(tmp_path, monkeypatch, after)


def test_mail_leaves_by_the_path_that_carries_voice_clause_n4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(it: Bed) -> None:
        await it.queue("failover")
        await it.postman._round()
        it.source = "127.9.9.2"
        await it.queue("restored")
        await it.postman._round()
        assert [source for _, source in it.sent] == ["127.9.9.3", "127.9.9.2"]

    bed(tmp_path, monkeypatch, test)


def test_a_message_that_no_server_would_take_does_not_stop_the_others_clause_n2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(it: Bed) -> None:
        def broken(queued: Any, real: Any = it.postman._message) -> Any:
            if queued.audience == "customer":
                raise ValueError("odd")
            return real(queued)

        monkeypatch.setattr(it.postman, "_message", broken)
        await it.queue("failover", "customer")
        await it.queue("failover", "support")
        await it.postman._round()
        assert len(it.sent) == 1
        assert await it.store.outbox_count() == 1

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

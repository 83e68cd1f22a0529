"""The whole way of a mail, from the outbox on disk to a server that fails first and mends then (clauses N1 to N4)."""

from __future__ import annotations

import asyncio
import re
import ssl
from pathlib import Path
from typing import Any

import pytest

from edgeagent.core.facts import Fact, Instant, PartFailed, PartWorks
from edgeagent.core.intents import Notify
from edgeagent.core.settings import MailSettings
from edgeagent.daemon import postman
from edgeagent.daemon.outbox import Outbox
from edgeagent.daemon.postman import Postman
from edgeagent.outlets.mail import MailServer
from edgeagent.store.store import Store
from tests.adapters.certificates import certificate
from tests.adapters.smtp import Answers, Smtp
from tests.agent.support import GUARD_S, run, site_at

GOOD: Answers = {}
SILENT_S = 0.6


class Bed:
    """One postman with a real store and a scripted server behind real TLS; time between rounds is made up."""

    def __init__(self, folder: Path, store: Store, port: int, ca: str) -> None:
        self.store, self.site = store, site_at(folder)
        self.now_s = 100.0
        self.told: list[Fact] = []
        self.port, self.ca = port, ca
        outbox = Outbox(lambda: store, list, set, self.instant)
        self.postman = Postman(
            self.site,
            self.server,
            outbox,
            lambda: "127.0.0.5",
            self.instant,
            self.told.append,
            MailSettings(delay_s=0.0),
        )

    def server(self) -> MailServer:
        return MailServer("127.0.0.1", self.port, "tls", "mail.example", "site-7", "s3cret", self.ca)

    def instant(self) -> Instant:
        return Instant(self.now_s, "boot-1", 1_785_500_000.0 + self.now_s, "synced")

    async def queue(self, kind: str) -> None:
        notice = Notify("i-1", kind, "support", {"path": "lte", "wall_quality": "synced"})
        await self.store.commit([], outbox=[postman.outgoing(self.site, notice, self.instant())])

    async def later(self, seconds: float) -> None:
        self.now_s += seconds
        await self.postman._round()


def message_ids(smtp: Smtp) -> list[str]:
    return [re.search(rb"Message-ID: <(.*?)>", body)[1].decode() for body in smtp.stored]  # type: ignore[index]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("mail")
    context, pem, _ = certificate(folder, "mail.example")
    other, _, _ = certificate(folder, "other.example")
    (folder / "ca.pem").write_text(pem)
    return {"context": context, "other": other, "ca": str(folder / "ca.pem")}


FIRST, SECOND = "site-7.i-1.failover.support@provider.example", "site-7.i-1.restored.support@provider.example"
SUMMARY = "site-7.i-1.summary.support@provider.example"


@pytest.mark.parametrize(
    ("trouble", "fault", "taken", "arrives"),
    [
        ("closed", "mail_unreachable", [], [SUMMARY]),
        ({"GREET": None}, "mail_unreachable", [], [SUMMARY]),  # silent
        ({"RCPT": "450 greylisted, come back"}, "mail_unreachable", [], [SUMMARY]),
        ({"RCPT": "550 no such user"}, "mail_refused", [], [SUMMARY]),
        ({"AUTH": "535 wrong"}, "mail_login_refused", [], [SUMMARY]),
        ("other", "mail_untrusted", [], [SUMMARY]),  # TLS fails
        # From here on the server may have it: it is sent again as it was, and nothing is merged.
        ({".": "554 looks like spam"}, "mail_refused", [FIRST], [FIRST, SECOND]),
        ({".": ""}, "mail_unreachable", [FIRST], [FIRST, SECOND]),  # the answer is lost after the final dot
    ],
    ids=["refused", "silent", "greylisted", "5xx", "login", "tls", "spam", "answer-lost"],
)
def test_a_server_that_fails_and_mends(
    trouble: Any, fault: str, taken: list[str], arrives: list[str], tmp_path: Path, pki: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(postman, "DEADLINE_S", SILENT_S if trouble == {"GREET": None} else GUARD_S)

    async def go() -> None:
        store = await Store.open(tmp_path / "store.db")
        bad = Smtp(pki["context"], trouble if isinstance(trouble, dict) else GOOD, False)
        context: ssl.SSLContext = pki["other"] if trouble == "other" else pki["context"]
        listening = await asyncio.start_server(bad.serve, "127.0.0.1", 0, ssl=context)
        port = listening.sockets[0].getsockname()[1]
        if trouble == "closed":
            listening.close()
        it = Bed(tmp_path, store, port, pki["ca"])
        await it.queue("failover")
        await it.later(0.0)
        assert [fact.code for fact in it.told if isinstance(fact, PartFailed)] == [fault]
        assert message_ids(bad) == taken
        listening.close()
        monkeypatch.setattr(postman, "DEADLINE_S", GUARD_S)
        good = Smtp(pki["context"], GOOD, False)
        mended = await asyncio.start_server(good.serve, "127.0.0.1", 0, ssl=pki["context"])
        it.port = mended.sockets[0].getsockname()[1]
        await it.queue("restored")
        for _ in range(20):
            await it.later(60.0)
        assert message_ids(good) == arrives
        assert await store.outbox_count() == 0
        assert isinstance(it.told[-1], PartWorks)
        mended.close()
        await store.close()

    run(go)

"""The story: an installed site, its line dies, voice goes over LTE, the line returns, voice goes home, mails tell it.

What decides whether it succeeded is what others saw: the router's event log (the lease came and went) and the mail
server. Of the agent only its status is asked: is it home again.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from hil.bench import CannotRun
from hil.demo import site
from hil.demo.phones import Phones
from hil.demo.programs import DemoFailed, Programs
from hil.demo.sink import Mail, Sink
from hil.virtual.routeros.certificate import make_certificate

STEP_S = 0.25
# These only end what does not come: all of it together takes half a minute.
START_S, STATUS_S, FAILOVER_S, MAIL_S, HOME_S = 60.0, 60.0, 60.0, 30.0, 60.0
CALM_S, AWAY_S, LAST_S = 3.0, 2.0, 1.0  # to look at: before the line is cut, before it is mended, at the end
SOCKET_PATH_MAX = 90
LIST, SITE_LEASE = "/ip/firewall/address-list", "edge-lte-site"
T = TypeVar("T")
WANTED = {(kind, audience) for kind in ("failover", "restored") for audience in ("customer", "support")}


class Story:
    """One run in a folder of its own."""

    def __init__(self, folder: Path, version: str, *, refuse_mail: bool) -> None:
        self.folder = folder
        self.programs = Programs(folder, version)
        self.sink = Sink(site.SITE, site.PASSWORDS["mail.password"], refuse=refuse_mail)
        self.on_terminal = sys.stdout.isatty()
        self.phones: Phones | None = None
        self.cut = False
        self.document: dict[str, Any] = {}
        self.began_s = time.monotonic()
        self.cut_s = self.took_s = self.held_s = 0.0

    async def play(self) -> None:
        """All of it; raises DemoFailed with the reason."""
        try:
            await self._set_up()
            await self._outage()
            await self._way_home()
            self._judge()
        finally:
            self.sink.stop()
            await self.programs.stop_all()

    async def _set_up(self) -> None:
        programs = self.programs
        make_certificate(self.folder, site.HOST)
        await self.sink.start(site.HOST, self.folder)
        await self._within(START_S, "start of the virtual router", programs.start_router())
        site_file = site.write_site(self.folder, programs.router_port, self.sink.port)
        say(f"A virtual RouterOS {programs.version} and a mail server run on this machine; the site is {site_file}.")
        say("$ edgeagent provision --apply")
        say(await self._within(START_S, "provisioning", programs.provision(site_file)))
        self.phones = Phones(time.monotonic())
        await self._phones_step(self.phones)
        say("$ edgeagent run &")
        await programs.start_agent(site_file)
        await self._until(lambda: bool(self.document), START_S, "an answer of the agent")
        say("Soon the demo cuts the internet line, and mends it once voice has moved. Watch it:")
        say("$ edgeagent status --watch")
        await programs.start_view(site_file)
        both_up = "both paths up and six phones seen"
        await self._until(lambda: self._up("primary") and self._up("lte") and self._phones() == 6, STATUS_S, both_up)
        await self._pause(CALM_S)

    async def _outage(self) -> None:
        self.tell("the internet line is cut")
        await self._line(lost=True)
        self.cut_s = time.monotonic()
        await self._until(lambda: self._lease()[0] is not None, FAILOVER_S, "the lease that moves voice")
        await self._until(lambda: self._place() == ("away", "lte"), FAILOVER_S, "voice on LTE")
        await self._until(lambda: len(self.sink.mails) >= 2, MAIL_S, "the mails of the failover")
        await self._pause(AWAY_S)

    async def _way_home(self) -> None:
        self.tell("the internet line works again")
        await self._line(lost=False)
        await self._until(lambda: self._place() == ("home", "primary"), HOME_S, "voice back on the primary")
        await self._until(lambda: len(self.sink.mails) >= 4, MAIL_S, "the mails of the return")
        await self._pause(LAST_S)

    def _judge(self) -> None:
        """By the router's log and the mail server."""
        came_s, went_s = self._lease()
        if came_s is None or went_s is None:
            raise DemoFailed("the router's log does not show that the agent took the lease and gave it back")
        told = [tuple(part.strip() for part in mail.incident.split(";")) for mail in self.sink.mails]
        incidents, kinds = {parts[0] for parts in told}, sorted(parts[1:] for parts in told)
        if len(incidents) != 1 or kinds != sorted(WANTED):
            raise DemoFailed(f"expected one mail of each kind for each audience and one incident, found {told}")
        for mail, (_, _, audience) in zip(self.sink.mails, told, strict=True):
            expected = site.CUSTOMER if audience == "customer" else site.SUPPORT
            if mail.to != (expected,):
                raise DemoFailed(f"the mail for {audience} went to {mail.to}, not to {expected}")
        self.took_s, self.held_s = came_s - self.cut_s, went_s - came_s

    # --- what there is to see -----------------------------------------------------------------------------------------

    def _up(self, path: str) -> bool:
        return bool(self.document) and self.document["paths"][path]["verdict"] == "up"

    def _phones(self) -> int:
        return int(self.document.get("phones", 0))

    def _place(self) -> tuple[str, str]:
        return self.document.get("phase", ""), self.document.get("path", "")

    def _lease(self) -> tuple[float | None, float | None]:
        return site_lease(self.programs.heard())

    # --- going on -----------------------------------------------------------------------------------------------------

    async def _line(self, *, lost: bool) -> None:
        """Cut or mend the primary: its targets fall silent, or answer."""
        self.cut = lost
        for target in site.TARGETS:
            await self.programs.router(op="plane", do="ping", address=target, lost=lost)

    async def _pause(self, pause_s: float) -> None:
        """Let it be looked at; the phones go on meanwhile."""
        end_s = time.monotonic() + pause_s
        await self._until(lambda: time.monotonic() >= end_s, pause_s + START_S, "time")

    async def _until(self, condition: Callable[[], bool], limit_s: float, what: str) -> None:
        """Wait for something while the phones go on; raises DemoFailed where it does not come."""
        end_s = time.monotonic() + limit_s
        while True:
            self.programs.check()
            self.document = await self.programs.status()
            if condition():
                return
            if time.monotonic() > end_s:
                raise DemoFailed(f"missing after {limit_s:.0f} s: {what}. The agent: {self.programs.tail('agent')}")
            if self.phones is not None:
                await self._phones_step(self.phones)
            await asyncio.sleep(STEP_S)

    async def _phones_step(self, phones: Phones) -> None:
        router = self.programs.router
        connections = (await router(op="rows", menu="/ip/firewall/connection"))["rows"]
        lists = (await router(op="rows", menu=LIST))["rows"]
        traffic = phones.step(time.monotonic(), connections, lists, cut=self.cut)
        await router(op="plane", do="traffic", **traffic)

    @staticmethod
    async def _within(limit_s: float, what: str, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(limit_s):
                return await work
        except TimeoutError:
            raise DemoFailed(f"missing after {limit_s:.0f} s: {what}") from None

    def tell(self, text: str) -> None:
        """A line between those of the view; on a terminal the view has the floor."""
        if not self.on_terminal:
            say(f"-- {text}")


def site_lease(events: list[dict[str, Any]]) -> tuple[float | None, float | None]:
    """When the router took the site's lease, and when it was given back, by its own log and clock.

    A sentence that was refused takes nothing, and a lease that lapsed was not given back.
    """
    came_s = went_s = None
    words: dict[tuple[int, int], list[str]] = {}
    row_id = ""
    for event in events:
        key = (event.get("session", 0), event.get("sentence", 0))
        if event["event"] == "sentence":
            words[key] = event["words"]
        elif event["event"] == "reply" and event["outcome"] == "done":
            said = words.get(key, [""])
            if said[0] == f"{LIST}/add" and f"=list={SITE_LEASE}" in said and came_s is None:
                came_s, row_id = event["t"], event["ret"]
            elif said[0] == f"{LIST}/remove" and row_id in said[1].removeprefix("=.id=").split(","):
                went_s = event["t"]
    return came_s, went_s


def say(text: str) -> None:
    """A line for whoever looks on."""
    print(text, flush=True)


def letter(mail: Mail) -> str:
    """A mail as it is read."""
    return f"To: {', '.join(mail.to)}\nSubject: {mail.subject}\n\n{mail.text.strip()}\n"


async def play(version: str, *, keep: bool, refuse_mail: bool) -> bool:
    """Run the demo; whether it succeeded. Says all it has to say."""
    folder = Path(tempfile.mkdtemp(prefix="edgeagent-demo-"))
    if len(str(folder)) > SOCKET_PATH_MAX:
        shutil.rmtree(folder)
        raise CannotRun(f"the path {folder} is too long for a socket; set TMPDIR to a shorter folder")
    story = Story(folder, version, refuse_mail=refuse_mail)
    try:
        await story.play()
    except DemoFailed as failed:
        say(f"\nDEMO FAILED: {failed}")
        return False
    finally:
        if keep:
            say(f"\nkept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    customer = [mail for mail in story.sink.mails if site.CUSTOMER in mail.to]
    for mail in customer:
        say(f"\n{'-' * 78}\n{letter(mail)}")
    say(f"{'-' * 78}\nand the same for {site.SUPPORT}, in a technician's words.")
    say(f"Voice was on LTE {story.took_s:.1f} s after the cut, for {story.held_s:.0f} s.")
    say(f"All as it should be, in {time.monotonic() - story.began_s:.0f} s.")
    return True

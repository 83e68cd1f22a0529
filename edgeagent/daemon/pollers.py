"""Measuring: rounds of probes on each path, and what the router knows. Everything seen becomes a fact."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from edgeagent.config.site import PathConfig
from edgeagent.core.facts import Fact, Flow, FlowsSeen, LinkChanged, ProbeReplied, RoundSent, UplinkSeen
from edgeagent.core.intents import Probing
from edgeagent.core.settings import FlowSettings
from edgeagent.daemon import survey
from edgeagent.daemon.devices import Devices
from edgeagent.daemon.drift import RowsWatch
from edgeagent.probes.errors import ProbeNotSent
from edgeagent.probes.router_ping import ANSWER_S, RouterPinger
from edgeagent.routeros import uplinks
from edgeagent.routeros.durations import seconds
from edgeagent.routeros.flows import flow
from edgeagent.routeros.sentences import flows_print
from edgeagent.routeros.session import Session

log = logging.getLogger(__name__)
Tell = Callable[[Fact], None]
Now = Callable[[], float]
CONTROL = "control"
LINKS_EVERY_S = 5.0
UPLINKS_EVERY_S = 15.0
FLOWS_MAX = FlowSettings().flows_max  # more would not be learnt from, but kept in the journal
TABLE_S = 15.0  # reading a large table takes a small router seconds


class IcmpSender(Protocol):
    """What a round needs of the ICMP prober."""

    def send(self, target: str, seq: int) -> float:
        """Send one echo, return when; raises ProbeNotSent."""


class SipSender(Protocol):
    """What a round needs of the SIP prober."""

    def send(self) -> int:
        """Send one OPTIONS, return its CSeq; raises ProbeNotSent."""


class Rounds(Protocol):
    """What the loop and the wiring need of a path's rounds, whoever sends them."""

    def order(self, plan: Probing) -> None:
        """Probe like this from now on."""

    def next_round_s(self) -> float:
        """When the next round is due."""

    def close(self) -> None:
        """Send nothing any more."""


class PathPoller:
    """Sends one path's rounds as ordered. A change of the order takes effect at once."""

    def __init__(self, path: PathConfig, router: str, tell: Tell, now: Now) -> None:
        self.path = path
        self.router = router
        self.tell = tell
        self.now = now
        self.icmp: IcmpSender | None = None
        self.sip: SipSender | None = None
        self.control: IcmpSender | None = None
        self.number = 0
        self.sip_rounds: dict[int, int] = {}
        self.plan: Probing | None = None
        self.last_s = float("-inf")
        self.timer: asyncio.TimerHandle | None = None

    def order(self, plan: Probing) -> None:
        """Probe like this from now on."""
        if plan == self.plan:
            return
        self.plan = plan
        self._arm()

    def close(self) -> None:
        """Send nothing any more."""
        if self.timer is not None:
            self.timer.cancel()

    def next_round_s(self) -> float:
        """When the next round is due."""
        return self.last_s + (self.plan.interval_s if self.plan is not None else 0.0)

    def icmp_replied(self, target: str, number: int, _sent_s: float, received_s: float) -> None:
        """An echo of round ``number`` by this path was answered."""
        self.tell(ProbeReplied(self.path.name, number, f"icmp:{target}", received_s))

    def control_replied(self, _target: str, number: int, _sent_s: float, received_s: float) -> None:
        """The router answered on the LAN."""
        self.tell(ProbeReplied(self.path.name, number, CONTROL, received_s))

    def sip_answered(self, cseq: int, _status: int, _sent_s: float, received_s: float) -> None:
        """The registrar answered by this path."""
        number = self.sip_rounds.pop(cseq, None)
        if number is not None:
            self.tell(ProbeReplied(self.path.name, number, "sip:registrar", received_s))

    def _arm(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        assert self.plan is not None  # noqa: S101
        delay_s = max(0.0, self.last_s + self.plan.interval_s - self.now())
        self.timer = asyncio.get_running_loop().call_later(delay_s, self._round)

    def _round(self) -> None:
        assert self.plan is not None  # noqa: S101
        self.number += 1
        self.last_s = self.now()
        sent = [f"icmp:{target}" for target in self.path.targets if self._sent(self.icmp, target)]
        if self.plan.sip_every and self.number % self.plan.sip_every == 0 and self._sip_sent():
            sent.append("sip:registrar")
        control = self._sent(self.control, self.router)
        self.tell(RoundSent(self.path.name, self.number, self.last_s, tuple(sent), control))
        self._arm()

    def _sent(self, prober: IcmpSender | None, target: str) -> bool:
        if prober is None:
            return False
        try:
            prober.send(target, self.number)
        except ProbeNotSent as error:
            log.debug("probe of %s by %s not sent: %s", target, self.path.name, error)
            return False
        return True

    def _sip_sent(self) -> bool:
        if self.sip is None:
            return False
        try:
            cseq = self.sip.send()
        except ProbeNotSent as error:
            log.debug("SIP probe by %s not sent: %s", self.path.name, error)
            return False
        while len(self.sip_rounds) >= 256:
            self.sip_rounds.pop(next(iter(self.sip_rounds)))
        self.sip_rounds[cseq] = self.number
        return True


class PingedPath:
    """One path's rounds out of what the router's own pings say, echo by echo; SIP cannot be probed this way.

    A target's next row begins the next round. The control is the API itself: a row, and be it "timeout", shows that
    the router lives. While no rows come, the rounds have no targets: they say nothing of the line.
    """

    def __init__(self, path: PathConfig, tell: Tell, now: Now) -> None:
        self.path = path
        self.tell = tell
        self.now = now
        self.pinger = RouterPinger(path.source, path.targets, self._echoed, now=now)
        self.number = 0
        self.heard: set[str] = set(path.targets)  # in this round; the first row of all begins a round
        self.plan: Probing | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.expected_s = float("-inf")

    def order(self, plan: Probing) -> None:
        """Probe like this from now on."""
        if plan != self.plan:
            self.plan = plan
            self.pinger.order(plan.interval_s)
            self._expect(plan.interval_s + 2 * ANSWER_S)

    def close(self) -> None:
        """Send nothing any more."""
        self.pinger.close()
        if self.timer is not None:
            self.timer.cancel()

    def next_round_s(self) -> float:
        """When the next round is told, of whatever it says."""
        return self.expected_s

    def _echoed(self, target: str, sent_s: float, answered: bool) -> None:
        name = self.path.name
        if target in self.heard:
            self.number += 1
            self.heard = set()
            self.tell(RoundSent(name, self.number, sent_s, tuple(f"icmp:{one}" for one in self.path.targets)))
            self.tell(ProbeReplied(name, self.number, CONTROL, self.now()))
        self.heard.add(target)
        if answered:
            self.tell(ProbeReplied(name, self.number, f"icmp:{target}", self.now()))
        if self.plan is not None:
            self._expect(self.plan.interval_s + 2 * ANSWER_S)

    def _expect(self, within_s: float) -> None:
        """The next row is due; where none comes, say that nothing is known."""
        if self.timer is not None:
            self.timer.cancel()
        self.expected_s = self.now() + within_s
        self.timer = asyncio.get_running_loop().call_later(within_s, self._silent)

    def _silent(self) -> None:
        assert self.plan is not None  # noqa: S101
        self.number += 1
        self.heard = set(self.path.targets)
        self.tell(RoundSent(self.path.name, self.number, self.now(), (), control=False))
        self._expect(self.plan.interval_s)


class RouterPoller:
    """Reads voice rows, uplink addresses and links from the router, on a connection of its own.

    Reading a large table may take seconds on a small router, and must never stand before a switch.
    """

    def __init__(
        self,
        open_session: Callable[[], Awaitable[Session]],
        paths: tuple[PathConfig, ...],
        marks: tuple[str, ...],
        media_marks: frozenset[str],
        tell: Tell,
        now: Now,
        table_s: float = TABLE_S,
        devices: Devices | None = None,
        rows: RowsWatch | None = None,
    ) -> None:
        self.open_session = open_session
        self.paths = paths
        self.devices = devices
        self.rows = rows
        self.marks = marks
        self.media_marks = media_marks
        self.tell = tell
        self.now = now
        self.table_s = table_s
        self.every_s = 10.0
        self.keep_devices = False
        self.changed = asyncio.Event()
        if rows is not None:
            rows.wake = self.changed.set
        self.links: dict[str, bool] = {}
        self.udp_timeout_s: float | None = None

    def order(self, flows_every_s: float, *, keep_devices: bool) -> None:
        """Read the voice rows so often from now on; write voice devices down, or do not."""
        if keep_devices and not self.keep_devices:
            self.changed.set()
        self.keep_devices = keep_devices
        if flows_every_s != self.every_s:
            self.every_s = flows_every_s
            self.changed.set()

    async def run(self) -> None:
        """Read until the connection fails; raises RouterError."""
        session = await self.open_session()
        try:
            await self._read_forever(session)
        finally:
            if self.rows is not None:
                await self.rows.leave()
            await session.close()

    async def _read_forever(self, session: Session) -> None:
        read_s = links_s = uplinks_s = devices_s = float("-inf")
        while True:
            if self.now() - uplinks_s >= UPLINKS_EVERY_S:
                uplinks_s = self.now()
                await self._read_uplinks(session)
            if self.devices is not None and self.keep_devices and self.now() - devices_s >= UPLINKS_EVERY_S:
                devices_s = self.now()
                await self.devices.refresh(session)
            if self.now() - links_s >= LINKS_EVERY_S:
                links_s = self.now()
                await self._read_links(session)
            if self.now() - read_s >= self.every_s:
                read_s = self.now()
                await self._read_flows(session)
            if self.rows is not None and self.rows.due_s() <= self.now():
                await self.rows.step(session)  # after all that is due: it may take a while until all rows are read
            self.changed.clear()
            due_s = min(read_s + self.every_s, links_s + LINKS_EVERY_S, uplinks_s + UPLINKS_EVERY_S)
            if self.devices is not None and self.keep_devices:
                due_s = min(due_s, devices_s + UPLINKS_EVERY_S)
            due_s = due_s if self.rows is None else min(due_s, self.rows.due_s())
            try:
                async with asyncio.timeout(max(0.0, due_s - self.now())):
                    await self.changed.wait()
            except TimeoutError:
                continue

    async def _read_uplinks(self, session: Session) -> None:
        rows = await session.print("/ip/address", uplinks.FIELDS)
        hops = await survey.next_hops(session, self.paths)
        for path in self.paths:
            address = uplinks.address_beside(rows, path.interface, hops[path.name])
            self.tell(UplinkSeen(path.name, address, self.now()))
        tracking = await session.print("/ip/firewall/connection/tracking", ("udp-stream-timeout",))
        self.udp_timeout_s = seconds(tracking[0].get("udp-stream-timeout", "")) if tracking else None

    async def _read_links(self, session: Session) -> None:
        asked_s = self.now()
        for row in await session.print("/interface", ("name", "running")):
            self.link_seen(row, asked_s)

    def link_seen(self, row: dict[str, str], at_s: float) -> None:
        """One row of /interface, read or announced by ``listen``."""
        path = next((path for path in self.paths if path.interface == row.get("name")), None)
        if path is None or "running" not in row:
            return
        up = row["running"] in ("true", "yes")
        if self.links.get(path.name) != up:
            self.links[path.name] = up
            self.tell(LinkChanged(path.name, up, at_s))

    async def _read_flows(self, session: Session) -> None:
        asked_s = self.now()
        rows = await session.send(flows_print(self.marks), deadline_s=self.table_s)
        flows = tuple(_flows(rows, self.udp_timeout_s, self.media_marks)[:FLOWS_MAX])
        self.tell(FlowsSeen(flows, asked_s, self.now()))
        if self.devices is not None:
            self.devices.seen(flows)


def _flows(rows: list[dict[str, str]], udp_timeout_s: float | None, media_marks: frozenset[str]) -> list[Flow]:
    found = (flow(row, udp_timeout_s, media_marks) for row in rows)
    return [one for one in found if one is not None]
